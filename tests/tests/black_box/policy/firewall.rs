//! The firewall plugin in its chain: what a network promises, with real packets, and
//! that it goes without a trace.

use std::net::SocketAddr;
use std::time::Duration;

use pontoon_lab::{
    Attachment, BOTH, Backend, Container, Echo, Failure, HOST_V4, HOST_V6, Network, OUTSIDE_V4,
    OUTSIDE_V6, Outcome, Site,
};
use serde_json::json;

const LONG: Duration = Duration::from_secs(3);
const SHORT: Duration = Duration::from_millis(300);
const LAN: [&str; 2] = ["10.81.0.0/24", "fd00:81::/64"];
const TWO: [&str; 2] = ["10.82.0.0/24", "fd00:82::/64"];

/// A container with a server on port 80, called by a name.
struct Guest {
    container: Container,
    attachment: Attachment,
    _server: Echo,
}

impl Guest {
    fn join(site: &Site, network: &Network, name: &str) -> Outcome<Self> {
        Self::with(site, network, name, |attachment| attachment)
    }

    fn with(
        site: &Site,
        network: &Network,
        name: &str,
        change: impl FnOnce(Attachment) -> Attachment,
    ) -> Outcome<Self> {
        let container = Container::new(name)?;
        let mut attachment = change(Attachment::new(&container));
        attachment.args = format!("IgnoreUnknown=1;K8S_POD_NAME={name}");
        site.runtime().add(network, &mut attachment)?;
        let server = container.serve(80)?;
        Ok(Self {
            container,
            attachment,
            _server: server,
        })
    }

    fn linked(site: &Site, network: &Network, name: &str, to: &str) -> Outcome<Self> {
        let ports = json!([{ "port": 80, "protocol": "tcp" }, { "port": 80, "protocol": "udp" }]);
        Self::with(site, network, name, |mut attachment| {
            let links = json!([{ "container": to, "alias": "db", "ports": ports }]);
            attachment.capabilities.insert("links".to_owned(), links);
            attachment
        })
    }

    fn at(&self, port: u16) -> Outcome<Vec<SocketAddr>> {
        [false, true]
            .into_iter()
            .map(|v6| {
                let address = self.attachment.address(v6).unwrap_or_default();
                let address = address.parse().map_err(Failure::act("parse an address"))?;
                Ok(SocketAddr::new(address, port))
            })
            .collect()
    }

    fn leave(&self, site: &Site, network: &Network) -> Outcome {
        Ok(site.runtime().del(network, &self.attachment)?)
    }
}

fn host(port: u16) -> Vec<SocketAddr> {
    [HOST_V4, HOST_V6]
        .map(|ip| SocketAddr::new(ip, port))
        .to_vec()
}

fn outside(port: u16) -> Vec<SocketAddr> {
    [OUTSIDE_V4, OUTSIDE_V6]
        .map(|ip| SocketAddr::new(ip, port))
        .to_vec()
}

/// Who tries.
#[derive(Clone, Copy)]
enum From<'a> {
    Outside,
    Host,
    Guest(&'a Guest),
}

#[track_caller]
fn check(site: &Site, from: From<'_>, to: &[SocketAddr], arrives: bool) {
    let wait = if arrives { LONG } else { SHORT };
    for target in to.iter().copied() {
        for (name, ask) in BOTH {
            let answer = match from {
                From::Outside => site.host.run_outside(|| ask(target, wait)),
                From::Host => site.host.run(|| ask(target, wait)),
                From::Guest(guest) => guest.container.run(|| ask(target, wait)),
            };
            assert_eq!(
                answer.unwrap().is_ok(),
                arrives,
                "{}: {name} to {target}: {:#?}",
                site.backend,
                site.snapshot().unwrap()
            );
        }
    }
}

#[test]
fn the_docker_profile_isolates_and_closes() -> Outcome {
    Backend::ALL.into_iter().try_for_each(docker)
}

fn docker(backend: Backend) -> Outcome {
    let site = Site::new(backend)?;
    site.host.teach_outside(&[LAN[0], LAN[1], TWO[0], TWO[1]])?;
    let before = site.snapshot()?;
    let lan = site.firewalled("lan", &LAN, json!({ "profile": "docker" }));
    let two = site.firewalled("two", &TWO, json!({}));
    let _beyond = site.host.serve_outside(80)?;
    let web = Guest::with(&site, &lan, "web", |attachment| {
        attachment
            .publish("", 8080, 80, "tcp")
            .publish("", 8080, 80, "udp")
    })?;
    let sibling = Guest::join(&site, &lan, "sibling")?;
    let stranger = Guest::join(&site, &two, "stranger")?;
    check(&site, From::Guest(&sibling), &web.at(80)?, true);
    check(&site, From::Guest(&sibling), &outside(80), true);
    check(&site, From::Host, &web.at(80)?, true);
    check(&site, From::Outside, &web.at(80)?, false);
    check(&site, From::Outside, &stranger.at(80)?, true);
    check(&site, From::Guest(&stranger), &web.at(80)?, false);
    check(&site, From::Guest(&web), &stranger.at(80)?, false);
    for from in [From::Outside, From::Guest(&sibling), From::Guest(&stranger)] {
        check(&site, from, &host(8080), true);
    }
    site.runtime().check(&lan, &web.attachment)?;
    // The next ADD brings a changed conflist into force.
    let trusting = lan
        .clone()
        .with("firewall", "trustedInterfaces", json!(["eth0"]));
    let late = Guest::join(&site, &trusting, "late")?;
    check(&site, From::Outside, &web.at(80)?, true);
    check(&site, From::Guest(&stranger), &web.at(80)?, false);
    // It repairs rules that were flushed.
    site.flush()?;
    check(&site, From::Guest(&stranger), &web.at(80)?, true);
    let later = Guest::join(&site, &lan, "later")?;
    check(&site, From::Guest(&stranger), &web.at(80)?, false);
    check(&site, From::Outside, &web.at(80)?, false);
    for guest in [&web, &sibling, &late, &later] {
        guest.leave(&site, &lan)?;
        guest.leave(&site, &lan)?;
    }
    stranger.leave(&site, &two)?;
    site.nothing_left(&before, &[&lan, &two], "DEL")
}

/// A bridge with neither masquerade nor a policy is one of ours, and kept apart from who isolates.
#[test]
fn an_isolated_network_is_isolated_from_bare_bridges() -> Outcome {
    for backend in Backend::ALL {
        let site = Site::new(backend)?;
        let before = site.snapshot()?;
        let isolated = json!({ "isolation": true, "directAccess": "open" });
        let lan = site.firewalled("lan", &LAN, isolated);
        let bare = site
            .network("bare", "br-bare", &TWO)
            .with("bridge", "ipMasq", json!(false));
        let one = Guest::join(&site, &lan, "one")?;
        let stranger = Guest::join(&site, &bare, "stranger")?;
        check(&site, From::Guest(&one), &stranger.at(80)?, false);
        check(&site, From::Guest(&stranger), &one.at(80)?, false);
        check(&site, From::Host, &stranger.at(80)?, true);
        site.runtime().check(&bare, &stranger.attachment)?;
        one.leave(&site, &lan)?;
        stranger.leave(&site, &bare)?;
        site.nothing_left(&before, &[&lan, &bare], "DEL")?;
    }
    Ok(())
}

fn icc_off(backend: Backend, bridge_nf_call: bool) -> Outcome {
    let site = Site::new(backend)?;
    let before = site.snapshot()?;
    let keys = json!({ "profile": "docker", "icc": false });
    let lan = site.firewalled("lan", &LAN, keys);
    let client = Guest::linked(&site, &lan, "client", "DB")?;
    site.host.bridge_nf_call(bridge_nf_call)?;
    let other = Guest::join(&site, &lan, "other")?;
    let first = Guest::with(&site, &lan, "db", |attachment| {
        attachment
            .publish("", 8080, 80, "tcp")
            .publish("", 8080, 80, "udp")
    })?;
    check(&site, From::Guest(&client), &first.at(80)?, true);
    check(&site, From::Guest(&first), &client.at(80)?, false);
    check(&site, From::Guest(&other), &first.at(80)?, false);
    check(&site, From::Guest(&client), &other.at(80)?, false);
    for from in [
        From::Outside,
        From::Guest(&other),
        From::Guest(&client),
        From::Guest(&first),
    ] {
        check(&site, from, &host(8080), true);
    }
    site.runtime().check(&lan, &client.attachment)?;
    first.leave(&site, &lan)?;
    drop(first);
    // A successor of the same name, and one who is called by its short id.
    let second = Guest::join(&site, &lan, "db")?;
    check(&site, From::Guest(&client), &second.at(80)?, true);
    check(&site, From::Guest(&other), &second.at(80)?, false);
    let short = other.container.id.get(..12).unwrap_or_default().to_owned();
    let third = Guest::linked(&site, &lan, "third", &short)?;
    if other.container.id.len() > 12 {
        check(&site, From::Guest(&third), &other.at(80)?, true);
    }
    client.leave(&site, &lan)?;
    site.runtime().check(&lan, &second.attachment)?;
    // Changing one's mind reaches those who are there.
    let open = lan.clone().with("firewall", "icc", json!(true));
    let late = Guest::join(&site, &open, "late")?;
    check(&site, From::Guest(&other), &second.at(80)?, true);
    check(&site, From::Guest(&late), &second.at(80)?, true);
    let latest = Guest::join(&site, &lan, "latest")?;
    check(&site, From::Guest(&other), &second.at(80)?, false);
    check(&site, From::Guest(&third), &other.at(80)?, true);
    for guest in [&other, &second, &third, &late, &latest] {
        guest.leave(&site, &lan)?;
    }
    site.nothing_left(&before, &[&lan], "DEL")
}

#[test]
fn without_icc_only_links_pass() -> Outcome {
    Backend::ALL
        .into_iter()
        .try_for_each(|backend| icc_off(backend, false))
}

#[test]
fn without_icc_only_links_pass_bridged() -> Outcome {
    Backend::ALL
        .into_iter()
        .try_for_each(|backend| icc_off(backend, true))
}

#[test]
fn internal_networks_keep_to_themselves() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    site.host.teach_outside(&[LAN[0], LAN[1], TWO[0], TWO[1]])?;
    let before = site.snapshot()?;
    let lan = site
        .firewalled(
            "lan",
            &LAN,
            json!({ "profile": "docker", "internal": true }),
        )
        .with("bridge", "internal", json!(true));
    let two = site.firewalled("two", &TWO, json!({}));
    let _beyond = site.host.serve_outside(80)?;
    let one = Guest::join(&site, &lan, "one")?;
    let other = Guest::join(&site, &lan, "other")?;
    let stranger = Guest::join(&site, &two, "stranger")?;
    check(&site, From::Guest(&one), &other.at(80)?, true);
    check(&site, From::Host, &other.at(80)?, true);
    check(&site, From::Outside, &other.at(80)?, false);
    check(&site, From::Guest(&stranger), &other.at(80)?, false);
    check(&site, From::Guest(&one), &outside(80), false);
    check(&site, From::Guest(&one), &stranger.at(80)?, false);
    // Its ports are published by none: another network of the container may do so.
    let container = Container::new("published")?;
    let mut attachment = Attachment::new(&container).publish("", 8080, 80, "tcp");
    site.runtime().add(&lan, &mut attachment)?;
    site.runtime().check(&lan, &attachment)?;
    let _server = container.serve(80)?;
    let published = SocketAddr::new(HOST_V4, 8080);
    check(&site, From::Outside, &[published], false);
    site.runtime().del(&lan, &attachment)?;
    // A container can give itself a route; the rules still hold it.
    let shut = lan.clone().with("firewall", "hostAccess", json!(false));
    let last = Guest::join(&site, &shut, "last")?;
    check(&site, From::Host, &other.at(80)?, false);
    check(&site, From::Guest(&last), &other.at(80)?, true);
    for guest in [&one, &other, &last] {
        guest.leave(&site, &lan)?;
    }
    stranger.leave(&site, &two)?;
    site.nothing_left(&before, &[&lan, &two], "DEL")
}

#[test]
fn bad_input_is_told() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let before = site.snapshot()?;
    let lan = site.firewalled("lan", &LAN[..1], json!({}));
    for (keys, code, part) in [
        (json!({ "profile": "dokcer" }), 2, "dokcer"),
        (json!({ "backend": "pf" }), 2, "pf"),
        (json!({ "ingressPolicy": "none" }), 2, "ingressPolicy"),
        (
            json!({ "internal": true, "directAccess": "closed", "trustedInterfaces": ["eth0"] }),
            7,
            "trustedInterfaces",
        ),
        (
            json!({ "icc": false, "ingressPolicy": "same-bridge" }),
            7,
            "icc",
        ),
        (json!({ "backend": "none", "icc": false }), 7, "none"),
        (
            json!({ "directAccess": "closed", "trustedInterfaces": ["br-lan"] }),
            7,
            "own bridge",
        ),
        (
            json!({ "links": [{ "container": "..", "ports": [] }] }),
            7,
            "no name",
        ),
    ] {
        let mut wrong = lan.clone();
        for (key, value) in keys.as_object().into_iter().flatten() {
            wrong = wrong.with("firewall", key, value.clone());
        }
        let container = Container::new("me")?;
        let mut attachment = Attachment::new(&container);
        attachment.args = "IgnoreUnknown=1;K8S_POD_NAME=me".to_owned();
        let error = site
            .try_add(&wrong, &mut attachment)?
            .ok_or_else(|| Failure::new(format!("{keys} was accepted")))?;
        assert_eq!(error.code, code, "{keys}: {error}");
        assert!(error.msg.contains(part), "{keys}: {error}");
    }
    // No rules at all, and a profile that is only a wish then.
    let none = lan.clone().with("firewall", "backend", json!("none")).with(
        "firewall",
        "profile",
        json!("docker"),
    );
    let one = Guest::join(&site, &none, "one")?;
    let rules = site.snapshot()?.lines("rules").join("\n");
    assert!(!rules.contains("forward"), "{rules}");
    one.leave(&site, &none)?;
    site.nothing_left(&before, &[&lan], "DEL")
}

#[test]
fn every_fault_leaves_the_machine_as_it_was() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let before = site.snapshot()?;
    let lan = site.firewalled("lan", &LAN, json!({ "profile": "docker", "icc": false }));
    for point in [
        "firewall.recorded",
        "firewall.noted",
        "firewall.held",
        "firewall.beside",
        "firewall.answering",
        "firewall.separated",
        "firewall.entered",
        "firewall.linked",
    ] {
        for kill in ["", "kill:"] {
            let container = Container::new("c")?;
            let mut attachment = Attachment::new(&container);
            let links = json!([{ "container": "absent", "ports": [{ "port": 80 }] }]);
            attachment.capabilities.insert("links".to_owned(), links);
            let fault = format!("{kill}{point}");
            let runtime = site.runtime().with_env("PONTOON_FAULT", &fault);
            assert!(runtime.add(&lan, &mut attachment).is_err(), "{fault}");
            site.runtime().del(&lan, &attachment)?;
        }
    }
    site.nothing_left(&before, &[&lan], "faults and DEL")
}

/// Another program's FORWARD chain drops, as Docker's and ufw's do.
fn beside_a_drop(tool: &str) -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let on_host = |line: &str| {
        let mut shell = std::process::Command::new("sh");
        site.host.command(shell.args(["-c", line]))
    };
    for family in ["iptables", "ip6tables"] {
        on_host(&format!(
            "{family}-{tool} -N DOCKER-USER; {family}-{tool} -A DOCKER-USER -j RETURN; \
             {family}-{tool} -A FORWARD -j DOCKER-USER; {family}-{tool} -P FORWARD DROP"
        ))?;
    }
    let before = site.snapshot()?;
    let lan = site.firewalled("lan", &LAN, json!({ "profile": "docker" }));
    let _beyond = site.host.serve_outside(80)?;
    let web = Guest::with(&site, &lan, "web", |attachment| {
        attachment
            .publish("", 8080, 80, "tcp")
            .publish("", 8080, 80, "udp")
    })?;
    check(&site, From::Outside, &host(8080), true);
    check(&site, From::Guest(&web), &outside(80), true);
    site.runtime().status(&lan)?;
    // Cleared, and mended by the next ADD.
    for family in ["iptables", "ip6tables"] {
        on_host(&format!("{family}-{tool} -F FORWARD"))?;
    }
    check(&site, From::Outside, &host(8080), false);
    let next = Guest::join(&site, &lan, "next")?;
    check(&site, From::Outside, &host(8080), true);
    for family in ["iptables", "ip6tables"] {
        on_host(&format!("{family}-{tool} -A FORWARD -j DOCKER-USER"))?;
    }
    for guest in [&web, &next] {
        guest.leave(&site, &lan)?;
    }
    site.nothing_left(&before, &[&lan], "DEL")
}

#[test]
fn beside_iptables_nft_that_drops() -> Outcome {
    beside_a_drop("nft")
}

#[test]
fn beside_iptables_legacy_that_drops() -> Outcome {
    beside_a_drop("legacy")
}

#[test]
fn a_chain_that_cannot_be_passed_is_named() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let on_host = |line: &str| {
        let mut shell = std::process::Command::new("sh");
        site.host.command(shell.args(["-c", line]))
    };
    on_host(
        "nft add table inet theirs; \
         nft 'add chain inet theirs gate { type filter hook forward priority 10; policy drop; }'",
    )?;
    let lan = site.firewalled("lan", &LAN, json!({ "profile": "docker" }));
    site.runtime().status(&lan)?;
    let one = Guest::join(&site, &lan, "one")?;
    check(&site, From::Guest(&one), &outside(80), false);
    let error = site.runtime().status(&lan);
    let error = error
        .err()
        .ok_or_else(|| Failure::new("STATUS saw nothing"))?;
    assert_eq!(error.code, 51, "{error}");
    assert!(
        error.msg.contains("chain gate of table inet theirs"),
        "{error}"
    );
    on_host("nft add rule inet theirs gate iifname br-lan accept")?;
    site.runtime().status(&lan)?;
    one.leave(&site, &lan)
}

#[test]
fn one_command_makes_flushed_rules_again() -> Outcome {
    Backend::ALL.into_iter().try_for_each(|backend| {
        let site = Site::new(backend)?;
        let keys = json!({ "profile": "docker", "icc": false });
        let lan = site.firewalled("lan", &LAN, keys);
        let web = Guest::with(&site, &lan, "web", |attachment| {
            attachment
                .publish("", 8080, 80, "tcp")
                .publish("", 8080, 80, "udp")
        })?;
        let client = Guest::linked(&site, &lan, "client", "web")?;
        let other = Guest::join(&site, &lan, "other")?;
        let whole = site.snapshot()?;
        site.flush()?;
        check(&site, From::Outside, &host(8080), false);
        check(&site, From::Guest(&other), &web.at(80)?, true);
        site.pontoon_json(&["repair", "lan"])?;
        check(&site, From::Outside, &host(8080), true);
        check(&site, From::Guest(&other), &web.at(80)?, false);
        check(&site, From::Guest(&client), &web.at(80)?, true);
        site.runtime().check(&lan, &client.attachment)?;
        whole.same_as(&site.snapshot()?, "repair")?;
        [&web, &client, &other]
            .into_iter()
            .try_for_each(|guest| guest.leave(&site, &lan))
    })
}
