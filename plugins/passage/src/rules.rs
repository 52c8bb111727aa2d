//! The rules of a host, of every backend, in one shape: tables of chains of rules, each rule a row of
//! conditions and what follows. What cannot be read keeps its name, so that no reader has to guess.

mod iptables;
mod nft;
mod words;

#[cfg(test)]
pub(crate) use iptables::parse as parse_save;
#[cfg(test)]
pub(crate) use nft::parse as parse_nft;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use pontoon_netlink::IpNetwork;
use serde::Serialize;

use crate::error::Error;

/// Where packets meet rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// All that comes in by an interface.
    Prerouting,
    /// What is for this host.
    Input,
    /// What passes through this host.
    Forward,
    /// What this host sends.
    Output,
    /// All that goes out by an interface.
    Postrouting,
}

/// All rules.
#[derive(Debug, Default)]
pub struct Rules {
    /// In no order.
    pub tables: Vec<Table>,
    /// What could not be read at all, by name.
    pub unread: Vec<String>,
}

/// A table of nftables, or of one variant and family of iptables.
#[derive(Debug, Default)]
pub struct Table {
    /// `inet pontoon`, `iptables-legacy nat`.
    pub name: String,
    /// IPv4 packets meet it.
    pub v4: bool,
    /// IPv6 packets meet it.
    pub v6: bool,
    /// Frames on a bridge meet it.
    pub bridge: bool,
    /// By name.
    pub chains: BTreeMap<String, Chain>,
    /// Members of its sets and maps, by name.
    pub sets: BTreeMap<String, Vec<Element>>,
}

/// A chain of a table.
#[derive(Debug, Default)]
pub struct Chain {
    /// Of a base chain: where the kernel enters it.
    pub base: Option<Base>,
    /// In their order.
    pub rules: Vec<Rule>,
}

/// A chain that the kernel enters by itself.
#[derive(Debug)]
pub struct Base {
    /// Where packets come from.
    pub hook: Hook,
    /// Lower ones come first.
    pub priority: i64,
    /// It rewrites addresses, and only the first packet of a flow passes it.
    pub nat: bool,
    /// Its policy is to drop.
    pub drops: bool,
}

/// A rule of a chain.
#[derive(Debug)]
pub struct Rule {
    /// Its number in the kernel, where it has one.
    pub handle: Option<u64>,
    /// As its tool shows it.
    pub text: String,
    /// Its comment.
    pub owner: Option<String>,
    /// The command that removes it.
    pub remove: String,
    pub(crate) statements: Vec<Statement>,
}

/// A member of a set, or a key of a map and what it leads to.
#[derive(Debug)]
pub struct Element {
    /// The key in words.
    pub text: String,
    pub(crate) key: Vec<Pattern>,
    pub(crate) leads: Option<RuleAction>,
    /// Its comment.
    pub owner: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) enum RuleAction {
    Verdict(Verdict),
    Target(Target),
    Unknown(String),
}

#[derive(Debug)]
pub(crate) enum Statement {
    When(Condition),
    Verdict(Verdict),
    VerdictMap(Vec<Field>, Members),
    Dnat(Rewrite),
    Snat(Rewrite),
    Masquerade,
    /// To this host, on this port.
    Redirect(Option<u16>),
    /// `mark = (mark & and) ^ xor`.
    Mark {
        and: u64,
        xor: u64,
    },
    /// Counts or logs: of no consequence.
    Note,
    Unknown(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    Drop,
    Reject,
    Return,
    Continue,
    Jump(String),
    Goto(String),
}

/// An address and a port to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: Option<u16>,
}

#[derive(Debug)]
pub(crate) enum Rewrite {
    To(Target),
    Map(Vec<Field>, Members),
}

#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) fields: Vec<Field>,
    pub(crate) members: Members,
    pub(crate) negated: bool,
}

/// What a value may be.
#[derive(Debug)]
pub(crate) enum Members {
    /// Of a set or map of the table.
    Named(String),
    Inline(Vec<Element>),
}

/// What of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Field {
    Family,
    InInterface,
    OutInterface,
    /// The port of the bridge that it came in by, or goes out by.
    InPort,
    OutPort,
    Source,
    Destination,
    /// The same of one family only.
    Source4,
    Source6,
    Destination4,
    Destination6,
    Protocol,
    SourcePort,
    DestinationPort,
    IcmpType,
    Mark(u64),
    /// State and status of its flow: `new`, `dnat`.
    Flow,
    SourceType,
    DestinationType,
    PacketType,
    Unknown(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Word(String),
    Number(u64),
    Address(IpAddr),
}

#[derive(Debug, Clone)]
pub(crate) enum Pattern {
    Any,
    Is(Value),
    Begins(String),
    Net(IpNetwork),
    Range(Value, Value),
    OneOf(Vec<Pattern>),
    Unknown(String),
}

impl Condition {
    /// One field that is one of these.
    pub(crate) fn of(field: Field, patterns: Vec<Pattern>, negated: bool) -> Self {
        Self {
            fields: vec![field],
            members: Members::Inline(vec![Element {
                text: String::new(),
                key: vec![Pattern::OneOf(patterns)],
                leads: None,
                owner: None,
            }]),
            negated,
        }
    }
}

impl Rules {
    /// The backend that has rules and no program to list them, in words.
    #[must_use]
    pub fn lacking(&self) -> Option<String> {
        let mut unread = self.unread.iter();
        unread.find(|what| what.contains("there is no ")).cloned()
    }

    /// Reads those of the calling thread's namespace.
    ///
    /// # Errors
    /// `nft` is there and fails, or prints what is not its JSON. A program that is missing is no error: what
    /// only it could list is named in `unread`.
    pub fn read() -> Result<Self, Error> {
        Self::read_by(&[])
    }

    /// The same by programs that are looked for in these directories first, then as the system does.
    ///
    /// # Errors
    /// As [`Rules::read`].
    pub fn read_by(search: &[PathBuf]) -> Result<Self, Error> {
        match Self::read_as_far(search) {
            (rules, None) => Ok(rules),
            (_, Some(error)) => Err(error),
        }
    }

    /// As [`Rules::read_by`]; where nftables' rules cannot be read, those of iptables alone, and why.
    #[must_use]
    pub fn read_as_far(search: &[PathBuf]) -> (Self, Option<Error>) {
        let mut rules = Self::default();
        let shown = iptables::read(&mut rules, search);
        let failure = nft::read(&mut rules, &shown, search).err();
        (rules, failure)
    }
}

impl Rules {
    /// Replaces the texts of nftables' rules, made from its JSON, by those of `nft -a list ruleset`: what is read
    /// can be found there again. One program more.
    ///
    /// # Errors
    /// The program says no.
    pub fn in_own_words(&mut self) -> Result<(), Error> {
        nft::texts(self)
    }

    /// What a table of nftables is called here: one of iptables-nft by the tool that shows it.
    #[must_use]
    pub fn table_name(&self, family: &str, table: &str) -> String {
        let name = format!("{family} {table}");
        let shown = iptables::shown_as(family, table);
        let known = |name: &String| self.tables.iter().any(|one| one.name == *name);
        shown.filter(known).unwrap_or(name)
    }

    /// The rule of this number, of a chain of a table of nftables: `ip`, `filter`.
    #[must_use]
    pub fn by_handle(&self, family: &str, table: &str, chain: &str, handle: u64) -> Option<&Rule> {
        let name = format!("{family} {table}");
        // The nft variant of iptables has such tables too.
        let shown = iptables::shown_as(family, table);
        let mut tables = self.tables.iter();
        let table = tables.find(|one| one.name == name || Some(&one.name) == shown.as_ref())?;
        let mut rules = table.chains.get(chain)?.rules.iter();
        rules.find(|rule| rule.handle == Some(handle))
    }
}

/// The path of a program in the first of these directories that has it, or its name.
fn program(name: &str, search: &[PathBuf]) -> PathBuf {
    let mut paths = search.iter().map(|dir| dir.join(name));
    paths
        .find(|path| path.is_file())
        .unwrap_or_else(|| name.into())
}

impl Hook {
    /// All of them, in the order that a forwarded packet could meet them.
    pub const ALL: [Self; 5] = [
        Self::Prerouting,
        Self::Input,
        Self::Forward,
        Self::Output,
        Self::Postrouting,
    ];

    /// As nftables calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
        }
    }

    fn by_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        Self::ALL.into_iter().find(|hook| hook.name() == name)
    }
}
