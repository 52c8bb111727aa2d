//! DEL of a whole chain's plugins in any order, twice, with and without namespace and result, before
//! and after all rules were flushed: always exit 0, and nothing left.

use pontoon_lab::{Attachment, Backend, Container, Failure, Network, Outcome, Site};
use serde_json::{Value, json};

/// All plugins that leave something, in one chain.
fn network(site: &Site) -> Network {
    let mut list = site.named_network("order", 86, json!({})).list().clone();
    let more = [
        json!({ "type": "firewall", "backend": site.backend.key(), "profile": "docker" }),
        json!({ "type": "tuning", "sysctl": { "net.ipv4.conf.IFNAME.arp_filter": "1" } }),
        json!({
            "type": "bandwidth", "ingressRate": 8_000_000, "ingressBurst": 800_000,
            "egressRate": 8_000_000, "egressBurst": 800_000,
        }),
        json!({ "type": "sbr" }),
    ];
    if let Some(plugins) = list["plugins"].as_array_mut() {
        plugins.extend(more);
    }
    Network::from_list(list)
}

/// The orders that are tried: as ADD went, the other way round, and each rotation of a shuffle.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let forward: Vec<usize> = (0..count).collect();
    let backward: Vec<usize> = (0..count).rev().collect();
    // Three and seven have no divisor in common.
    let shuffled: Vec<usize> = (0..count).map(|place| place * 3 % count).collect();
    let mut all = vec![forward, backward];
    for turn in 0..count {
        let mut order = shuffled.clone();
        order.rotate_left(turn);
        all.push(order);
    }
    all
}

/// What the runtime has forgotten of an attachment.
#[derive(Debug, Clone, Copy)]
struct Lost {
    namespace: bool,
    result: bool,
    rules: bool,
}

fn del(site: &Site, network: &Network, attachment: &Attachment, order: &[usize]) -> Outcome {
    let runtime = site.runtime();
    for place in order {
        let plugin: &Value = &network.plugins()[*place];
        let previous = attachment.result.as_ref();
        let stdin = network.stdin(plugin, &attachment.capabilities, previous);
        let kind = plugin["type"].as_str().unwrap_or_default();
        let call = runtime.attachment_call("DEL", &stdin, attachment);
        runtime.call(kind, &call)?.verdict(&format!("{kind} DEL"))?;
    }
    Ok(())
}

fn every_order(backend: Backend) -> Outcome {
    let site = Site::new(backend)?;
    let network = network(&site);
    let before = site.snapshot()?;
    let count = network.plugins().len();
    for (number, order) in orders(count).iter().enumerate() {
        let lost = Lost {
            namespace: number % 2 == 1,
            result: number / 2 % 2 == 1,
            rules: number % 3 == 2,
        };
        let container = Container::new("order")?;
        let mut attachment = Attachment::new(&container)
            .publish("", 8080, 80, "tcp")
            .publish("", 8080, 80, "udp");
        site.runtime().add(&network, &mut attachment)?;
        if lost.rules {
            site.flush()?;
        }
        if lost.namespace {
            attachment.netns.clear();
        }
        if lost.result {
            attachment.result = None;
        }
        let tried = || -> Outcome {
            for _ in 0..2 {
                del(&site, &network, &attachment, order)?;
            }
            site.nothing_left(&before, &[&network], "DEL")
        };
        tried().map_err(|error| {
            Failure::new(format!("{backend}, order {order:?}, {lost:?}: {error}"))
        })?;
    }
    Ok(())
}

#[test]
fn with_iptables_nft() -> Outcome {
    every_order(Backend::IptablesNft)
}

#[test]
fn with_iptables_legacy() -> Outcome {
    every_order(Backend::IptablesLegacy)
}

#[test]
fn with_nftables() -> Outcome {
    every_order(Backend::Nftables)
}
