//! One object against one schema: unknown keys with what was probably meant, and values of the
//! wrong kind.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::Finding;
use super::source::{Kind, Member, Node};

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        /// The schemas as they are shipped.
        const SHIPPED: [(&str, &str); [$($name),*].len()] = [$((
            $name,
            include_str!(concat!("../../../../conf/schemas/", $name, ".schema.json")),
        )),*];
    };
}

shipped![
    "bandwidth",
    "bridge",
    "conflist",
    "container",
    "dns",
    "firewall",
    "host",
    "host-device",
    "host-local",
    "loopback",
    "macvlan",
    "none",
    "overlay",
    "portmap",
    "ptp",
    "sbr",
    "static",
    "tuning",
];

static SCHEMAS: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    let read =
        |(name, text): (&str, &str)| Some((name.to_owned(), serde_json::from_str(text).ok()?));
    SHIPPED.into_iter().filter_map(read).collect()
});

/// The schema of a plugin, by its type.
pub(super) fn schema(kind: &str) -> Option<&'static Value> {
    SCHEMAS.get(if kind == "dnsname" { "dns" } else { kind })
}

/// The plugins that there are schemas of.
pub(super) fn plugins() -> impl Iterator<Item = &'static str> {
    let names = SHIPPED.iter().map(|(name, _)| *name);
    names.filter(|name| *name != "conflist")
}

/// Judges an object of a plugin or of `ipam`, called `whose`.
pub(super) fn object(node: &Node, schema: &Value, whose: &str, findings: &mut Vec<Finding>) {
    object_but(node, schema, whose, &[], findings);
}

/// As [`object`], but for some keys, which are judged elsewhere. A note for
/// other admins stands under a key that begins with an underscore.
pub(super) fn object_but(
    node: &Node,
    schema: &Value,
    whose: &str,
    apart: &[&str],
    findings: &mut Vec<Finding>,
) {
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    let judged = node.members().iter().filter(|member| {
        let is = |key: &&str| key.eq_ignore_ascii_case(&member.key);
        !member.key.starts_with('_') && !apart.iter().any(is)
    });
    for member in judged {
        let known = properties
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(&member.key));
        match known {
            Some((key, wanted)) => {
                value(&member.value, wanted, key, whose, findings);
            }
            None => unknown(member, properties, whose, findings),
        }
    }
}

/// A key that no plugin reads.
fn unknown(
    member: &Member,
    properties: &Map<String, Value>,
    whose: &str,
    findings: &mut Vec<Finding>,
) {
    let key = &member.key;
    let known = properties.keys().map(String::as_str);
    let hint = if let Some(near) = nearest(key, known) {
        format!("did you mean \"{near}\"?")
    } else if let Some(other) = of_another(key) {
        format!("it is a key of {other}")
    } else {
        "it does nothing".to_owned()
    };
    findings.push(Finding::warning(
        member.place,
        format!("{whose} has no key \"{key}\": {hint}"),
    ));
}

/// Another plugin that has such a key.
fn of_another(key: &str) -> Option<&'static str> {
    plugins().find(|plugin| {
        let properties = schema(plugin).and_then(|schema| schema["properties"].as_object());
        properties.is_some_and(|known| known.keys().any(|known| known.eq_ignore_ascii_case(key)))
    })
}

/// Judges one value. Alternatives are tried one after the other; `null` is an absent key.
fn value(node: &Node, wanted: &Value, key: &str, whose: &str, findings: &mut Vec<Finding>) {
    if node.is_null() {
        return;
    }
    if let Some(choices) = wanted["anyOf"].as_array() {
        let fits = |choice: &Value| {
            let mut found = Vec::new();
            value(node, choice, key, whose, &mut found);
            found
                .iter()
                .all(|finding| finding.level != super::Level::Error)
        };
        if !choices.iter().any(fits) {
            findings.push(Finding::error(
                node.place,
                format!("key \"{key}\" of {whose} must be {}", words(wanted)),
            ));
        }
        return;
    }
    if !is_kind(node, &wanted["type"]) || !is_allowed(node, wanted) {
        findings.push(Finding::error(
            node.place,
            format!(
                "key \"{key}\" of {whose} must be {}{}",
                words(wanted),
                mistake(node, wanted)
            ),
        ));
        return;
    }
    if wanted["properties"].is_object() {
        object(node, wanted, &format!("\"{key}\" of {whose}"), findings);
    }
    for item in node.items() {
        value(item, &wanted["items"], key, whose, findings);
    }
}

fn kinds(wanted: &Value) -> Vec<&str> {
    match wanted {
        Value::String(one) => vec![one.as_str()],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is_kind(node: &Node, wanted: &Value) -> bool {
    let kinds = kinds(wanted);
    let is = |kind: &&str| match &node.kind {
        Kind::Object(_) => *kind == "object",
        Kind::Array(_) => *kind == "array",
        Kind::Plain(Value::String(_)) => *kind == "string",
        Kind::Plain(Value::Bool(_)) => *kind == "boolean",
        Kind::Plain(Value::Number(number)) => {
            let whole = number.as_f64().is_some_and(|number| number.fract() == 0.0);
            *kind == "number" || (*kind == "integer" && whole)
        }
        Kind::Plain(_) => true,
    };
    kinds.is_empty() || kinds.iter().any(is)
}

/// Whether a value is among those named, and within its range.
fn is_allowed(node: &Node, wanted: &Value) -> bool {
    let Kind::Plain(value) = &node.kind else {
        return true;
    };
    let named = wanted["enum"].as_array();
    let number = value.as_f64();
    let bound = |key: &str| wanted[key].as_f64();
    let inside = |number: f64| {
        bound("minimum").is_none_or(|least| number >= least)
            && bound("maximum").is_none_or(|most| number <= most)
    };
    named.is_none_or(|named| named.contains(value))
        && wanted.get("const").is_none_or(|only| only == value)
        && number.is_none_or(inside)
}

/// What a schema asks for.
fn words(wanted: &Value) -> String {
    if let Some(choices) = wanted["anyOf"].as_array() {
        let all = choices.iter().filter(|choice| choice["type"] != "null");
        return all.map(words).collect::<Vec<_>>().join(" or ");
    }
    let plain = |value: &&Value| value.as_str().is_some_and(|text| !text.is_empty());
    if let Some(named) = wanted["enum"].as_array() {
        let named: Vec<String> = named.iter().filter(plain).map(Value::to_string).collect();
        return match &named[..] {
            [one] => one.clone(),
            [all @ .., last] => format!("{} or {last}", all.join(", ")),
            [] => "empty".to_owned(),
        };
    }
    let range = match (wanted["minimum"].as_i64(), wanted["maximum"].as_i64()) {
        (Some(least), Some(most)) => format!(" from {least} to {most}"),
        (Some(least), None) => format!(" of at least {least}"),
        _ => String::new(),
    };
    let all: Vec<String> = kinds(&wanted["type"])
        .into_iter()
        .filter(|kind| *kind != "null")
        .map(|kind| match kind {
            "boolean" => "true or false".to_owned(),
            "integer" => format!("a whole number{range}"),
            "number" => format!("a number{range}"),
            "string" => "a text in quotes".to_owned(),
            "array" => "a list [...]".to_owned(),
            _ => "an object {...}".to_owned(),
        })
        .collect();
    all.join(" or ")
}

/// Why the value may be as it is.
fn mistake(node: &Node, wanted: &Value) -> String {
    let Some(text) = node.text() else {
        return match &node.kind {
            Kind::Plain(value) => format!(", not {value}"),
            Kind::Object(_) => ", not an object".to_owned(),
            Kind::Array(_) => ", not a list".to_owned(),
        };
    };
    let bare = text.parse::<f64>().is_ok() || matches!(text, "true" | "false");
    let named = wanted["enum"].as_array().into_iter().flatten();
    if bare && wanted["enum"].is_null() {
        format!(": take the quotes off \"{text}\"")
    } else if let Some(near) = nearest(text, named.filter_map(Value::as_str)) {
        format!(", not \"{text}\": did you mean \"{near}\"?")
    } else {
        format!(", not \"{text}\"")
    }
}

/// The word that is nearest to `word`, if one is near at all: other case, a letter or two.
pub(super) fn nearest<'w>(word: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let plain = |word: &str| {
        let letters = word.chars().filter(|c| c.is_ascii_alphanumeric());
        letters.map(|c| c.to_ascii_lowercase()).collect::<String>()
    };
    let wanted = plain(word);
    let near = words
        .filter(|known| !known.is_empty())
        .map(|known| (distance(&wanted, &plain(known)), known))
        .min_by_key(|(distance, _)| *distance)?;
    let allowed = (wanted.len() / 3).clamp(1, 3);
    (near.0 <= allowed).then_some(near.1)
}

/// How many letters must be changed, added, left out or swapped with their neighbour.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let swapped = i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b;
            let mut least = (rows[i][j] + usize::from(a != b))
                .min(rows[i][j + 1] + 1)
                .min(row[j] + 1);
            if swapped {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plugin_has_its_schema() {
        let rows: Vec<&str> = pontoon_ledger::kinds::KINDS
            .iter()
            .map(|kind| kind.name)
            .collect();
        assert_eq!(plugins().collect::<Vec<_>>(), rows);
    }
}
