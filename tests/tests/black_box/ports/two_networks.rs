//! A container on two networks, its ports published through one of them: who asks at the host's
//! address is answered, and seen by his own address where the answer passes the host anyway.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pontoon_lab::{
    Attachment, Backend, Container, Failure, HOST_V4, HOST_V6, Network, NoReply, OUTSIDE_V4,
    OUTSIDE_V6, Outcome, Reply, Site, tcp, udp,
};
use serde_json::{Value, json};

const PUBLISHED: u16 = 8080;
const SERVED: u16 = 80;
const WAIT: Duration = Duration::from_secs(2);
const ONE: [&str; 2] = ["10.63.1.0/24", "fd00:63:1::/64"];
const TWO: [&str; 2] = ["10.63.2.0/24", "fd00:63:2::/64"];
const THREE: [&str; 2] = ["10.63.3.0/24", "fd00:63:3::/64"];

/// Who asks.
#[derive(Clone, Copy)]
enum Client<'a> {
    Outside,
    Host,
    Guest(&'a str, &'a (Container, Attachment)),
}

impl Client<'_> {
    fn name(self) -> String {
        match self {
            Self::Outside => "outside".to_owned(),
            Self::Host => "the host".to_owned(),
            Self::Guest(name, _) => name.to_owned(),
        }
    }

    fn address(self, v6: bool) -> Option<IpAddr> {
        match self {
            Self::Outside => Some(if v6 { OUTSIDE_V6 } else { OUTSIDE_V4 }),
            Self::Host => Some(if v6 { HOST_V6 } else { HOST_V4 }),
            Self::Guest(_, guest) => guest.1.address(v6)?.parse().ok(),
        }
    }

    fn ask(self, site: &Site, v6: bool, is_udp: bool) -> Outcome<Result<Reply, NoReply>> {
        let target = SocketAddr::new(if v6 { HOST_V6 } else { HOST_V4 }, PUBLISHED);
        let ask = || {
            if is_udp {
                udp(target, WAIT)
            } else {
                tcp(target, WAIT)
            }
        };
        match self {
            Self::Outside => site.host.run_outside(ask),
            Self::Host => site.host.run(ask),
            Self::Guest(_, guest) => guest.0.run(ask),
        }
    }
}

/// What of these is wrong: each must be answered by the container `by`, and those with `true` must be
/// seen by their own address.
fn faults(
    site: &Site,
    by: &str,
    when: &str,
    clients: &[(Client<'_>, bool)],
) -> Outcome<Vec<String>> {
    let mut wrong = Vec::new();
    for &(client, kept) in clients {
        for v6 in [false, true] {
            for is_udp in [false, true] {
                let told = match client.ask(site, v6, is_udp)? {
                    Err(silence) => silence.to_string(),
                    Ok(reply) if reply.server != by => format!("answered by {}", reply.server),
                    Ok(reply) if kept && client.address(v6) != Some(reply.peer) => {
                        format!("seen as {}", reply.peer)
                    }
                    Ok(_) => continue,
                };
                let family = if v6 { "IPv6" } else { "IPv4" };
                let protocol = if is_udp { "UDP" } else { "TCP" };
                wrong.push(format!(
                    "{}, {when}: {family} {protocol} from {}: {told}",
                    site.backend,
                    client.name()
                ));
            }
        }
    }
    Ok(wrong)
}

/// What trace says of packets that are answered, and whether they went as it says.
fn predictions(site: &Site, from: &str) -> Outcome<Vec<String>> {
    let mut wrong = Vec::new();
    for host in [HOST_V4, HOST_V6] {
        let to = SocketAddr::new(host, PUBLISHED).to_string();
        for protocol in ["tcp", "udp"] {
            let said = site.pontoon(&["trace", from, &to, "--proto", protocol, "--live"])?;
            if said.status != Some(0) {
                wrong.push(format!(
                    "trace --live {from} {to} {protocol}: {}",
                    said.stdout
                ));
            }
        }
    }
    Ok(wrong)
}

fn verdict(wrong: &[String]) -> Outcome {
    match wrong {
        [] => Ok(()),
        _ => Err(Failure::new(wrong.join("\n"))),
    }
}

/// The container's attachment by this interface, with or without its ports.
fn attachment(container: &Container, interface: &str, ports: bool) -> Attachment {
    let mut attachment = Attachment::new(container);
    interface.clone_into(&mut attachment.ifname);
    if !ports {
        return attachment;
    }
    attachment
        .publish("", PUBLISHED, SERVED, "tcp")
        .publish("", PUBLISHED, SERVED, "udp")
}

fn networks(site: &Site, keys: Option<Value>) -> [Network; 3] {
    let make = |name: &str, subnets: &[&str]| match &keys {
        Some(keys) => site.firewalled(name, subnets, keys.clone()),
        None => site.network(name, &format!("br-{name}"), subnets),
    };
    [make("one", &ONE), make("two", &TWO), make("three", &THREE)]
}

/// Runtimes send the ports with each network: the first publishes, and hands over when it goes.
fn with_each_network(backend: Backend, bridge_nf_call: bool, keys: Option<Value>) -> Outcome {
    let site = Site::new(backend)?;
    site.host.bridge_nf_call(bridge_nf_call)?;
    let before = site.snapshot()?;
    let [one, two, three] = networks(&site, keys);
    let runtime = site.runtime();
    let container = Container::new("web")?;
    let _server = container.serve(SERVED)?;
    let mut first = attachment(&container, "eth0", true);
    let mut second = attachment(&container, "eth1", true);
    let (sibling, peer) = (site.join("sibling", &one)?, site.join("peer", &two)?);
    let stranger = site.join("stranger", &three)?;
    let [sibling_asks, peer_asks, stranger_asks] = [
        Client::Guest("the first network", &sibling),
        Client::Guest("the second network", &peer),
        Client::Guest("a third network", &stranger),
    ];
    let mut wrong = Vec::new();
    let mut look = |when: &str, clients: &[(Client<'_>, bool)]| -> Outcome {
        wrong.extend(faults(&site, &container.id, when, clients)?);
        Ok(())
    };
    let elsewhere = [(Client::Outside, true), (stranger_asks, true)];

    runtime.add(&one, &mut first)?;
    look("on one", &elsewhere)?;
    look("on one", &[(peer_asks, true), (sibling_asks, false)])?;
    runtime.add(&two, &mut second)?;
    look("on both", &elsewhere)?;
    look(
        "on both",
        &[
            (peer_asks, false),
            (sibling_asks, false),
            (Client::Host, true),
        ],
    )?;
    runtime.check(&one, &first)?;
    runtime.check(&two, &second)?;
    wrong.extend(predictions(&site, &peer.0.id)?);
    let mut look = |when: &str, clients: &[(Client<'_>, bool)]| -> Outcome {
        wrong.extend(faults(&site, &container.id, when, clients)?);
        Ok(())
    };

    // The second network goes and comes.
    runtime.del(&two, &second)?;
    look("on one again", &[(peer_asks, true), (sibling_asks, false)])?;
    runtime.check(&one, &first)?;
    runtime.add(&two, &mut second)?;
    // The first one hands over.
    runtime.del(&one, &first)?;
    look("handed over", &elsewhere)?;
    look("handed over", &[(sibling_asks, true), (peer_asks, false)])?;
    runtime.check(&two, &second)?;
    runtime.add(&one, &mut first)?;
    look("published by the second", &elsewhere)?;
    look(
        "published by the second",
        &[(sibling_asks, false), (peer_asks, false)],
    )?;
    runtime.check(&one, &first)?;
    runtime.check(&two, &second)?;

    runtime.del(&two, &second)?;
    runtime.del(&one, &first)?;
    for (network, guest) in [(&one, &sibling), (&two, &peer), (&three, &stranger)] {
        runtime.del(network, &guest.1)?;
    }
    verdict(&wrong)?;
    site.nothing_left(
        &before,
        &[&one, &two, &three],
        "ADD and DEL of two networks",
    )
}

#[test]
fn iptables_nft_without_bridge_nf_call() -> Outcome {
    with_each_network(Backend::IptablesNft, false, None)
}

#[test]
fn iptables_nft_with_bridge_nf_call() -> Outcome {
    with_each_network(Backend::IptablesNft, true, None)
}

#[test]
fn iptables_legacy_without_bridge_nf_call() -> Outcome {
    with_each_network(Backend::IptablesLegacy, false, None)
}

#[test]
fn nftables_without_bridge_nf_call() -> Outcome {
    with_each_network(Backend::Nftables, false, None)
}

#[test]
fn nftables_with_bridge_nf_call() -> Outcome {
    with_each_network(Backend::Nftables, true, None)
}

#[test]
fn among_closed_networks() -> Outcome {
    for backend in [Backend::Nftables, Backend::IptablesNft] {
        with_each_network(backend, false, Some(json!({ "profile": "docker" })))?;
    }
    Ok(())
}

#[test]
fn where_siblings_are_kept_apart() -> Outcome {
    for bridge_nf_call in [false, true] {
        let keys = Some(json!({ "profile": "docker", "icc": false }));
        with_each_network(Backend::Nftables, bridge_nf_call, keys.clone())?;
        with_each_network(Backend::IptablesNft, bridge_nf_call, keys)?;
    }
    Ok(())
}

/// A network without published ports, of this kind: its clients, or its subnet's.
fn without_portmap(site: &Site, kind: &str) -> Network {
    let (own, subnets) = match kind {
        "macvlan" => (
            json!({ "type": "macvlan", "master": "eth0", "mode": "bridge" }),
            ["198.18.7.64/26", "2001:db8:fe::/64"],
        ),
        "ptp" => (
            json!({ "type": "ptp", "ipMasq": true, "ipMasqBackend": site.backend.key() }),
            TWO,
        ),
        _ => (
            json!({ "type": "bridge", "bridge": "br-two", "isGateway": true }),
            TWO,
        ),
    };
    let mut plugin = own;
    plugin["ipam"] = match kind {
        // In the network of the uplink.
        "macvlan" => json!({
            "type": "static",
            "addresses": [{ "address": "198.18.7.70/24" }, { "address": "2001:db8:fe::70/64" }],
        }),
        _ => json!({
            "type": "host-local", "dataDir": site.leases.path(),
            "ranges": [[{ "subnet": subnets[0] }], [{ "subnet": subnets[1] }]],
            "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
        }),
    };
    Network::from_list(json!({ "cniVersion": "1.1.0", "name": "two", "plugins": [plugin] }))
}

/// The second network has no portmap in its chain; it comes before the one that has, or after it.
fn beside_one_without_portmap(backend: Backend, kind: &str, comes_first: bool) -> Outcome {
    let site = Site::new(backend)?;
    site.host.bridge_nf_call(false)?;
    let before = site.snapshot()?;
    let one = site.network("one", "br-one", &ONE);
    let two = without_portmap(&site, kind);
    let runtime = site.runtime();
    let container = Container::new("web")?;
    let _server = container.serve(SERVED)?;
    let mut published = attachment(&container, "net0", true);
    let mut other = attachment(&container, "net1", false);
    if comes_first {
        runtime.add(&two, &mut other)?;
    }
    runtime.add(&one, &mut published)?;
    if !comes_first {
        runtime.add(&two, &mut other)?;
    }
    let peer = if kind == "macvlan" {
        None
    } else {
        Some(site.join("peer", &two)?)
    };
    let when = format!(
        "beside {kind}, which came {}",
        if comes_first { "first" } else { "later" }
    );
    let asks = peer.as_ref().map_or(Client::Outside, |peer| {
        Client::Guest("the second network", peer)
    });
    let mut clients = vec![(asks, false)];
    if !comes_first || kind == "macvlan" {
        // Else a UDP server at any address answers the host from that of the default route.
        clients.push((Client::Host, false));
    }
    let mut wrong = faults(&site, &container.id, &when, &clients)?;
    runtime.check(&one, &published)?;
    runtime.del(&two, &other)?;
    let when = format!("after {kind} has gone");
    wrong.extend(faults(
        &site,
        &container.id,
        &when,
        &[(asks, true), (Client::Host, true)],
    )?);
    runtime.del(&one, &published)?;
    if let Some(peer) = &peer {
        runtime.del(&two, &peer.1)?;
    }
    verdict(&wrong)?;
    site.nothing_left(&before, &[&one, &two], &format!("DEL beside {kind}"))
}

#[test]
fn beside_a_bridge_without_portmap() -> Outcome {
    for comes_first in [false, true] {
        beside_one_without_portmap(Backend::Nftables, "bridge", comes_first)?;
        beside_one_without_portmap(Backend::IptablesNft, "bridge", comes_first)?;
    }
    Ok(())
}

#[test]
fn beside_a_macvlan_on_the_lan_of_the_client() -> Outcome {
    for comes_first in [false, true] {
        beside_one_without_portmap(Backend::Nftables, "macvlan", comes_first)?;
        beside_one_without_portmap(Backend::IptablesNft, "macvlan", comes_first)?;
    }
    Ok(())
}

#[test]
fn beside_ptp() -> Outcome {
    for comes_first in [false, true] {
        beside_one_without_portmap(Backend::Nftables, "ptp", comes_first)?;
        beside_one_without_portmap(Backend::IptablesNft, "ptp", comes_first)?;
    }
    Ok(())
}
