//! The source address that the outside sees: the host's, or the one that `snat` names.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnetwork::IpNetwork;
use pontoon_lab::{BOTH, Backend, Failure, OUTSIDE_V4, OUTSIDE_V6, Outcome, Site};
use pontoon_netlink::RouteSocket;
use serde_json::{Value, json};

const WAIT: Duration = Duration::from_secs(3);

/// Gives the host more addresses on its uplink.
fn add_addresses(site: &Site, addresses: &[&str]) -> Outcome {
    let act = "add addresses to the uplink";
    site.host.run(|| -> Outcome {
        let mut socket = RouteSocket::open().map_err(Failure::act(act))?;
        let index = socket
            .link_by_name("eth0")
            .map_err(Failure::act(act))?
            .map_or(0, |link| link.index);
        for address in addresses {
            let address: IpNetwork = address.parse().map_err(Failure::act(act))?;
            socket
                .add_address(index, address, true)
                .map_err(Failure::act(act))?;
        }
        Ok(())
    })?
}

/// The outside sees these sources with every backend.
fn check(snat: &Value, v4: &str, v6: &str) -> Outcome {
    Backend::ALL.into_iter().try_for_each(|backend| {
        seen(backend, snat, [(OUTSIDE_V4, v4), (OUTSIDE_V6, v6)])
            .map_err(|error| Failure::new(format!("{backend}, snat {snat}: {error}")))
    })
}

fn seen(backend: Backend, snat: &Value, expected: [(IpAddr, &str); 2]) -> Outcome {
    let site = Site::new(backend)?;
    if !snat.is_null() {
        add_addresses(&site, &["198.18.7.9/24", "2001:db8:fe::9/64"])?;
    }
    let before = site.snapshot()?;
    let network = site
        .network("egress", "egress0", &["10.64.0.0/24", "fd00:64::/64"])
        .with("bridge", "snat", snat.clone())
        .with("bridge", "ipMasq", json!(snat.is_null()));
    let (container, attachment) = site.join("traveller", &network)?;
    let server = site.host.serve_outside(7000)?;
    for (outside, source) in expected {
        let target = SocketAddr::new(outside, 7000);
        for (name, ask) in BOTH {
            let reply = container
                .run(|| ask(target, WAIT))?
                .map_err(|silence| Failure::new(format!("{name} to {target}: {silence}")))?;
            if reply.peer.to_string() != source {
                return Err(Failure::new(format!(
                    "{name} to {target}: seen as {}, not as {source}",
                    reply.peer
                )));
            }
        }
    }
    drop(server);
    site.runtime().check(&network, &attachment)?;
    site.runtime().del(&network, &attachment)?;
    site.nothing_left(&before, &[&network], "ADD and DEL")
}

#[test]
fn without_snat_the_hosts_own() -> Outcome {
    check(&Value::Null, "198.18.7.1", "2001:db8:fe::1")
}

// The kernel itself would take the first IPv4 address, and the last IPv6 address.
#[test]
fn one_source_per_family() -> Outcome {
    check(
        &json!(["198.18.7.9", "2001:db8:fe::1"]),
        "198.18.7.9",
        "2001:db8:fe::1",
    )
}

#[test]
fn by_outgoing_interface() -> Outcome {
    let snat = json!([
        { "source": "198.18.7.9", "out": "eth0" },
        { "source": "2001:db8:fe::1", "out": "eth0" },
    ]);
    check(&snat, "198.18.7.9", "2001:db8:fe::1")
}

#[test]
fn masquerade_by_other_interfaces() -> Outcome {
    let snat = json!([
        { "source": "198.18.7.9", "out": "eth7" },
        { "source": "2001:db8:fe::1", "out": "eth7" },
    ]);
    check(&snat, "198.18.7.1", "2001:db8:fe::9")
}

#[test]
fn a_source_that_the_host_lacks_is_refused() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let before = site.snapshot()?;
    let network = site.network("egress", "egress0", &["10.64.0.0/24"]).with(
        "bridge",
        "snat",
        json!(["198.18.7.77"]),
    );
    let error = site
        .join("traveller", &network)
        .err()
        .ok_or_else(|| Failure::new("ADD succeeded"))?;
    if !error.to_string().contains("198.18.7.77") {
        return Err(Failure::new(format!("the address is not named: {error}")));
    }
    before.same_as(&site.snapshot()?, "a refused ADD")?;
    // Unless the admin says that it will be there.
    site.join(
        "traveller",
        &network.with("bridge", "snatUnchecked", json!(true)),
    )
    .map(drop)
}
