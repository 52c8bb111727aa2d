//! nftables' rules, from `nft -j list ruleset` (libnftables-json(5)).

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use pontoon_netlink::run_program;
use serde_json::Value as Json;

use super::{
    Base, Chain, Condition, Element, Field, Hook, Members, Pattern, Rewrite, Rule, RuleAction,
    Rules, Statement, Table, Target, Value, Verdict,
};
use super::{program, words};
use crate::error::Error;

/// Adds all tables but those that iptables has shown.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place where these rules are read"
)]
pub(super) fn read(rules: &mut Rules, shown: &[String], search: &[PathBuf]) -> Result<(), Error> {
    let mut command = Command::new(program("nft", search));
    command.args(["-j", "list", "ruleset"]);
    let output = run_program(command.stderr(Stdio::piped()), b"");
    let output = match output {
        Ok(output) if output.status.success() => output,
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr);
            return Err(Error::Listing(words.trim().to_owned()));
        }
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(Error::Listing(error.to_string()));
        }
        Err(_) => {
            let what = "nftables' rules (there is no nft program: apt-get install nftables)";
            rules.unread.push(what.to_owned());
            return Ok(());
        }
    };
    let listing: Json = serde_json::from_slice(&output.stdout)?;
    number(rules, &listing, shown);
    let mut tables = tables(&listing, shown, &mut rules.unread);
    rules.tables.append(&mut tables);
    Ok(())
}

/// The tables of a listing alone.
#[cfg(test)]
pub(crate) fn parse(listing: &str) -> Result<Rules, Error> {
    let listing: Json = serde_json::from_str(listing)?;
    let mut rules = Rules::default();
    rules.tables = tables(&listing, &[], &mut rules.unread);
    Ok(rules)
}

/// Gives iptables' rules their numbers: both listings have them in the same order.
fn number(rules: &mut Rules, listing: &Json, shown: &[String]) {
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for item in listing["nftables"].as_array().into_iter().flatten() {
        let rule = &item["rule"];
        let (family, name) = (text(&rule["family"]), text(&rule["table"]));
        if !shown.contains(&format!("{family} {name}")) {
            continue;
        }
        let chain = text(&rule["chain"]);
        let table = super::iptables::shown_as(&family, &name);
        let mut tables = rules.tables.iter_mut();
        let table = tables.find(|one| Some(&one.name) == table.as_ref());
        let count = counts
            .entry((format!("{family} {name}"), chain.clone()))
            .or_default();
        let rules = table.and_then(|table| table.chains.get_mut(&chain));
        if let Some(rule_there) = rules.and_then(|chain| chain.rules.get_mut(*count)) {
            rule_there.handle = rule["handle"].as_u64();
        }
        *count += 1;
    }
}

/// Gives the rules the texts that nft itself prints.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place where these rules are read"
)]
pub(super) fn texts(rules: &mut Rules) -> Result<(), Error> {
    let mut command = Command::new("nft");
    command.args(["-a", "list", "ruleset"]);
    let output = run_program(command.stderr(Stdio::piped()), b"");
    let output = match output {
        Ok(output) => output,
        // Without the program nothing of nftables has been read.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::Listing(error.to_string())),
    };
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(Error::Listing(words.trim().to_owned()));
    }
    write_texts(rules, &String::from_utf8_lossy(&output.stdout));
    Ok(())
}

fn write_texts(rules: &mut Rules, listing: &str) {
    let mut table: Option<&mut Table> = None;
    let mut chain = String::new();
    for line in listing.lines() {
        if let Some(head) = line.strip_prefix("table ") {
            let name = head.split(" {").next().unwrap_or_default();
            table = rules.tables.iter_mut().find(|one| one.name == name);
            chain.clear();
            continue;
        }
        if let Some(head) = line
            .strip_prefix('\t')
            .filter(|line| !line.starts_with('\t'))
        {
            let name = head
                .strip_prefix("chain ")
                .and_then(|name| name.split(" {").next());
            name.unwrap_or_default().clone_into(&mut chain);
            continue;
        }
        let Some((text, handle)) = line.trim_start().rsplit_once(" # handle ") else {
            continue;
        };
        let there = table
            .as_mut()
            .and_then(|table| table.chains.get_mut(&chain));
        let handle = handle.trim().parse::<u64>().ok();
        let own = there.and_then(|chain| {
            let mut rules = chain.rules.iter_mut();
            rules.find(|rule| handle.is_some() && rule.handle == handle)
        });
        if let Some(rule) = own {
            text.clone_into(&mut rule.text);
        }
    }
}

fn text(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn tables(listing: &Json, shown: &[String], unread: &mut Vec<String>) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for item in listing["nftables"].as_array().into_iter().flatten() {
        let Some((kind, object)) = item.as_object().and_then(|item| item.iter().next()) else {
            continue;
        };
        let family = text(&object["family"]);
        let own = if kind == "table" { "name" } else { "table" };
        let name = format!("{family} {}", text(&object[own]));
        if kind == "metainfo" || shown.contains(&name) {
            continue;
        }
        if kind == "table" {
            tables.push(Table {
                v4: matches!(family.as_str(), "ip" | "inet"),
                v6: matches!(family.as_str(), "ip6" | "inet"),
                bridge: family == "bridge",
                name,
                ..Table::default()
            });
            continue;
        }
        let Some(table) = tables.iter_mut().find(|table| table.name == name) else {
            continue;
        };
        match kind.as_str() {
            "chain" => {
                if family == "netdev" || object["hook"] == "ingress" || object["hook"] == "egress" {
                    unread.push(format!("chain {} of table {name}", text(&object["name"])));
                }
                table.chains.entry(text(&object["name"])).or_default().base = base(object);
            }
            "set" | "map" => {
                let elements = object["elem"].as_array().into_iter().flatten();
                let elements = elements.map(element).collect();
                table.sets.insert(text(&object["name"]), elements);
            }
            "rule" => {
                let expressions = object["expr"].as_array().into_iter().flatten();
                let chain: &mut Chain = table.chains.entry(text(&object["chain"])).or_default();
                chain.rules.push(Rule {
                    handle: object["handle"].as_u64(),
                    remove: format!(
                        "nft delete rule {name} {} handle {}",
                        text(&object["chain"]),
                        object["handle"]
                    ),
                    text: expressions
                        .clone()
                        .map(shown_as)
                        .collect::<Vec<_>>()
                        .join(" "),
                    owner: object["comment"].as_str().map(str::to_owned),
                    statements: expressions.map(statement).collect(),
                });
            }
            _ => {}
        }
    }
    tables
}

fn base(chain: &Json) -> Option<Base> {
    Some(Base {
        hook: Hook::by_name(chain["hook"].as_str()?)?,
        priority: chain["prio"].as_i64().unwrap_or(0),
        nat: chain["type"] == "nat",
        drops: chain["policy"] == "drop",
    })
}

fn statement(expression: &Json) -> Statement {
    let Some((name, body)) = expression
        .as_object()
        .and_then(|object| object.iter().next())
    else {
        return Statement::Unknown(text(expression));
    };
    if let Some(verdict) = verdict(name, body) {
        return Statement::Verdict(verdict);
    }
    match name.as_str() {
        "match" => Statement::When(condition(body)),
        "vmap" => Statement::VerdictMap(fields(&body["key"]), members(&body["data"])),
        "dnat" => Statement::Dnat(rewrite(body)),
        "snat" => Statement::Snat(rewrite(body)),
        "masquerade" => Statement::Masquerade,
        "redirect" => Statement::Redirect(port(&body["port"])),
        "counter" | "log" | "comment" | "notrack" => Statement::Note,
        "mangle" => mark(body).unwrap_or_else(|| unknown_statement(name, body)),
        _ => unknown_statement(name, body),
    }
}

fn unknown_statement(name: &str, body: &Json) -> Statement {
    // A mark of the tracing itself, or a helper: of no consequence for the way.
    let harmless = matches!(
        body["key"]["meta"]["key"].as_str(),
        Some("nftrace" | "priority" | "pkttype")
    );
    match harmless {
        true => Statement::Note,
        false => Statement::Unknown(name.to_owned()),
    }
}

fn verdict(name: &str, body: &Json) -> Option<Verdict> {
    Some(match name {
        "accept" => Verdict::Accept,
        "drop" => Verdict::Drop,
        "reject" => Verdict::Reject,
        "return" => Verdict::Return,
        "continue" => Verdict::Continue,
        "jump" => Verdict::Jump(text(&body["target"])),
        "goto" => Verdict::Goto(text(&body["target"])),
        _ => return None,
    })
}

/// `meta mark set meta mark | 0x1000`, and whatever else only sets the mark's bits.
fn mark(body: &Json) -> Option<Statement> {
    (body["key"]["meta"]["key"] == "mark").then_some(())?;
    let value = &body["value"];
    if let Some(xor) = value.as_u64() {
        return Some(Statement::Mark { and: 0, xor });
    }
    let (operator, operands) = value.as_object()?.iter().next()?;
    (operands[0]["meta"]["key"] == "mark").then_some(())?;
    let bits = operands[1].as_u64()?;
    let all = u64::from(u32::MAX);
    Some(match operator.as_str() {
        "|" => Statement::Mark {
            and: all & !bits,
            xor: bits,
        },
        "&" => Statement::Mark { and: bits, xor: 0 },
        "^" => Statement::Mark {
            and: all,
            xor: bits,
        },
        _ => return None,
    })
}

fn rewrite(body: &Json) -> Rewrite {
    if let Some(map) = body["addr"].get("map") {
        return Rewrite::Map(fields(&map["key"]), members(&map["data"]));
    }
    Rewrite::To(Target {
        address: body["addr"].as_str().and_then(|text| text.parse().ok()),
        port: port(&body["port"]),
    })
}

fn port(value: &Json) -> Option<u16> {
    value.as_u64().and_then(|port| u16::try_from(port).ok())
}

fn condition(body: &Json) -> Condition {
    let fields = fields(&body["left"]);
    let mut condition = Condition {
        members: members(&body["right"]),
        negated: body["op"] == "!=",
        fields,
    };
    let known = ["==", "!=", "in"];
    if !known.contains(&body["op"].as_str().unwrap_or_default()) {
        condition.fields = vec![Field::Unknown(shown_as(body))];
    }
    condition
}

fn fields(expression: &Json) -> Vec<Field> {
    match expression["concat"].as_array() {
        Some(parts) => parts.iter().map(field).collect(),
        None => vec![field(expression)],
    }
}

fn field(expression: &Json) -> Field {
    let unknown = || Field::Unknown(shown_as(expression));
    let Some((name, body)) = expression
        .as_object()
        .and_then(|object| object.iter().next())
    else {
        return unknown();
    };
    let key = body["key"].as_str().unwrap_or_default();
    let (protocol, part) = (
        body["protocol"].as_str().unwrap_or_default(),
        body["field"].as_str().unwrap_or_default(),
    );
    match (name.as_str(), key, protocol, part) {
        ("meta", "iifname" | "iif", ..) => Field::InInterface,
        ("meta", "oifname" | "oif", ..) => Field::OutInterface,
        ("meta", "l4proto", ..) => Field::Protocol,
        ("meta", "nfproto", ..) => Field::Family,
        ("meta", "mark", ..) => Field::Mark(u64::from(u32::MAX)),
        ("meta", "pkttype", ..) => Field::PacketType,
        ("ct", "state" | "status", ..) if body.get("dir").is_none() => Field::Flow,
        ("payload", _, "ip", "saddr") => Field::Source4,
        ("payload", _, "ip", "daddr") => Field::Destination4,
        ("payload", _, "ip6", "saddr") => Field::Source6,
        ("payload", _, "ip6", "daddr") => Field::Destination6,
        ("payload", _, "ip", "protocol") | ("payload", _, "ip6", "nexthdr") => Field::Protocol,
        ("payload", _, "th" | "tcp" | "udp" | "sctp", "sport") => Field::SourcePort,
        ("payload", _, "th" | "tcp" | "udp" | "sctp", "dport") => Field::DestinationPort,
        ("payload", _, "icmp" | "icmpv6", "type") => Field::IcmpType,
        ("fib", ..) if body["result"] == "type" => match body["flags"].to_string().as_str() {
            "[\"daddr\"]" | "\"daddr\"" => Field::DestinationType,
            "[\"saddr\"]" | "\"saddr\"" => Field::SourceType,
            _ => unknown(),
        },
        ("&", ..) => match (field(&body[0]), body[1].as_u64()) {
            (Field::Mark(_), Some(mask)) => Field::Mark(mask),
            _ => unknown(),
        },
        _ => unknown(),
    }
}

fn members(right: &Json) -> Members {
    if let Some(name) = right.as_str().and_then(|text| text.strip_prefix('@')) {
        return Members::Named(name.to_owned());
    }
    let list = right.get("set").unwrap_or(right);
    Members::Inline(match list.as_array() {
        Some(list) => list.iter().map(element).collect(),
        None => vec![element(list)],
    })
}

/// A key, or a pair of a key and what it leads to.
fn element(item: &Json) -> Element {
    let (key, leads) = match item.as_array().map(Vec::as_slice) {
        Some([key, value]) => (key, Some(leads_to(value))),
        _ => (item, None),
    };
    let (key, owner) = match key.get("elem") {
        Some(elem) => (&elem["val"], elem["comment"].as_str().map(str::to_owned)),
        None => (key, None),
    };
    let shown = shown_as(key);
    let key = match key["concat"].as_array() {
        Some(parts) => parts.iter().map(pattern).collect(),
        None => vec![pattern(key)],
    };
    Element {
        text: shown,
        key,
        leads,
        owner,
    }
}

fn leads_to(value: &Json) -> RuleAction {
    if let Some((name, body)) = value.as_object().and_then(|object| object.iter().next())
        && let Some(verdict) = verdict(name, body)
    {
        return RuleAction::Verdict(verdict);
    }
    let parts = value["concat"].as_array();
    let address = parts.map_or(value, |parts| &parts[0]);
    match address.as_str().and_then(|text| text.parse().ok()) {
        Some(address) => RuleAction::Target(Target {
            address: Some(address),
            port: parts.and_then(|parts| port(parts.get(1)?)),
        }),
        None => RuleAction::Unknown(shown_as(value)),
    }
}

fn single(value: &Json) -> Value {
    match value {
        Json::Number(number) => Value::Number(number.as_u64().unwrap_or(u64::MAX)),
        other => {
            let text = text(other);
            match text.parse() {
                Ok(address) => Value::Address(address),
                Err(_) => match words::icmp(&text) {
                    Some(number) => Value::Number(number),
                    None => Value::Word(words::protocol(&text)),
                },
            }
        }
    }
}

fn pattern(value: &Json) -> Pattern {
    if let Some(prefix) = value.get("prefix") {
        let text = format!("{}/{}", text(&prefix["addr"]), prefix["len"]);
        return match text.parse() {
            Ok(network) => Pattern::Net(network),
            Err(_) => Pattern::Unknown(text),
        };
    }
    if let Some([from, to]) = value["range"].as_array().map(Vec::as_slice) {
        return Pattern::Range(single(from), single(to));
    }
    match value {
        Json::String(text) if text == "*" => Pattern::Any,
        Json::String(text) if text.ends_with('*') => {
            Pattern::Begins(text.trim_end_matches('*').to_owned())
        }
        Json::String(_) | Json::Number(_) => Pattern::Is(single(value)),
        other => Pattern::Unknown(shown_as(other)),
    }
}

/// An expression in words close to nft's.
fn shown_as(value: &Json) -> String {
    let list = |items: &[Json], by: &str| items.iter().map(shown_as).collect::<Vec<_>>().join(by);
    match value {
        Json::Null => String::new(),
        Json::Array(items) => list(items, ","),
        Json::Object(object) => {
            let Some((name, body)) = object.iter().next() else {
                return String::new();
            };
            let word = |key: &str| shown_as(&body[key]);
            let shown = match name.as_str() {
                "match" => shown_as(body),
                "op" => {
                    let op = match value["op"].as_str() {
                        Some("!=") => "!= ",
                        _ => "",
                    };
                    format!(
                        "{} {op}{}",
                        shown_as(&value["left"]),
                        shown_as(&value["right"])
                    )
                }
                "meta" => word("key"),
                "ct" => format!("ct {}", word("key")),
                "payload" => format!("{} {}", word("protocol"), word("field")),
                "fib" => format!("fib {} {}", word("flags"), word("result")),
                "prefix" => format!("{}/{}", word("addr"), word("len")),
                "range" => list(body.as_array().map_or(&[], Vec::as_slice), "-"),
                "concat" => list(body.as_array().map_or(&[], Vec::as_slice), " . "),
                "set" => format!("{{ {} }}", shown_as(body)),
                "vmap" => format!("{} vmap {}", word("key"), word("data")),
                "map" => format!("{} map {}", word("key"), word("data")),
                "dnat" | "snat" => format!("{name} to {} {}", word("addr"), word("port")),
                "jump" | "goto" => format!("{name} {}", word("target")),
                "mangle" => format!("{} set {}", word("key"), word("value")),
                "&" | "|" | "^" => format!("{} {name} {}", shown_as(&body[0]), shown_as(&body[1])),
                "counter" | "log" => name.clone(),
                _ => format!(
                    "{name} {}",
                    if body.is_null() {
                        String::new()
                    } else {
                        body.to_string()
                    }
                ),
            };
            shown.trim().to_owned()
        }
        other => text(other),
    }
}

#[cfg(test)]
mod tests {
    use super::{parse, write_texts};

    #[test]
    fn mutated_listings_are_read_or_refused() {
        let good = [
            r#"{"nftables": [
                {"metainfo": {"json_schema_version": 1}},
                {"table": {"family": "inet", "name": "t", "handle": 1}},
                {"chain": {"family": "inet", "table": "t", "name": "c", "handle": 2, "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}},
                {"set": {"family": "inet", "table": "t", "name": "s", "type": ["ipv4_addr", "inet_service"], "elem": [{"concat": ["10.0.0.2", 80]}, {"prefix": {"addr": "10.1.0.0", "len": 16}}, {"range": ["10.0.0.4", "10.0.0.9"]}]}},
                {"map": {"family": "inet", "table": "t", "name": "m", "type": "ifname", "map": "verdict", "elem": [["br0", {"jump": {"target": "c"}}], [{"elem": {"val": "br1", "comment": "a"}}, {"drop": null}]]}},
                {"rule": {"family": "inet", "table": "t", "chain": "c", "handle": 7, "comment": "x", "expr": [
                    {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": {"set": ["a", "b"]}}},
                    {"match": {"op": "!=", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": {"range": [1, 80]}}},
                    {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}},
                    {"vmap": {"key": {"concat": [{"meta": {"key": "iifname"}}, {"payload": {"protocol": "ip", "field": "daddr"}}]}, "data": "@m"}},
                    {"mangle": {"key": {"meta": {"key": "mark"}}, "value": {"|": [{"meta": {"key": "mark"}}, 8192]}}},
                    {"counter": {"packets": 1, "bytes": 2}}, {"dnat": {"family": "ip", "addr": "10.0.0.2", "port": 80}}, {"masquerade": null}, {"jump": {"target": "c"}}, {"drop": null}]}}
            ]}"#,
            "table inet t { # handle 1\n\tchain c { # handle 2\n\t\tiifname \"a\" drop comment \"x\" # handle 7\n\t}\n}\n",
        ];
        let good = good.map(|text| text.as_bytes().to_vec());
        pontoon_lab::fuzz("nft listings", &good, |bytes, dice| {
            let text = String::from_utf8_lossy(bytes);
            let whole = std::str::from_utf8(&good[0]).unwrap_or_default();
            let listing = if dice.below(2) == 0 { &text } else { whole };
            if let Ok(mut rules) = parse(listing) {
                write_texts(&mut rules, &text);
            }
        });
    }

    #[test]
    fn rules_get_the_text_that_nft_prints() {
        let listing = r#"{"nftables": [
            {"table": {"family": "inet", "name": "t", "handle": 1}},
            {"chain": {"family": "inet", "table": "t", "name": "c", "handle": 2}},
            {"rule": {"family": "inet", "table": "t", "chain": "c", "handle": 7, "expr": [{"drop": null}]}}
        ]}"#;
        let mut rules = parse(listing).unwrap();
        let printed = "table inet t { # handle 1\n\tchain c { # handle 2\n\t\tiifname \"a\" drop comment \"x\" # handle 7\n\t}\n}\n";
        write_texts(&mut rules, printed);
        let rule = rules.by_handle("inet", "t", "c", 7).unwrap();
        assert_eq!(rule.text, "iifname \"a\" drop comment \"x\"");
    }
}
