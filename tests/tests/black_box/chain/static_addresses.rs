//! `static`: addresses of the configuration, called in process by `bridge` and on its own.

use pontoon_lab::{Attachment, Backend, Call, Container, Failure, Network, Outcome, Site};
use serde_json::{Value, json};

fn network(site: &Site) -> Network {
    Network::from_list(json!({
        "cniVersion": "1.1.0", "name": "fixed",
        "plugins": [{
            "type": "bridge", "bridge": "fixed0", "isGateway": true, "ipMasq": true,
            "ipMasqBackend": site.backend.key(), "capabilities": { "ips": true },
            "ipam": {
                "type": "static",
                "addresses": [
                    { "address": "10.80.0.7/24", "gateway": "10.80.0.1" },
                    { "address": "fd00:80::7/64", "gateway": "fd00:80::1" },
                ],
                "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
                "dns": { "nameservers": ["192.0.2.53"] },
            },
        }],
    }))
}

fn addresses(result: &Value) -> Vec<&str> {
    let ips = result["ips"].as_array().into_iter().flatten();
    ips.filter_map(|ip| ip["address"].as_str()).collect()
}

#[test]
fn a_bridge_with_static_addresses() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let before = site.snapshot()?;
    let network = network(&site);
    site.runtime().status(&network)?;
    let (container, mut attachment) = site.join("fixed", &network)?;
    let result = attachment.result.clone().unwrap_or_default();
    if addresses(&result) != ["10.80.0.7/24", "fd00:80::7/64"]
        || result["ips"][0]["interface"] != 2
        || result["dns"]["nameservers"][0] != "192.0.2.53"
    {
        return Err(Failure::new(result.to_string()));
    }
    site.runtime().check(&network, &attachment)?;
    let outside = site.host.serve_outside(80)?;
    for target in [pontoon_lab::OUTSIDE_V4, pontoon_lab::OUTSIDE_V6] {
        let asked = container
            .run(|| pontoon_lab::tcp((target, 80).into(), std::time::Duration::from_secs(2)))?;
        asked.map_err(|silence| Failure::new(format!("{target}: {silence}")))?;
    }
    drop(outside);
    // Another address than the result's is a difference.
    let changed = network
        .clone()
        .with_ipam("addresses", json!([{ "address": "10.80.0.8/24" }]));
    match site.runtime().check(&changed, &attachment) {
        Err(error) if error.code == 104 && error.text().contains("10.80.0.8/24") => {}
        other => return Err(Failure::new(format!("CHECK of another address: {other:?}"))),
    }
    attachment.netns.clear();
    attachment.result = None;
    for _ in 0..2 {
        site.runtime().del(&network, &attachment)?;
    }
    drop(container);
    site.nothing_left(&before, &[&network], "DEL")
}

#[test]
fn the_runtime_replaces_the_addresses() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = network(&site);
    let container = Container::new("asked")?;
    let mut attachment = Attachment::new(&container);
    attachment
        .capabilities
        .insert("ips".to_owned(), json!(["10.80.0.9/24"]));
    let result = site.runtime().add(&network, &mut attachment)?;
    if addresses(&result) != ["10.80.0.9/24"] {
        return Err(Failure::new(result.to_string()));
    }
    Ok(site.runtime().del(&network, &attachment)?)
}

/// As another vendor's plugin calls it: the result of an address plugin names no interface.
#[test]
fn on_its_own_in_every_version() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    for version in [
        "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
    ] {
        let stdin = json!({
            "cniVersion": version, "name": "fixed", "type": "macvlan",
            "ipam": { "type": "static", "addresses": [{ "address": "10.80.0.7/24" }] },
        });
        let attachment = Attachment::by_path("alone", "/run/netns/never-was".to_owned());
        for verb in ["ADD", "DEL", "DEL"] {
            let call = site.runtime().attachment_call(verb, &stdin, &attachment);
            let finished = site.runtime().call("static", &call)?;
            finished.verdict(&format!("{verb} in {version}"))?;
            if verb == "DEL" {
                continue;
            }
            let result: Value =
                serde_json::from_str(&finished.stdout).map_err(Failure::act("read the result"))?;
            let address = if version < "0.3.0" {
                &result["ip4"]["ip"]
            } else {
                &result["ips"][0]["address"]
            };
            if address != "10.80.0.7/24" || !result["interfaces"].is_null() {
                return Err(Failure::new(format!("{version}: {result}")));
            }
        }
    }
    let stdin = json!({ "cniVersion": "1.1.0", "name": "fixed", "ipam": { "type": "static", "addresses": [{ "address": "10.80.0.7" }] } });
    let call = Call::new("STATUS", site.runtime().programs().dir(), stdin.to_string());
    match site.runtime().call("static", &call)?.verdict("STATUS") {
        Err(error) if error.code == 7 && error.msg.contains("invalid CIDR 10.80.0.7") => Ok(()),
        other => Err(Failure::new(format!(
            "STATUS of a broken configuration: {other:?}"
        ))),
    }
}
