//! Extra matches of a published port, in nft's words.
//!
//! Understood are `ip saddr`, `ip daddr`, `ip6 saddr`, `ip6 daddr` with an address or subnet,
//! `iifname` and `oifname` with a name, `meta mark` with a number, and `tcp sport`, `udp sport`
//! with a port, each with an optional `!=` or `==` before the value. Everything else, iptables
//! arguments above all, is refused by name.

use ipnetwork::IpNetwork;

use super::error::Error;
use super::expression::{Base, Compare, Meta, Rule};
use crate::interface::interface;
use crate::protocol::Protocol;

const KNOWN: &str = "ip|ip6 saddr|daddr [!=] SUBNET, iifname|oifname [!=] \"NAME\", \
                     meta mark [!=] NUMBER, tcp|udp sport [!=] PORT";

/// One match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    Address {
        source: bool,
        differs: bool,
        subnet: IpNetwork,
    },
    Interface {
        output: bool,
        differs: bool,
        name: String,
    },
    Mark {
        differs: bool,
        mark: u32,
    },
    SourcePort {
        protocol: Protocol,
        differs: bool,
        port: u16,
    },
}

impl Default for Condition {
    /// A stand-in for conditions whose contents do not matter.
    fn default() -> Self {
        Self::Mark {
            differs: false,
            mark: 0,
        }
    }
}

/// Reads the arguments of a configuration: one word each or several, it makes no difference.
pub(super) fn parse(arguments: &[String], v6: bool) -> Result<Vec<Condition>, Error> {
    let mut words = arguments
        .iter()
        .flat_map(|argument| argument.split_whitespace())
        .peekable();
    let mut conditions = Vec::new();
    while let Some(word) = words.next() {
        let kind = match word {
            "ip" | "ip6" | "meta" | "tcp" | "udp" => {
                let second = words.next().ok_or_else(|| refuse(word))?;
                (word, second)
            }
            word => (word, ""),
        };
        let differs = match words.peek() {
            Some(&"!=") => words.next().is_some(),
            Some(&"==") => words.next().is_none(),
            _ => false,
        };
        // A match that is not known is named before the lack of a value.
        if !known(kind, v6) {
            return Err(refuse(&format!("{} {}", kind.0, kind.1)));
        }
        let value = words.next().ok_or_else(|| refuse(word))?;
        conditions.push(match kind {
            ("ip" | "ip6", field) => Condition::Address {
                source: field == "saddr",
                differs,
                subnet: value
                    .parse()
                    .ok()
                    .filter(|subnet: &IpNetwork| subnet.is_ipv6() == v6)
                    .ok_or_else(|| refuse(value))?,
            },
            ("meta", _) => Condition::Mark {
                differs,
                mark: number(value)?,
            },
            ("tcp", _) => Condition::SourcePort {
                protocol: Protocol::Tcp,
                differs,
                port: value.parse().map_err(|_| refuse(value))?,
            },
            ("udp", _) => Condition::SourcePort {
                protocol: Protocol::Udp,
                differs,
                port: value.parse().map_err(|_| refuse(value))?,
            },
            (key, _) => {
                let name = value.trim_matches('"').to_owned();
                interface(&name)?;
                Condition::Interface {
                    output: key == "oifname",
                    differs,
                    name,
                }
            }
        });
    }
    Ok(conditions)
}

fn known(kind: (&str, &str), v6: bool) -> bool {
    match kind {
        ("ip", "saddr" | "daddr") => !v6,
        ("ip6", "saddr" | "daddr") => v6,
        ("iifname" | "oifname", "") | ("meta", "mark") | ("tcp" | "udp", "sport") => true,
        _ => false,
    }
}

fn number(value: &str) -> Result<u32, Error> {
    match value.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => value.parse(),
    }
    .map_err(|_| refuse(value))
}

fn refuse(word: &str) -> Error {
    Error::Condition {
        word: word.trim_end().to_owned(),
        known: KNOWN,
    }
}

impl Condition {
    /// Adds the match to a rule.
    pub(super) fn apply(&self, rule: Rule) -> Rule {
        let compare = |differs: bool| {
            if differs {
                Compare::Differs
            } else {
                Compare::Equal
            }
        };
        match self {
            Self::Address {
                source,
                differs,
                subnet,
            } => rule.address(*source, compare(*differs), *subnet),
            Self::Interface {
                output,
                differs,
                name,
            } => {
                let key = if *output {
                    Meta::OutputName
                } else {
                    Meta::InputName
                };
                rule.named(key, compare(*differs), name)
            }
            Self::Mark { differs, mark } => rule
                .meta(Meta::Mark)
                .compare(compare(*differs), &mark.to_ne_bytes()),
            Self::SourcePort {
                protocol,
                differs,
                port,
            } => rule
                .meta(Meta::Transport)
                .compare(Compare::Equal, &[protocol.number()])
                .payload(Base::Transport, 0, 2)
                .compare(compare(*differs), &port.to_be_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(arguments: &[&str], expected: &[Condition]) {
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        assert_eq!(parse(&arguments, false).ok().as_deref(), Some(expected));
    }

    #[track_caller]
    fn check_refused(argument: &str, expected: &str) {
        match parse(&[argument.to_owned()], false) {
            Err(Error::Condition { word, .. }) => assert_eq!(word, expected),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn words_and_sentences() {
        let subnet = Condition::Address {
            source: true,
            differs: true,
            subnet: "10.0.0.0/8".parse().unwrap(),
        };
        check(
            &["ip", "saddr", "!=", "10.0.0.0/8"],
            std::slice::from_ref(&subnet),
        );
        let input = Condition::Interface {
            output: false,
            differs: false,
            name: "eth0".to_owned(),
        };
        check(
            &["ip saddr != 10.0.0.0/8 iifname \"eth0\""],
            &[subnet, input],
        );
        check(
            &["meta mark 0x10"],
            &[Condition::Mark {
                differs: false,
                mark: 16,
            }],
        );
        let port = Condition::SourcePort {
            protocol: Protocol::Udp,
            differs: false,
            port: 53,
        };
        check(&["udp sport == 53"], &[port]);
        check(&[], &[]);
    }

    #[test]
    fn what_is_not_known_is_named() {
        check_refused("-s 10.0.0.0/8", "-s");
        check_refused("ip6 saddr fd00::/8", "ip6 saddr");
        check_refused("ip saddr fd00::/8", "fd00::/8");
        check_refused("ip saddr", "ip");
        check_refused("tcp dport 80", "tcp dport");
        check_refused("meta mark many", "many");
    }
}
