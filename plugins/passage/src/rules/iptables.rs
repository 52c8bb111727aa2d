//! iptables' rules, of both variants and families, from what their `-save` programs print.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pontoon_netfilter::iptables::{Iptables, Listing, Variant, legacy_tables};
use pontoon_netlink::{IpNetwork, run_program};

use super::{
    Base, Condition, Field, Hook, Pattern, Rewrite, Rule, Rules, Statement, Table, Target, Value,
    Verdict,
};
use super::{program, words};

/// Reads all of them; the nftables tables that the nft variant has shown, by name.
pub(super) fn read(rules: &mut Rules, search: &[PathBuf]) -> Vec<String> {
    let mut shown = Vec::new();
    for (family, v4) in [("ip", true), ("ip6", false)] {
        for (variant, word) in [(Variant::Nft, "nft"), (Variant::Legacy, "legacy")] {
            let there = || legacy_tables(v4).is_some_and(|tables| !tables.is_empty());
            if variant == Variant::Legacy && !there() {
                continue;
            }
            let tool = format!("{family}tables-{word}");
            let named = save(&program(&format!("{tool}-save"), search));
            // Older and smaller distributions have one variant only, under the plain names.
            let plain = || match Iptables::detect(search, Some(variant)) {
                Ok(detected) => match detected.and_then(|detected| detected.save(v4)) {
                    Some(program) => save(&program),
                    None => Ok(None),
                },
                Err(error) => Err(error.to_string()),
            };
            let read = match named {
                Ok(None) => plain(),
                named => named,
            };
            let text = match read {
                Ok(Some(text)) => text,
                Ok(None) if variant == Variant::Nft => continue,
                Ok(None) => {
                    rules
                        .unread
                        .push(format!("{tool}'s rules (there is no {tool}-save program)"));
                    continue;
                }
                Err(why) => {
                    rules.unread.push(format!("{tool}'s rules ({why})"));
                    continue;
                }
            };
            for table in parse(&tool, v4, &text) {
                if variant == Variant::Nft {
                    let table = table.name.rsplit(' ').next().unwrap_or_default();
                    shown.push(format!("{family} {table}"));
                }
                rules.tables.push(table);
            }
        }
    }
    shown
}

/// What the program prints; `None` when there is none.
///
/// # Errors
/// Why it cannot be started, or its own words when it failed: it has rules then, and does not show them.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place where these rules are read"
)]
fn save(program: &Path) -> Result<Option<String>, String> {
    let output = run_program(Command::new(program).stderr(Stdio::piped()), b"");
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{} does not start: {error}", program.display())),
    };
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}", program.display(), words.trim()));
    }
    Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// What a table of nftables is called here if it is one of iptables-nft.
pub(super) fn shown_as(family: &str, table: &str) -> Option<String> {
    matches!(family, "ip" | "ip6").then(|| format!("{family}tables-nft {table}"))
}

/// Priorities of the built-in chains (linux/netfilter_ipv4.h).
fn priority(table: &str, hook: Hook) -> i64 {
    match (table, hook) {
        ("raw", _) => -300,
        ("mangle", _) => -150,
        ("nat", Hook::Prerouting | Hook::Output) => -100,
        ("nat", _) => 100,
        ("security", _) => 50,
        _ => 0,
    }
}

pub(crate) fn parse(tool: &str, v4: bool, save: &str) -> Vec<Table> {
    let tables = Listing::parse_save(save).into_iter();
    tables
        .map(|(kind, listing)| table(tool, v4, &kind, &listing))
        .collect()
}

fn table(tool: &str, v4: bool, kind: &str, listing: &Listing) -> Table {
    let mut table = Table {
        name: format!("{tool} {kind}"),
        v4,
        v6: !v4,
        ..Table::default()
    };
    for chain in listing.chains() {
        let base = chain.policy.as_deref().and_then(|policy| {
            let hook = Hook::by_name(&chain.name)?;
            Some(Base {
                hook,
                priority: priority(kind, hook),
                nat: kind == "nat",
                drops: policy == "DROP",
            })
        });
        table.chains.entry(chain.name.clone()).or_default().base = base;
    }
    for listed in listing.rules() {
        let chain = table.chains.entry(listed.chain().to_owned()).or_default();
        let line = format!("{} {}", listed.chain(), listed.options());
        let words = listed.words().iter().cloned().collect();
        chain.rules.push(Rule {
            remove: format!("{tool} -t {kind} -D {line}"),
            ..rule(&format!("-A {line}"), words)
        });
    }
    table
}

fn rule(line: &str, mut parts: VecDeque<String>) -> Rule {
    let mut statements = Vec::new();
    let mut owner = None;
    let mut negated = false;
    while let Some(option) = parts.pop_front() {
        if option == "!" {
            negated = true;
            continue;
        }
        let mut next = || parts.pop_front().unwrap_or_default();
        let condition = match option.as_str() {
            "-s" => Some((Field::Source, addresses(&next()))),
            "-d" => Some((Field::Destination, addresses(&next()))),
            "-i" => Some((Field::InInterface, vec![interface(&next())])),
            "-o" => Some((Field::OutInterface, vec![interface(&next())])),
            "--physdev-in" => Some((Field::InPort, vec![interface(&next())])),
            "--physdev-out" => Some((Field::OutPort, vec![interface(&next())])),
            "-p" => Some((Field::Protocol, vec![word(&words::protocol(&next()))])),
            "--dport" | "--dports" => Some((Field::DestinationPort, ports(&next()))),
            "--sport" | "--sports" => Some((Field::SourcePort, ports(&next()))),
            "--ctstate" | "--state" | "--ctstatus" => Some((Field::Flow, list(&next()))),
            "--dst-type" => Some((Field::DestinationType, list(&next()))),
            "--src-type" => Some((Field::SourceType, list(&next()))),
            "--pkt-type" => Some((Field::PacketType, list(&next()))),
            "--icmp-type" | "--icmpv6-type" => Some((Field::IcmpType, vec![icmp(&next())])),
            "--mark" => Some(mark(&next())),
            "--comment" => {
                owner = Some(next());
                None
            }
            "-m" => {
                // Modules whose options are known below are silent; others are named.
                let module = next();
                let known = [
                    "comment",
                    "tcp",
                    "udp",
                    "sctp",
                    "icmp",
                    "icmp6",
                    "icmpv6",
                    "conntrack",
                    "state",
                    "mark",
                    "multiport",
                    "addrtype",
                    "pkttype",
                    "physdev",
                ];
                (!known.contains(&module.as_str()))
                    .then(|| (Field::Unknown(format!("-m {module}")), Vec::new()))
            }
            "-j" | "-g" => {
                let target = next();
                statements.push(action(&option, &target, &mut parts));
                break;
            }
            other if other.starts_with('-') => {
                let told = statements.iter().any(|one| {
                    matches!(one, Statement::When(Condition { fields, .. })
                        if matches!(fields[..], [Field::Unknown(_)]))
                });
                // An option of a module that is named already.
                (!told).then(|| (Field::Unknown(other.to_owned()), Vec::new()))
            }
            _ => None,
        };
        if let Some((field, patterns)) = condition {
            statements.push(Statement::When(Condition::of(field, patterns, negated)));
        }
        negated = false;
    }
    Rule {
        handle: None,
        remove: String::new(),
        text: line.to_owned(),
        owner,
        statements,
    }
}

fn action(option: &str, target: &str, rest: &mut VecDeque<String>) -> Statement {
    let value = |names: &[&str]| {
        let at = rest
            .iter()
            .position(|part| names.contains(&part.as_str()))?;
        rest.get(at + 1).cloned()
    };
    match target {
        "ACCEPT" => Statement::Verdict(Verdict::Accept),
        "DROP" => Statement::Verdict(Verdict::Drop),
        "REJECT" => Statement::Verdict(Verdict::Reject),
        "RETURN" => Statement::Verdict(Verdict::Return),
        "MASQUERADE" => Statement::Masquerade,
        "LOG" | "NFLOG" | "TRACE" | "ULOG" => Statement::Note,
        "DNAT" => match value(&["--to-destination"]).and_then(|text| destination(&text)) {
            Some(target) => Statement::Dnat(Rewrite::To(target)),
            None => Statement::Unknown("-j DNAT".to_owned()),
        },
        "SNAT" => match value(&["--to-source"]).and_then(|text| destination(&text)) {
            Some(target) => Statement::Snat(Rewrite::To(target)),
            None => Statement::Unknown("-j SNAT".to_owned()),
        },
        "REDIRECT" => {
            let port = value(&["--to-ports"]);
            Statement::Redirect(port.and_then(|port| port.split('-').next()?.parse().ok()))
        }
        "MARK" => match value(&["--set-xmark", "--set-mark"]).and_then(|text| masked(&text)) {
            Some((bits, mask)) => Statement::Mark {
                and: u64::from(u32::MAX) & !mask,
                xor: bits,
            },
            None => Statement::Unknown("-j MARK".to_owned()),
        },
        // Extensions have names in capitals, and chains may have them too: told apart by what is there.
        chain if option == "-g" => Statement::Verdict(Verdict::Goto(chain.to_owned())),
        chain => Statement::Verdict(Verdict::Jump(chain.to_owned())),
    }
}

/// `10.0.0.2:80`, `[fd00::2]:80`, `10.0.0.2`, `:80`.
fn destination(text: &str) -> Option<Target> {
    if let Ok(address) = text.trim_matches(['[', ']']).parse() {
        return Some(Target {
            address: Some(address),
            port: None,
        });
    }
    let (address, port) = text.rsplit_once(':')?;
    let address = match address {
        "" => None,
        address => Some(address.trim_matches(['[', ']']).parse().ok()?),
    };
    Some(Target {
        address,
        port: Some(port.parse().ok()?),
    })
}

fn word(text: &str) -> Pattern {
    Pattern::Is(Value::Word(text.to_owned()))
}

fn list(text: &str) -> Vec<Pattern> {
    let one = |text: &str| word(&text.to_ascii_lowercase());
    text.split(',').map(one).collect()
}

fn interface(text: &str) -> Pattern {
    match text.strip_suffix('+') {
        Some(start) => Pattern::Begins(start.to_owned()),
        None => word(text),
    }
}

fn addresses(text: &str) -> Vec<Pattern> {
    let one = |text: &str| match (text.parse::<IpNetwork>(), text.parse::<IpAddr>()) {
        (Ok(network), _) => Pattern::Net(network),
        (_, Ok(address)) => Pattern::Is(Value::Address(address)),
        _ => Pattern::Unknown(text.to_owned()),
    };
    text.split(',').map(one).collect()
}

fn ports(text: &str) -> Vec<Pattern> {
    let number = |text: &str| text.parse().ok().map(Value::Number);
    let one = |text: &str| {
        let range = text.split_once(':').and_then(|(from, to)| {
            let from = if from.is_empty() { "0" } else { from };
            let to = if to.is_empty() { "65535" } else { to };
            Some(Pattern::Range(number(from)?, number(to)?))
        });
        range
            .or_else(|| number(text).map(Pattern::Is))
            .unwrap_or_else(|| Pattern::Unknown(text.to_owned()))
    };
    text.split(',').map(one).collect()
}

fn icmp(text: &str) -> Pattern {
    match words::icmp(text) {
        Some(number) => Pattern::Is(Value::Number(number)),
        None if text == "any" => Pattern::Any,
        None => Pattern::Unknown(format!("icmp type {text}")),
    }
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// `0x2000/0x2000`, or a value of all bits.
fn masked(text: &str) -> Option<(u64, u64)> {
    match text.split_once('/') {
        Some((bits, mask)) => Some((number(bits)?, number(mask)?)),
        None => Some((number(text)?, u64::from(u32::MAX))),
    }
}

fn mark(text: &str) -> (Field, Vec<Pattern>) {
    match masked(text) {
        Some((bits, mask)) => (Field::Mark(mask), vec![Pattern::Is(Value::Number(bits))]),
        None => (Field::Unknown(format!("--mark {text}")), Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_keeps_its_name() {
        let save = "*filter\n-A X -m limit --limit 3/min -j LOG\n";
        let mut tables = parse("iptables-nft", true, save);
        let rule = &mut tables[0].chains.get_mut("X").unwrap().rules[0];
        let Statement::When(Condition { fields, .. }) = &rule.statements[0] else {
            panic!("{rule:?}");
        };
        assert_eq!(fields[..], [Field::Unknown("-m limit".to_owned())]);
        assert_eq!(rule.statements.len(), 2);
    }

    #[test]
    fn destinations() {
        let port = Some(80);
        for (text, address) in [
            ("10.0.0.2:80", "10.0.0.2".parse().ok()),
            ("[fd00::2]:80", "fd00::2".parse().ok()),
            (":80", None),
        ] {
            assert_eq!(destination(text), Some(Target { address, port }));
        }
        assert_eq!(destination("fd00::2").unwrap().port, None);
    }

    #[test]
    fn mutated_listings_are_read_or_not() {
        let good = [
            "*nat\n:PREROUTING ACCEPT [0:0]\n:X - [0:0]\n-A PREROUTING ! -s 10.0.0.0/8 -p tcp -m tcp --dport 80:90 \
             -m addrtype --dst-type LOCAL -m conntrack --ctstate RELATED,ESTABLISHED -j X\n\
             -A X -p tcp -j DNAT --to-destination 10.0.0.2:80\nCOMMIT\n",
            "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -i br+ ! -o br0 -m mark --mark 0x2000/0x2000 -m multiport \
             --dports 1,2,3:9 -m comment --comment \"a \\\"b\\\"\" -j REJECT --reject-with icmp-port-unreachable\n\
             -A FORWARD -m set --match-set s src -j MARK --set-xmark 0x1/0xff\n-A FORWARD -j REDIRECT --to-ports 80-90\nCOMMIT\n",
        ];
        let good = good.map(|text| text.as_bytes().to_vec());
        pontoon_lab::fuzz("iptables-save", &good, |bytes, dice| {
            let text = String::from_utf8_lossy(bytes);
            let tables = parse("iptables-nft", dice.below(2) == 0, &text);
            let rules = tables.iter().flat_map(|table| table.chains.values());
            assert!(rules.map(|chain| chain.rules.len()).sum::<usize>() <= text.lines().count());
        });
    }
}
