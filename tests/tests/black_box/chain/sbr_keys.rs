//! `sbr`: what its keys mean, and that no DEL fails whatever has become of the interface.

use pontoon_lab::{Attachment, Backend, Container, Failure, Network, Outcome, Site};
use serde_json::{Value, json};

const RULE: &str = "from 10.83.2.";

#[track_caller]
fn wrong(text: impl Into<String>) -> Outcome {
    Err(Failure::new(text))
}

/// `bridge` with these addresses, then `sbr` with these keys.
fn network(addresses: Value, routes: Value, keys: Value) -> Network {
    let mut sbr = json!({ "type": "sbr" });
    for (key, value) in keys.as_object().into_iter().flatten() {
        sbr[key] = value.clone();
    }
    Network::from_list(json!({
        "cniVersion": "1.1.0", "name": "two",
        "plugins": [
            {
                "type": "bridge", "bridge": "two0", "isGateway": true,
                "ipam": { "type": "static", "addresses": addresses, "routes": routes },
            },
            sbr,
        ],
    }))
}

fn usual(keys: Value) -> Network {
    network(
        json!([
            { "address": "10.83.2.5/24", "gateway": "10.83.2.1" },
            { "address": "fd00:83:2::5/64", "gateway": "fd00:83:2::1" },
        ]),
        json!([{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }, { "dst": "10.50.0.0/16" }]),
        keys,
    )
}

fn joined(site: &Site, network: &Network) -> Outcome<(Container, Attachment)> {
    let container = Container::new("routed")?;
    let mut attachment = Attachment {
        ifname: "eth1".to_owned(),
        ..Attachment::new(&container)
    };
    site.runtime().add(network, &mut attachment)?;
    Ok((container, attachment))
}

fn rules(container: &Container) -> Outcome<String> {
    Ok(container.output("ip", &["rule"])? + &container.output("ip", &["-6", "rule"])?)
}

/// What a container with NET_ADMIN may do to its interface: DEL goes through, twice, and nothing is
/// left of the rules.
#[test]
fn no_damage_holds_a_del_up() -> Outcome {
    for keys in [
        json!({}),
        json!({ "table": 1000 }),
        json!({ "addSourceHints": true }),
    ] {
        for damage in [
            vec!["link", "set", "eth1", "down"],
            vec!["addr", "flush", "dev", "eth1"],
            vec!["link", "delete", "eth1"],
            vec!["rule", "flush"],
            vec!["route", "flush", "table", "100"],
            vec!["route", "add", "10.83.2.0/24", "dev", "lo"],
            vec!["addr", "add", "10.99.9.9/24", "dev", "eth1"],
        ] {
            for told in [true, false] {
                let site = Site::new(Backend::Nftables)?;
                let before = site.snapshot()?;
                let network = usual(keys.clone());
                let (container, mut attachment) = joined(&site, &network)?;
                let what = format!("{keys}, {damage:?}, prevResult {told}");
                container.output("ip", &damage)?;
                if !told {
                    attachment.result = None;
                }
                // sbr's own DEL first, with the interface still as it was left.
                let sbr = &network.plugins()[1];
                for _ in 0..2 {
                    let stdin =
                        network.stdin(sbr, &attachment.capabilities, attachment.result.as_ref());
                    let runtime = site.runtime();
                    let call = runtime.attachment_call("DEL", &stdin, &attachment);
                    runtime.call("sbr", &call)?.verdict(&what)?;
                }
                let left = rules(&container)?;
                if left.contains(RULE) || left.contains("fd00:83:2:") {
                    return wrong(format!("{what}: {left}"));
                }
                site.runtime().del(&network, &attachment)?;
                site.nothing_left(&before, &[&network], &what)?;
            }
        }
    }
    Ok(())
}

/// Renamed: the rules go all the same.
#[test]
fn a_new_name_holds_no_del_up() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = usual(json!({}));
    let (container, attachment) = joined(&site, &network)?;
    container.output("ip", &["link", "set", "eth1", "down"])?;
    container.output("ip", &["link", "set", "eth1", "name", "other0"])?;
    for _ in 0..2 {
        site.runtime().del(&network, &attachment)?;
    }
    let left = rules(&container)?;
    if left.contains(RULE) {
        return wrong(left);
    }
    Ok(())
}

/// An id comes again in another namespace, and the DEL of its first life never came.
#[test]
fn a_record_of_a_dead_sandbox_is_dropped() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = usual(json!({}));
    let (container, first) = joined(&site, &network)?;
    container.kill()?;
    let next = Container::new("next")?;
    let mut attachment = Attachment {
        netns: next.path_text(),
        result: None,
        ..first
    };
    let other = network.clone().with_ipam(
        "addresses",
        json!([{ "address": "10.83.2.77/24", "gateway": "10.83.2.1" }]),
    );
    let other = other.with_ipam("routes", json!([{ "dst": "0.0.0.0/0" }]));
    let prev = {
        // The bridge's own record of the first life is in the way of its ADD: its DEL comes first.
        site.runtime()
            .del(&network.clone().first_only(), &attachment)?;
        site.runtime()
            .add(&other.clone().first_only(), &mut attachment)?
    };
    attachment.result = Some(prev);
    let sbr = &other.plugins()[1];
    for verb in ["ADD", "CHECK", "DEL", "DEL"] {
        let stdin = other.stdin(sbr, &attachment.capabilities, attachment.result.as_ref());
        let runtime = site.runtime();
        let call = runtime.attachment_call(verb, &stdin, &attachment);
        runtime.call("sbr", &call)?.verdict(verb)?;
        let routes = next.output("ip", &["route", "show", "table", "all"])?;
        if routes.contains("10.50.0.0/16") {
            return wrong(format!("{verb}: a route of the first life: {routes}"));
        }
    }
    site.runtime().del(&other, &attachment)?;
    Ok(())
}

/// `table`: rules lead there, and no route is made or moved.
#[test]
fn table_adds_rules_only() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = usual(json!({ "table": 1000 }));
    let plain = network.clone().first_only();
    let routes = |container: &Container| -> Outcome<String> {
        let v4 = container.output("ip", &["route", "show", "table", "all"])?;
        let v6 = container.output("ip", &["-6", "route", "show", "table", "main"])?;
        // A bridge's port takes a moment to forward.
        Ok((v4 + &v6).replace(" linkdown", ""))
    };
    let (container, attachment) = joined(&site, &plain)?;
    let before = routes(&container)?;
    site.runtime().del(&plain, &attachment)?;
    let (container, attachment) = joined(&site, &network)?;
    site.runtime().check(&network, &attachment)?;
    let rules = rules(&container)?;
    for rule in [
        "from 10.83.2.5 lookup 1000",
        "from fd00:83:2::5 lookup 1000",
    ] {
        if !rules.contains(rule) {
            return wrong(rules);
        }
    }
    if routes(&container)? != before {
        return wrong(format!("{before}\nis now\n{}", routes(&container)?));
    }
    // What the admin has put into the table stays when the rules go.
    container.output(
        "ip",
        &[
            "route",
            "add",
            "10.60.0.0/16",
            "dev",
            "eth1",
            "table",
            "1000",
        ],
    )?;
    let sbr = &network.plugins()[1];
    let stdin = network.stdin(sbr, &attachment.capabilities, attachment.result.as_ref());
    let runtime = site.runtime();
    let call = runtime.attachment_call("DEL", &stdin, &attachment);
    runtime.call("sbr", &call)?.verdict("DEL")?;
    let kept = container.output("ip", &["route", "show", "table", "1000"])?;
    if !kept.contains("10.60.0.0/16") {
        return wrong(format!("the admin's route is gone: {kept}"));
    }
    site.runtime().del(&network, &attachment)?;
    Ok(())
}

/// `addSourceHints`: a socket without a source address reaches the subnet, from the right address.
#[test]
fn source_hints_keep_the_subnet_in_main() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    for (hints, expected) in [(true, true), (false, false)] {
        let network = usual(json!({ "addSourceHints": hints }));
        let (container, attachment) = joined(&site, &network)?;
        site.runtime().check(&network, &attachment)?;
        let v4 = container.output("ip", &["route", "show", "table", "main"])?;
        let v6 = container.output("ip", &["-6", "route", "show", "table", "main"])?;
        let wanted = ["10.83.2.0/24", "scope link", "src 10.83.2.5"];
        let there = wanted.iter().all(|word| v4.contains(word));
        let there6 = ["fd00:83:2::/64", "src fd00:83:2::5"]
            .iter()
            .all(|word| v6.contains(word));
        if (there, there6) != (expected, expected) || v4.contains("10.50.0.0") {
            return wrong(format!("hints {hints}: {v4} {v6}"));
        }
        site.runtime().del(&network, &attachment)?;
    }
    Ok(())
}

/// A route by a gateway is in the table of the address whose subnet holds the gateway, alone.
#[test]
fn gateways_routes_go_to_their_subnets_table() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = network(
        json!([
            { "address": "192.168.1.209/24", "gateway": "192.168.1.1" },
            { "address": "192.168.101.209/24", "gateway": "192.168.101.1" },
        ]),
        json!([
            { "dst": "192.168.2.0/24", "gw": "192.168.1.2" },
            { "dst": "192.168.3.0/24", "gw": "192.168.101.2" },
        ]),
        json!({}),
    );
    let (container, attachment) = joined(&site, &network)?;
    site.runtime().check(&network, &attachment)?;
    for (table, has, lacks) in [
        ("100", "192.168.2.0/24 via 192.168.1.2", "192.168.3.0/24"),
        ("101", "192.168.3.0/24 via 192.168.101.2", "192.168.2.0/24"),
    ] {
        let routes = container.output("ip", &["route", "show", "table", table])?;
        if !routes.contains(has) || routes.contains(lacks) {
            return wrong(format!("table {table}: {routes}"));
        }
    }
    site.runtime().del(&network, &attachment)?;
    Ok(())
}
