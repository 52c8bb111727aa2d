//! A trace for a person.

use pontoon_passage::Step;

use super::Report;
use super::probe::Answer;
use super::walk::{End, Verdict};
use crate::report::Style;

pub(super) fn text(report: &Report) -> String {
    let style = Style::of_stdout();
    let mut text = format!("{}\n", style.bold(&report.question));
    text += &way(&report.steps, style);
    for what in &report.cannot_tell {
        text += &format!("{} {what}\n", style.bad("cannot tell:"));
    }
    text += &format!("verdict: {}\n", verdict(&report.end, style));
    if let Some(live) = &report.live {
        text += &format!("\n{} {}\n", style.bold("live:"), live.sent);
        text += &way(&live.steps, style);
        text += &format!("verdict: {}\n", verdict(&live.end, style));
        text += match live.answer {
            Some(Answer::Answered) => "answer: yes\n",
            Some(Answer::Refused) => "answer: refused, nobody listens there\n",
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

fn verdict(end: &End, style: Style) -> String {
    let word = match end.verdict {
        Verdict::Arrives => style.good(end.verdict.word()),
        _ => style.bad(end.verdict.word()),
    };
    format!("{word}: {}", end.reason)
}

fn way(steps: &[Step], style: Style) -> String {
    let mut text = String::new();
    let mut at = "";
    for step in steps {
        if step.at != at {
            text += &format!("{}\n", style.bold(&step.at));
            at = &step.at;
        }
        let chain = step.chain.as_ref();
        let chain = chain.map_or(String::new(), |chain| format!("{chain}: "));
        text += &format!("  {chain}{}\n", step.what);
        if let Some(owner) = &step.owner {
            text += &format!("    of: {owner}\n");
        }
        if let Some(effect) = &step.effect {
            text += &format!("    -> {effect}\n");
        }
    }
    text
}
