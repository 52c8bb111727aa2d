//! What people ask of a resolver beside names of containers: servers of single domains, names of the
//! host, old answers when every server is silent, and a word about what failed.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use pontoon_lab::{
    Attachment, Backend, Container, Failure, NameServer, Network, Outcome, Site, same,
};
use serde_json::{Value, json};

const GOOD: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const SECOND: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 8);
const THIRD: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
const FIRST_AT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));
const SECOND_AT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 12));
const THIRD_AT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 13));

struct Scene {
    site: Site,
    network: Network,
    container: Container,
    attachment: Attachment,
}

impl Scene {
    fn new(keys: Value) -> Outcome<Self> {
        let site = Site::new(Backend::Nftables)?;
        fs::write(
            site.leases.path().join("resolv.conf"),
            format!("nameserver {FIRST_AT}\n"),
        )
        .map_err(Failure::act("write resolv.conf"))?;
        let network = site.named_network("able", 85, keys);
        let (container, attachment) = site.join_named("client", &network)?;
        Ok(Self {
            site,
            network,
            container,
            attachment,
        })
    }

    fn ask(&self, v6: bool, arguments: &[&str]) -> Outcome<String> {
        let at = format!("@{}", self.attachment.gateway(v6).unwrap_or_default());
        let mut all = vec![at.as_str()];
        all.extend_from_slice(arguments);
        self.container.dig(&all)
    }

    fn done(&self) -> Outcome {
        Ok(self.site.runtime().del(&self.network, &self.attachment)?)
    }
}

#[test]
fn the_longest_domain_names_the_server() -> Outcome {
    let scene = Scene::new(json!({ "upstreams": {
        "corp.example": [SECOND_AT], "deep.corp.example": [THIRD_AT],
    } }))?;
    let netns = scene.site.host.netns();
    let first = NameServer::start(netns, FIRST_AT, GOOD)?;
    let _second = NameServer::start(netns, SECOND_AT, SECOND)?;
    let _third = NameServer::start(netns, THIRD_AT, THIRD)?;
    for v6 in [false, true] {
        for tcp in ["+notcp", "+tcp"] {
            for (name, expected) in [
                ("www.corp.example", SECOND),
                ("CORP.example", SECOND),
                ("a.deep.corp.example", THIRD),
                ("xcorp.example", GOOD),
                ("other.test", GOOD),
            ] {
                let answer = scene.ask(v6, &[tcp, name])?;
                same(name, &answer, &format!("NOERROR {expected}"))?;
            }
        }
    }
    same("asked", &first.asked("www.corp.example").to_string(), "0")?;
    let query = ["dns", "query", "x.corp.example", "--as", "client"];
    let said = scene.site.pontoon_ends(&query, 0)?;
    if !said.contains("of the network for corp.example") {
        return Err(Failure::new(format!("pontoon dns query says {said}")));
    }
    scene.done()
}

#[test]
fn everything_else_has_a_dot_and_bad_domains_are_refused() -> Outcome {
    let scene = Scene::new(json!({ "upstreams": {
        "corp.example": [SECOND_AT], ".": [THIRD_AT],
    } }))?;
    let netns = scene.site.host.netns();
    let _second = NameServer::start(netns, SECOND_AT, SECOND)?;
    let _third = NameServer::start(netns, THIRD_AT, THIRD)?;
    for (name, expected) in [("a.corp.example", SECOND), ("a.test", THIRD)] {
        let answer = scene.ask(false, &[name])?;
        same(name, &answer, &format!("NOERROR {expected}"))?;
    }
    for (value, words) in [
        (
            json!({ "a..b": ["10.0.0.1"] }),
            "\"a..b\" is no domain name",
        ),
        (json!({ "a.b": [] }), "names no server"),
        (json!({ "a.b": ["x"] }), "\"x\" is no IP address"),
        (json!({ "a.b": "10.0.0.1" }), "is no list of IP addresses"),
        (json!("10.0.0.1"), "is no list of IP addresses"),
    ] {
        let bad = scene
            .network
            .clone()
            .with("dns", "upstreams", value.clone());
        let container = Container::new("bad")?;
        match scene.site.try_add(&bad, &mut Attachment::new(&container))? {
            Some(error) if error.code == 7 && error.msg.contains(words) => {}
            other => return Err(Failure::new(format!("{value}: {other:?}"))),
        }
    }
    scene.done()
}

#[test]
fn the_host_is_found_by_name() -> Outcome {
    let scene = Scene::new(json!({}))?;
    for name in ["host.containers.internal", "host.docker.internal"] {
        for v6 in [false, true] {
            for tcp in ["+notcp", "+tcp"] {
                let gateway = scene.attachment.gateway(v6).unwrap_or_default();
                let kind = if v6 { "AAAA" } else { "A" };
                let answer = scene.ask(!v6, &[tcp, name, kind])?;
                same(name, &answer, &format!("NOERROR {gateway}"))?;
            }
        }
        same(name, &scene.ask(false, &[name, "MX"])?, "NOERROR")?;
    }
    scene.done()
}

#[test]
fn an_old_answer_is_better_than_none_and_failures_are_told() -> Outcome {
    let scene = Scene::new(json!({}))?;
    let server = NameServer::start(scene.site.host.netns(), FIRST_AT, GOOD)?;
    let good = format!("NOERROR {GOOD}");
    // A reply with two seconds to live.
    same("fresh", &scene.ask(false, &["brief.test"])?, &good)?;
    drop(server);
    std::thread::sleep(Duration::from_millis(2100));
    same("closed", &scene.ask(false, &["brief.test"])?, &good)?;
    let deaf = scene
        .site
        .host
        .run(|| std::net::UdpSocket::bind((FIRST_AT, 53)))?
        .map_err(Failure::act("bind"))?;
    same("silent", &scene.ask(false, &["brief.test"])?, &good)?;
    same(
        "never seen",
        &scene.ask(false, &["never.test"])?,
        "SERVFAIL",
    )?;
    drop(deaf);
    let status = scene.site.pontoon_json(&["dns", "status"])?;
    let failure = &status["failures"][0];
    same(
        "its name",
        failure["name"].as_str().unwrap_or_default(),
        "never.test",
    )?;
    let reason = failure["reason"].as_str().unwrap_or_default();
    same("its reason", reason, &format!("no answer of {FIRST_AT}"))?;
    let text = scene.site.pontoon_ends(&["dns", "status"], 0)?;
    for words in ["s ago: never.test A for 10.85.", "stale: 2 answers"] {
        if !text.contains(words) {
            return Err(Failure::new(format!("status lacks {words:?}: {text}")));
        }
    }
    let metrics = scene
        .site
        .pontoon_ends(&["dns", "status", "--metrics"], 0)?;
    for line in [
        "# TYPE pontoon_dns_answer_seconds histogram",
        "pontoon_dns_answer_seconds_bucket{outcome=\"stale\",le=\"+Inf\"} 2",
        "pontoon_dns_answer_seconds_count{outcome=\"failed\"} 1",
        "pontoon_dns_stale_total 2",
    ] {
        if !metrics.lines().any(|known| known == line) {
            return Err(Failure::new(format!("no {line:?} in {metrics}")));
        }
    }
    scene.done()
}
