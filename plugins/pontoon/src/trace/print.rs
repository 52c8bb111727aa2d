//! A trace for a person: where it comes in, what is rewritten, where it goes out, and the verdict; each rule
//! on the way only when asked.

use pontoon_passage::Step;

use super::Report;
use super::path_end::{End, Verdict};
use super::probe::Answer;
use super::reply::{Reply, ReplyOutcome};
use crate::report::Style;

pub(super) fn text(report: &Report, verbose: bool) -> String {
    let style = Style::of_stdout();
    let mut text = format!("{}\n", style.bold(&report.question));
    text += &match verbose {
        true => rules(&report.steps, style),
        false => way(&report.steps),
    };
    for what in &report.cannot_tell {
        text += &format!("{} {what}\n", style.bad("cannot tell:"));
    }
    text += &format!(
        "verdict: {}\n",
        verdict(&report.end, report.reply.as_ref(), style)
    );
    if let Some(live) = &report.live {
        text += &format!("\n{} {}\n", style.bold("live:"), live.sent);
        if verbose {
            text += &rules(&live.steps, style);
        }
        text += &format!("verdict: {}\n", verdict(&live.end, None, style));
        text += match live.answer {
            Some(Answer::Answered) => "answer: yes\n",
            Some(Answer::Refused) => "answer: refused, no process listens there\n",
            Some(Answer::None) => "answer: none\n",
            None => "",
        };
        for difference in &live.differences {
            text += &format!("{} {difference}\n", style.bad("differs:"));
        }
        if live.differences.is_empty() {
            text += &format!("{}\n", style.good("as predicted"));
        }
    }
    text
}

fn verdict(end: &End, reply: Option<&Reply>, style: Style) -> String {
    let word = match end.verdict {
        Verdict::Arrives => style.good(end.verdict.word()),
        _ => style.bad(end.verdict.word()),
    };
    let so = match end.reason.starts_with("by ") {
        true => format!("{word} {}", end.reason),
        false => format!("{word}: {}", end.reason),
    };
    match reply {
        Some(Reply {
            fate: ReplyOutcome::Lost,
            reason,
        }) => {
            format!("{so}, but {}: {reason}", style.bad("the reply is lost"))
        }
        Some(Reply {
            fate: ReplyOutcome::ComesBack,
            reason,
        }) => format!("{so}; {reason}"),
        Some(Reply {
            fate: ReplyOutcome::CannotTell,
            reason,
        }) => format!("{so}; the reply: {reason}"),
        None => so,
    }
}

/// Where it comes from, what is rewritten by whose rule, and where it goes: a line each.
fn way(steps: &[Step]) -> String {
    let mut text = String::new();
    let plain = steps.iter().filter(|step| step.chain.is_none());
    let words: Vec<&str> = plain.map(|step| step.what.as_str()).collect();
    if !words.is_empty() {
        text += &format!("way: {}\n", words.join("; "));
    }
    let mut rewritten: Vec<String> = Vec::new();
    for step in steps {
        let becomes = step
            .effect
            .as_deref()
            .filter(|effect| effect.contains(" becomes "));
        if let Some(effect) = becomes {
            let owner = step
                .owner
                .as_ref()
                .map_or(String::new(), |owner| format!(" ({owner})"));
            rewritten.push(format!("{effect}{owner}"));
        }
    }
    if !rewritten.is_empty() {
        text += &format!("rewritten: {}\n", rewritten.join("; "));
    }
    text
}

/// Hook by hook, each rule as its tool prints it.
fn rules(steps: &[Step], style: Style) -> String {
    let mut text = String::new();
    let mut at = "";
    for step in steps {
        if step.at != at {
            text += &format!("{}\n", style.bold(&step.at));
            at = &step.at;
        }
        let (table, chain) = match &step.chain {
            Some(chain) => chain.split_once(", chain ").unwrap_or((chain, "")),
            None => ("", ""),
        };
        // iptables' text begins with the chain.
        let place = match step.what.starts_with("-A ") {
            _ if step.chain.is_none() => String::new(),
            true => format!("{table}: "),
            false => format!("{table} {chain}: "),
        };
        let handle = step
            .handle
            .map_or(String::new(), |handle| format!(" # handle {handle}"));
        text += &format!("  {place}{}{handle}\n", step.what);
        if let Some(owner) = step
            .owner
            .as_ref()
            .filter(|owner| !step.what.contains(owner.as_str()))
        {
            text += &format!("    of: {owner}\n");
        }
        if let Some(effect) = &step.effect {
            text += &format!("    -> {effect}\n");
        }
    }
    text
}
