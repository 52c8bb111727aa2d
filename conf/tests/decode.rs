//! The decoder: what it forgives, what it does not, and how it names the place.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where something fails"
)]

use std::collections::{BTreeMap, HashMap};

use pontoon_conf::{Cidr, Mac, decode, field};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Outer {
    host_port: u16,
    inner: Option<Inner>,
    inners: Vec<Vec<Inner>>,
    labels: BTreeMap<String, String>,
    by_name: HashMap<String, Inner>,
    kind: Option<Kind>,
    anything: Value,
    ratio: f64,
    pair: Option<(u8, String)>,
    wrapped: Option<Wrapped>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Inner {
    range_start: Option<String>,
    signed: i32,
    big: u64,
    subnet: Option<Cidr>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Wrapped(i8);

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Kind {
    Auto,
    Fixed(u16),
    #[serde(rename_all = "camelCase")]
    Span {
        first_port: u16,
    },
    Both(u8, u8),
}

#[track_caller]
fn check(document: Value, expected: Outer) {
    assert_eq!(decode::<Outer>(&document).expect("decodes"), expected);
}

#[track_caller]
fn refused<T: DeserializeOwned + std::fmt::Debug>(document: Value, message: &str) {
    let error = decode::<T>(&document).expect_err("must be refused");
    assert_eq!(error.to_string(), message);
}

#[test]
fn fields_without_case_at_any_depth() {
    let inner = || Inner {
        range_start: Some("a".into()),
        signed: -3,
        ..Inner::default()
    };
    let document = json!({"RANGESTART": "a", "Signed": -3});
    check(
        json!({"HostPort": 80, "Inner": document, "INNERS": [[document], []]}),
        Outer {
            host_port: 80,
            inner: Some(inner()),
            inners: vec![vec![inner()], vec![]],
            ..Outer::default()
        },
    );
}

#[test]
fn keys_of_maps_keep_their_case() {
    check(
        json!({"Labels": {"App": "x", "app": "y"}, "byName": {"Eth0": {"SIGNED": 1}}}),
        Outer {
            labels: [("App", "x"), ("app", "y")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            by_name: HashMap::from([(
                "Eth0".to_owned(),
                Inner {
                    signed: 1,
                    ..Inner::default()
                },
            )]),
            ..Outer::default()
        },
    );
}

#[test]
fn exact_spelling_wins_then_the_last() {
    let port = |text: &str| {
        let document: Value = serde_json::from_str(text).unwrap();
        decode::<Outer>(&document).unwrap().host_port
    };
    assert_eq!(port(r#"{"hostPort": 1, "HostPort": 2}"#), 1);
    assert_eq!(port(r#"{"HostPort": 2, "hostPort": 1}"#), 1);
    assert_eq!(port(r#"{"HOSTPORT": 2, "HostPort": 3}"#), 3);
    assert_eq!(port(r#"{"hostPort": null, "HostPort": 3}"#), 3);
}

#[test]
fn nulls_are_absent() {
    check(
        json!({"hostPort": null, "inner": null, "inners": null, "labels": {"a": null}, "kind": null}),
        Outer::default(),
    );
    check(Value::Null, Outer::default());
    assert_eq!(
        decode::<Vec<Option<u8>>>(&json!([1, null])).unwrap(),
        [Some(1), None]
    );
}

#[test]
fn numbers() {
    check(
        json!({"hostPort": 8080.0, "inner": {"signed": -1e3, "big": u64::MAX}, "ratio": 2}),
        Outer {
            host_port: 8080,
            inner: Some(Inner {
                signed: -1000,
                big: u64::MAX,
                ..Inner::default()
            }),
            ratio: 2.0,
            ..Outer::default()
        },
    );
    refused::<Outer>(
        json!({"hostPort": 70000}),
        "hostPort: invalid value: integer `70000`, expected u16",
    );
    refused::<Outer>(
        json!({"HostPort": 1.5}),
        "HostPort: invalid type: floating point `1.5`, expected u16",
    );
    refused::<Outer>(
        json!({"inner": {"big": 1e19}}),
        "inner.big: invalid type: floating point `10000000000000000000.0`, expected u64",
    );
    refused::<Outer>(
        json!({"inner": {"big": -1}}),
        "inner.big: invalid value: integer `-1`, expected u64",
    );
}

#[test]
fn enums() {
    let kind = |document: Value| decode::<Outer>(&json!({"kind": document})).unwrap().kind;
    assert_eq!(kind(json!("auto")), Some(Kind::Auto));
    assert_eq!(kind(json!({"fixed": 7.0})), Some(Kind::Fixed(7)));
    assert_eq!(
        kind(json!({"span": {"FirstPort": 9}})),
        Some(Kind::Span { first_port: 9 })
    );
    assert_eq!(kind(json!({"both": [1, 2]})), Some(Kind::Both(1, 2)));
    let known = "expected one of `auto`, `fixed`, `span`, `both`";
    refused::<Outer>(
        json!({"kind": "x"}),
        &format!("kind: unknown variant `x`, {known}"),
    );
    refused::<Outer>(json!({"kind": "fixed"}), "kind: \"fixed\" asks for a value");
    refused::<Outer>(json!({"kind": {"auto": 1}}), "kind.auto: takes no value");
    refused::<Outer>(json!({"kind": {}}), "kind: expected an object with one key");
    refused::<Outer>(
        json!({"kind": {"span": {"firstPort": true}}}),
        "kind.span.firstPort: invalid type: boolean `true`, expected u16",
    );
}

#[test]
fn tuples_wrappers_and_values_as_they_are() {
    let outer: Outer = decode(&json!({
        "pair": [1, "b"], "wrapped": -1, "anything": {"Keep": {"my": ["Case"]}}
    }))
    .unwrap();
    assert_eq!(outer.pair, Some((1, "b".to_owned())));
    assert_eq!(outer.wrapped, Some(Wrapped(-1)));
    assert_eq!(outer.anything, json!({"Keep": {"my": ["Case"]}}));
    refused::<Outer>(
        json!({"pair": [1]}),
        "pair: invalid length 1, expected a tuple of size 2",
    );
}

#[test]
fn the_place_of_an_error() {
    refused::<Outer>(
        json!({"Inners": [[], [{"subnet": "10.0.0.0/8"}, {"Subnet": "10.0.0.0"}]]}),
        "Inners[1][1].Subnet: \"10.0.0.0\" has no prefix length; write it like \"10.1.2.0/24\"",
    );
    refused::<Outer>(
        json!({"byName": {"eth0": {"signed": "1"}}}),
        "byName.eth0.signed: invalid type: string \"1\", expected i32",
    );
    refused::<Outer>(json!([]), "invalid type: sequence, expected struct Outer");
    refused::<Mac>(
        json!("02:00"),
        "\"02:00\" is not a MAC address; write it like \"02:42:ac:11:00:02\"",
    );
    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only its absence is asked for")]
    struct Needs {
        subnet: Cidr,
    }
    refused::<Vec<Needs>>(json!([{}]), "[0]: missing field `subnet`");
    refused::<Vec<Needs>>(json!([{"subnet": null}]), "[0]: missing field `subnet`");
    let error = decode::<Vec<bool>>(&json!([true, "true"])).unwrap_err();
    assert_eq!(error.path(), "[1]");
    assert_eq!(
        error.problem(),
        "invalid type: string \"true\", expected a boolean"
    );
}

#[test]
fn untagged_needs_the_value_first() {
    // serde gathers an untagged enum's content before it knows any field, so plugins look at the
    // kind of the value and decode it then.
    let document = json!({"Source": "203.0.113.7"});
    #[derive(Deserialize)]
    struct Snat {
        source: String,
    }
    assert_eq!(decode::<Snat>(&document).unwrap().source, "203.0.113.7");
    let object = document.as_object().unwrap();
    assert_eq!(field(object, "source"), Some(&json!("203.0.113.7")));
    assert_eq!(field(object, "out"), None);
}
