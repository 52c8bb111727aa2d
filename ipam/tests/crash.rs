//! The `host-local` binary, killed and crowded. Each test has `/run` to
//! itself, in a mount namespace of its own: the machine's is not touched.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test runs programs, and ends where something fails"
)]

#[path = "host_local/node.rs"]
mod node;

use std::collections::BTreeSet;
use std::time::Duration;

use node::{Node, in_own_run};

/// Addresses of each of the two ranges.
const SIZE: usize = 13;

/// Whatever was killed: no lease without an owner, none lost, none double.
fn sound(node: &Node, alive: &[&str]) {
    for (address, owner) in node.leases() {
        assert!(owner.ends_with("\r\neth0"), "{address} has {owner:?}");
    }
    // Who died may have taken something; its DEL gives it back.
    node.call("DEL", "victim", &[]).success();
    let owners: BTreeSet<String> = node.leases().into_values().collect();
    let expected: BTreeSet<String> = alive.iter().map(|name| format!("{name}\r\neth0")).collect();
    assert_eq!(owners, expected);
    assert_eq!(node.leases().len(), alive.len() * 2);
    // Every address without a lease can still be given out, and none twice.
    let mut given: BTreeSet<String> = node.leases().into_keys().collect();
    for number in alive.len()..SIZE {
        for address in node
            .call("ADD", &format!("filler{number}"), &[])
            .addresses()
        {
            assert!(given.insert(address.clone()), "{address} was given twice");
        }
    }
    assert_eq!(given.len(), SIZE * 2);
    node.call("ADD", "one-too-many", &[])
        .failed("no IP addresses available in range set")
        .then_some(())
        .expect("a full pool");
    for number in alive.len()..SIZE {
        node.call("DEL", &format!("filler{number}"), &[]).success();
    }
    for name in alive {
        node.call("CHECK", name, &[]).success();
        node.call("DEL", name, &[]).success();
    }
    assert!(node.leases().is_empty());
}

/// The fault points passed by a verb on a node in some state.
fn points(node: &Node, verb: &str, container: &str) -> BTreeSet<String> {
    let trace = node.path("trace");
    node.call(verb, container, &[("PONTOON_FAULT_TRACE", &trace)])
        .success();
    let text = std::fs::read_to_string(&trace).expect("the trace of a debug build");
    text.lines()
        .filter(|name| name.starts_with("ipam-"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn killed_at_every_step_of_add() {
    in_own_run(|| {
        let first = points(&Node::new(), "ADD", "a");
        let node = Node::new();
        node.call("ADD", "a", &[]).success();
        let later = points(&node, "ADD", "b");
        assert!(
            first.contains("ipam-note") && later.contains("ipam-header"),
            "{first:?} {later:?}"
        );
        for point in &first {
            let node = Node::new();
            node.call(
                "ADD",
                "victim",
                &[("PONTOON_FAULT", &format!("kill:{point}"))],
            )
            .killed(point);
            sound(&node, &[]);
        }
        for point in &later {
            let node = Node::new();
            node.call("ADD", "a", &[]).success();
            node.call("ADD", "b", &[]).success();
            node.call(
                "ADD",
                "victim",
                &[("PONTOON_FAULT", &format!("kill:{point}"))],
            )
            .killed(point);
            sound(&node, &["a", "b"]);
        }
    });
}

#[test]
fn failing_at_every_step_of_add_leaves_no_lease() {
    in_own_run(|| {
        let node = Node::new();
        let mut failures = 0;
        node.call("ADD", "a", &[]).success();
        for point in points(&node, "ADD", "b") {
            let outcome = node.call("ADD", "victim", &[("PONTOON_FAULT", &point)]);
            // At some points nothing can fail: there the ADD is complete.
            if outcome.failed("fault injected") {
                failures += 1;
            } else {
                assert_eq!(outcome.addresses().len(), 2);
                node.call("DEL", "victim", &[]).success();
            }
            assert_eq!(node.leases().len(), 4, "after {point}");
        }
        assert!(failures >= 2, "only {failures} points fail");
        sound(&node, &["a", "b"]);
    });
}

#[test]
fn killed_at_every_step_of_del() {
    in_own_run(|| {
        let node = Node::new();
        node.call("ADD", "a", &[]).success();
        node.call("ADD", "victim", &[]).success();
        let points = points(&node, "DEL", "victim");
        assert!(points.contains("ipam-unlinked"), "{points:?}");
        for point in &points {
            let node = Node::new();
            node.call("ADD", "a", &[]).success();
            node.call("ADD", "victim", &[]).success();
            node.call(
                "DEL",
                "victim",
                &[("PONTOON_FAULT", &format!("kill:{point}"))],
            )
            .killed(point);
            sound(&node, &["a"]);
        }
    });
}

#[test]
fn killed_at_any_moment() {
    in_own_run(|| {
        let node = Node::new();
        node.call("ADD", "a", &[]).success();
        for round in 0..80_u64 {
            let verb = if round % 2 == 0 { "ADD" } else { "DEL" };
            let mut child = node.start(verb, "victim");
            std::thread::sleep(Duration::from_micros(round * 61 % 4000));
            // Gone already is as good.
            let _ = child.kill();
            child.wait().expect("the child's end");
        }
        sound(&node, &["a"]);
    });
}

#[test]
fn eight_at_a_time_get_different_addresses() {
    in_own_run(|| {
        let node = Node::with(r#""subnet": "10.8.0.0/22""#);
        let workers: Vec<_> = (0..8)
            .map(|worker| {
                let mut given = Vec::new();
                let mut children = Vec::new();
                for number in 0..20 {
                    children.push(node.start("ADD", &format!("c{worker}-{number}")));
                    if children.len() == 8 {
                        given.extend(children.drain(..).map(node::finish));
                    }
                }
                given.extend(children.drain(..).map(node::finish));
                given
            })
            .collect();
        let given: Vec<String> = workers
            .iter()
            .flatten()
            .flat_map(node::Answer::addresses)
            .collect();
        assert_eq!(given.len(), 160);
        assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), 160);
        assert_eq!(node.leases().len(), 160);
    });
}
