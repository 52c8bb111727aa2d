//! Words, rules and scripts in the syntax of `iptables-restore`. Everything that comes from
//! outside becomes text here and nowhere else, after a check that it cannot end its own word.

use std::fmt;
use std::net::IpAddr;

use super::error::TextError;
use crate::digest::sha512_hex;

/// Restore reads a line into a buffer of 10 KiB, of at most 255 words.
const LINE_MAX: usize = 10_000;
const WORDS_MAX: usize = 128;
/// `XT_EXTENSION_MAXNAMELEN` without its terminating zero.
const CHAIN_MAX: usize = 28;

/// An address family: each has its own tables and its own programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub(super) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }
}

impl Family {
    /// Prefix length of a single address.
    pub(super) fn address_bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The tables we write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Filter,
    Nat,
    Raw,
}

impl Table {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Raw => "raw",
        }
    }
}

/// One rule: its chain and what follows, in the order in which `iptables -S` prints it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) chain: String,
    pub(super) spec: String,
}

impl Rule {
    pub(super) fn new(chain: impl Into<String>, spec: impl Into<String>) -> Self {
        Self {
            chain: chain.into(),
            spec: spec.into(),
        }
    }

    pub(super) fn check(&self) -> String {
        format!("-C {} {}", self.chain, self.spec)
    }

    pub(super) fn append(&self) -> String {
        format!("-A {} {}", self.chain, self.spec)
    }

    pub(super) fn insert(&self) -> String {
        format!("-I {} {}", self.chain, self.spec)
    }

    /// As the rule of this number, from 1.
    pub(super) fn insert_at(&self, place: usize) -> String {
        format!("-I {} {place} {}", self.chain, self.spec)
    }

    pub(super) fn delete(&self) -> String {
        format!("-D {} {}", self.chain, self.spec)
    }
}

/// Eight hex digits that stand for a name and the text of its rules, in a comment.
pub(super) fn digest_of<'a>(name: &str, rules: impl Iterator<Item = &'a Rule>) -> String {
    let mut text = name.to_owned();
    for rule in rules {
        text.push('\n');
        text.push_str(&rule.append());
    }
    sha512_hex(&[&text], 8)
}

/// The input of one restore: the tables in order, each atomic. A failing line of an earlier table
/// keeps the later ones from being touched.
pub(super) fn script(tables: &[(Table, Vec<String>)]) -> String {
    let mut text = String::new();
    for (table, lines) in tables.iter().filter(|(_, lines)| !lines.is_empty()) {
        text.push('*');
        text.push_str(table.name());
        text.push('\n');
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str("COMMIT\n");
    }
    text
}

/// `-m comment --comment "…"`. Restore undoes exactly these two escapes inside quotes.
pub(super) fn comment(text: &str) -> String {
    format!("-m comment --comment {}", quoted(text))
}

/// `text` as one word. The caller has checked that it holds no control character.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A name that goes into a comment: printable ASCII, without blanks, quotes and backslashes.
pub(super) fn name<'a>(what: &'static str, value: &'a str) -> Result<&'a str, TextError> {
    if value.bytes().all(plain) {
        return Ok(value);
    }
    Err(TextError::Name {
        what,
        value: value.to_owned(),
    })
}

/// A chain of another program that a rule jumps to.
pub(super) fn chain(value: &str) -> Result<&str, TextError> {
    let sound = (1..=CHAIN_MAX).contains(&value.len())
        && value.bytes().all(plain)
        && !value.starts_with(['!', '-']);
    if sound {
        Ok(value)
    } else {
        Err(TextError::Chain {
            value: value.to_owned(),
        })
    }
}

/// The administrator's own match arguments, each quoted as one word. They may match what they
/// like; they may not choose another command, table, chain or target.
pub(super) fn conditions(words: &[String]) -> Result<String, TextError> {
    let mut text = String::new();
    for word in words {
        let sound = !word.is_empty()
            && word.bytes().all(|byte| byte == b' ' || plain(byte))
            && !commands(word);
        if !sound {
            return Err(TextError::Condition {
                value: word.clone(),
            });
        }
        text.push(' ');
        text.push_str(&quoted(word));
    }
    if words.len() > WORDS_MAX || text.len() > LINE_MAX {
        return Err(TextError::TooLong {
            words: words.len(),
            bytes: text.len(),
        });
    }
    Ok(text)
}

/// Options that would make another command of the line. Long options may be shortened as long as
/// they are unambiguous, so a prefix counts; one-letter options may carry their value or be
/// bundled, so their first letter counts.
fn commands(word: &str) -> bool {
    const LONG: [&str; 17] = [
        "append",
        "check",
        "delete",
        "insert",
        "replace",
        "list",
        "list-rules",
        "flush",
        "zero",
        "new-chain",
        "delete-chain",
        "policy",
        "rename-chain",
        "table",
        "jump",
        "goto",
        "set-counters",
    ];
    if let Some(option) = word.strip_prefix("--") {
        let option = option.split('=').next().unwrap_or(option);
        return option.is_empty() || LONG.iter().any(|long| long.starts_with(option));
    }
    word.strip_prefix('-')
        .and_then(|rest| rest.chars().next())
        .is_some_and(|letter| {
            matches!(
                letter,
                'A' | 'C'
                    | 'D'
                    | 'I'
                    | 'R'
                    | 'L'
                    | 'S'
                    | 'F'
                    | 'Z'
                    | 'N'
                    | 'X'
                    | 'P'
                    | 'E'
                    | 't'
                    | 'j'
                    | 'g'
                    | 'c'
            )
        })
}

fn plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\')
}
