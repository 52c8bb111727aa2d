//! The names that a container is called by.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where something fails"
)]

use pontoon_conf::{Invocation, KnownAs, NetworkConfig, Verb};
use serde_json::{Value, json};

const ID: &str = "0123456789abcdef";

fn names(args: &str, config: Value) -> (Vec<String>, usize) {
    let (names, refused) = names_and_errors(args, config);
    (names, refused.len())
}

fn names_and_errors(args: &str, mut config: Value) -> (Vec<String>, Vec<String>) {
    let variable = |name: &str| {
        let value = match name {
            "CNI_COMMAND" => "ADD",
            "CNI_CONTAINERID" => ID,
            "CNI_NETNS" => "/run/netns/c",
            "CNI_IFNAME" => "eth0",
            "CNI_PATH" => "/opt/cni/bin",
            "CNI_ARGS" => args,
            _ => return None,
        };
        Some(value.to_owned())
    };
    let invocation = Invocation::from_environment(variable).unwrap().unwrap();
    config["cniVersion"] = json!("1.0.0");
    config["name"] = json!("lan");
    config["type"] = json!("firewall");
    let config = NetworkConfig::parse(config.to_string().as_bytes(), Verb::Add).unwrap();
    let (names, refused) = KnownAs::of(&invocation, &config);
    let names = names.iter().map(ToString::to_string).collect();
    let refused = refused.iter().map(ToString::to_string).collect();
    (names, refused)
}

#[track_caller]
fn check(args: &str, config: Value, expected: &[&str]) {
    let (found, refused) = names(args, config);
    let mut all = expected.to_vec();
    all.extend([ID, &ID[..12]]);
    assert_eq!(found, all);
    assert_eq!(refused, 0);
}

#[test]
fn names_come_from_everywhere() {
    check("", json!({}), &[]);
    check("K8S_POD_NAME=web-0", json!({}), &["web-0"]);
    check("", json!({"args": {"cni": {"name": "Web"}}}), &["web"]);
    check(
        "",
        json!({"runtimeConfig": {"aliases": ["db", "DB", "sql_1"]}}),
        &["db", "sql_1"],
    );
    check(
        "",
        json!({"runtimeConfig": {"aliases": {"lan": ["db"], "other": ["no"]}}}),
        &["db"],
    );
    check(
        "IgnoreUnknown=1;K8S_POD_NAME=a",
        json!({"args": {"cni": {"name": "b"}}, "runtimeConfig": {"Aliases": ["c", "a"]}}),
        &["a", "b", "c"],
    );
}

#[test]
fn what_can_be_no_name_is_told_apart() {
    let (found, refused) = names(
        "",
        json!({"runtimeConfig": {"aliases": ["../x", "", "a b", "ok", ".hidden", 7]}}),
    );
    assert_eq!(found, ["ok", ID, &ID[..12]]);
    assert_eq!(refused, 3);
}

#[test]
fn a_dot_at_the_end_is_no_part_of_a_name() {
    check(
        "K8S_POD_NAME=web.",
        json!({"runtimeConfig": {"aliases": ["db.", "DB", "a.b."]}}),
        &["web", "db", "a.b"],
    );
}

#[test]
fn localhost_is_no_name_of_a_container_and_errors_say_what_was_given() {
    let (found, refused) = names_and_errors(
        "K8S_POD_NAME=LocalHost",
        json!({"runtimeConfig": {"aliases": ["localhost", "Db.localhost.", "x y", "db..", ".", "localhost2"]}}),
    );
    assert_eq!(found, ["localhost2", ID, &ID[..12]]);
    assert_eq!(
        refused,
        [
            "the container name may not be \"LocalHost\"",
            "the alias may not be \"localhost\"",
            "the alias may not be \"Db.localhost.\"",
            "the alias \"x y\" may not contain ' '",
            "the alias \"db..\" may not contain '.' twice at its end",
            "the alias \".\" may not contain '.' at its start",
        ]
    );
}
