//! Chains of iptables-nft and their rules, asked of the kernel directly: for the iptables backend's
//! quick checks. Comments, jumps and marks are read, not all matches.

use pontoon_netlink::attr::Attr;
use pontoon_netlink::{Errno, NetfilterSocket, Reply};

use super::element::comment;
use super::message::{Family, ask_chain, kind};
use super::uapi::*;

/// What is read of a rule.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct RuleSummary {
    /// A rule may have several comments.
    pub(crate) comments: Vec<String>,
    /// The chain that it jumps to.
    pub(crate) jump: Option<String>,
    /// The 32-bit values that it compares with or sets as a mark.
    pub(crate) numbers: Vec<u32>,
}

impl RuleSummary {
    pub(crate) fn has_comment(&self, comment: &str) -> bool {
        self.comments.iter().any(|found| found == comment)
    }

    pub(crate) fn jumps_to(&self, chain: &str) -> bool {
        self.jump.as_deref() == Some(chain)
    }
}

/// A socket for such questions. Every answer is `None` when the kernel does not give one.
pub(crate) struct ChainLookup {
    family: Family,
    socket: NetfilterSocket,
}

impl ChainLookup {
    pub(crate) fn open(v4: bool) -> Option<Self> {
        Some(Self {
            family: if v4 { Family::Ipv4 } else { Family::Ipv6 },
            socket: NetfilterSocket::open_for_questions().ok()?,
        })
    }

    /// Whether there is a chain of this name.
    pub(crate) fn has_chain(&mut self, table: &str, chain: &str) -> Option<bool> {
        let family = self.family;
        let ask = |frames: &mut _, _| ask_chain(frames, family, table, chain);
        match self.socket.questions(1, ask).ok()?.into_iter().next()? {
            Ok(_) => Some(true),
            Err(failure) => (failure.errno == Errno::ENOENT).then_some(false),
        }
    }

    /// The rules of one chain: none when it is missing.
    pub(crate) fn rules(&mut self, table: &str, chain: &str) -> Option<Vec<RuleSummary>> {
        let header = self.family.header();
        let rules = self.socket.dump(kind(NFT_MSG_GETRULE), &header, |filter| {
            filter.cstr(NFTA_RULE_TABLE, table);
            filter.cstr(NFTA_RULE_CHAIN, chain);
        });
        Some(rules.ok()?.iter().map(summary).collect())
    }
}

pub(super) fn summary(rule: &Reply) -> RuleSummary {
    let mut summary = RuleSummary::default();
    if let Some(expressions) = rule.attrs().get(NFTA_RULE_EXPRESSIONS) {
        for expression in expressions.nested() {
            read_expression(expression, &mut summary);
        }
    }
    let user_data = rule.attrs().get(NFTA_RULE_USERDATA);
    summary.comments.extend(user_data.and_then(comment));
    summary
}

fn read_expression(expression: Attr<'_>, summary: &mut RuleSummary) {
    let name = expression.nested().get(NFTA_EXPR_NAME);
    let (Some(name), Some(data)) = (name, expression.nested().get(NFTA_EXPR_DATA)) else {
        return;
    };
    // The name of an extension of xtables, and what it was given.
    let extension = || data.nested().get(NFTA_MATCH_NAME).map(|name| name.text());
    let info = || data.nested().get(NFTA_MATCH_INFO);
    match name.text().as_str() {
        "immediate" => {
            let path = [NFTA_IMMEDIATE_DATA, NFTA_DATA_VERDICT, NFTA_VERDICT_CHAIN];
            summary.jump = data.nested().path(path).map(|chain| chain.text());
        }
        "cmp" => {
            let value = data.nested().path([NFTA_CMP_DATA, NFTA_DATA_VALUE]);
            summary.numbers.extend(value.and_then(|value| value.u32()));
        }
        "match" if extension().as_deref() == Some("comment") => {
            summary.comments.extend(info().map(|info| info.text()));
        }
        // `xt_mark_mtinfo1` and `xt_mark_tginfo2` both begin with the mark.
        "match" | "target" if matches!(extension().as_deref(), Some("mark" | "MARK")) => {
            summary.numbers.extend(info().and_then(|info| info.u32()));
        }
        _ => {}
    }
}
