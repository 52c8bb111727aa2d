//! `sbr` on the second network of a container: what comes in by it goes out by it, though the
//! default route of the container is the first network's.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use pontoon_lab::{
    Attachment, Backend, Container, Failure, HOST_V4, HOST_V6, Network, Outcome, Site,
    chained_faults, tcp, udp,
};
use serde_json::json;

const WAIT: Duration = Duration::from_secs(3);
const ONE: [&str; 2] = ["10.83.1.0/24", "fd00:83:1::/64"];
const TWO: [&str; 2] = ["10.83.2.0/24", "fd00:83:2::/64"];

fn with_sbr(site: &Site, keys: &serde_json::Value) -> Network {
    let mut list = site.network("two", "two0", &TWO).list().clone();
    let mut sbr = json!({ "type": "sbr" });
    for (key, value) in keys.as_object().into_iter().flatten() {
        sbr[key] = value.clone();
    }
    if let Some(plugins) = list["plugins"].as_array_mut() {
        plugins.push(sbr);
    }
    Network::from_list(list)
}

/// A container on both, the ports published through the second one.
struct Scene {
    site: Site,
    one: Network,
    two: Network,
    container: Container,
    attachments: [Attachment; 2],
}

impl Scene {
    fn new(backend: Backend, keys: &serde_json::Value) -> Outcome<Self> {
        let site = Site::new(backend)?;
        let one = site.network("one", "one0", &ONE);
        let two = with_sbr(&site, keys);
        let container = Container::new("web")?;
        let mut first = Attachment::new(&container);
        site.runtime().add(&one, &mut first)?;
        let mut second = Attachment::new(&container)
            .publish("", 8081, 81, "tcp")
            .publish("", 8080, 80, "udp");
        second.ifname = "eth1".to_owned();
        site.runtime().add(&two, &mut second)?;
        Ok(Self {
            site,
            one,
            two,
            container,
            attachments: [first, second],
        })
    }

    /// What is not answered from outside at the published ports. UDP servers listen at the second
    /// network's address: one at any address answers from that of the default route.
    fn silent(&self) -> Outcome<Vec<String>> {
        let mut silent = Vec::new();
        let _server = self.container.serve(81)?;
        for (v6, host) in [(false, HOST_V4), (true, HOST_V6)] {
            let own = self.attachments[1].address(v6).unwrap_or_default();
            let own: IpAddr = own.parse().map_err(Failure::act("read an address"))?;
            let target = SocketAddr::new(host, 8081);
            let answer = self.site.host.run_outside(|| tcp(target, WAIT))?;
            silent.extend(answer.err().map(|none| format!("TCP to {target}: {none}")));
            let socket = self.container.run(|| UdpSocket::bind((own, 80)))?;
            let socket = socket.map_err(Failure::act("bind"))?;
            socket
                .set_read_timeout(Some(WAIT))
                .map_err(Failure::act("bind"))?;
            let target = SocketAddr::new(host, 8080);
            let answer = thread::scope(|scope| {
                scope.spawn(|| {
                    let mut request = [0; 16];
                    if let Ok((_, peer)) = socket.recv_from(&mut request) {
                        let _ = socket.send_to(format!("web {}", peer.ip()).as_bytes(), peer);
                    }
                });
                self.site.host.run_outside(|| udp(target, WAIT))
            })?;
            silent.extend(answer.err().map(|none| format!("UDP to {target}: {none}")));
        }
        Ok(silent)
    }

    fn ip(&self, arguments: &[&str]) -> Outcome<String> {
        self.container.output("ip", arguments)
    }
}

fn routed(backend: Backend) -> Outcome {
    for keys in [json!({}), json!({ "addSourceHints": true })] {
        let scene = Scene::new(backend, &keys)?;
        scene
            .site
            .runtime()
            .check(&scene.two, &scene.attachments[1])?;
        // A host that takes packets only by the way it would send replies.
        scene.site.host.set("net/ipv4/conf/all/rp_filter", "1")?;
        let wrong = scene.silent()?;
        if !wrong.is_empty() {
            let rules = scene.ip(&["rule"])?;
            let routes = scene.ip(&["route", "show", "table", "all"])?;
            return Err(Failure::new(format!("{wrong:?}\n{rules}\n{routes}")));
        }
        // The default routes are the first network's, in both families.
        for family in ["-4", "-6"] {
            let routes = scene.ip(&[family, "route", "show", "default"])?;
            if !routes.contains("dev eth0") || routes.contains("eth1") {
                return Err(Failure::new(format!("the default route: {routes}")));
            }
        }
        // CHECK sees what is missing.
        let address = scene.attachments[1].address(false).unwrap_or_default();
        scene.ip(&["rule", "del", "from", &address])?;
        let told = scene
            .site
            .runtime()
            .check(&scene.two, &scene.attachments[1]);
        if !told.is_err_and(|error| error.msg.contains(&address)) {
            return Err(Failure::new("a rule that is gone is not missed"));
        }
        // DEL twice, and with the namespace gone.
        for _ in 0..2 {
            scene
                .site
                .runtime()
                .del(&scene.two, &scene.attachments[1])?;
        }
        let rules = scene.ip(&["rule"])? + &scene.ip(&["-6", "rule"])?;
        if rules.contains("10.83.2.") || rules.contains("fd00:83:2") {
            return Err(Failure::new(format!("left behind: {rules}")));
        }
        scene
            .site
            .runtime()
            .del(&scene.one, &scene.attachments[0])?;
    }
    Ok(())
}

/// Without sbr replies leave by the first network, where a careful host drops them.
#[test]
fn without_it_replies_go_astray() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let (one, two) = (
        site.network("one", "one0", &ONE),
        site.network("two", "two0", &TWO),
    );
    let container = Container::new("web")?;
    let mut first = Attachment::new(&container);
    site.runtime().add(&one, &mut first)?;
    let mut second = Attachment::new(&container).publish("", 8081, 81, "tcp");
    second.ifname = "eth1".to_owned();
    site.runtime().add(&two, &mut second)?;
    // bridge lets such replies in, unless the admin says otherwise afterwards.
    site.host.set("net/ipv4/conf/one0/rp_filter", "1")?;
    let _server = container.serve(81)?;
    let target = SocketAddr::new(HOST_V4, 8081);
    match site
        .host
        .run_outside(|| tcp(target, Duration::from_secs(1)))?
    {
        Err(_) => Ok(()),
        Ok(reply) => Err(Failure::new(format!("answered all the same: {reply:?}"))),
    }
}

#[test]
fn replies_leave_by_the_interface_of_their_address() -> Outcome {
    Backend::ALL.into_iter().try_for_each(|backend| {
        routed(backend).map_err(|error| Failure::new(format!("{backend}: {error}")))
    })
}

#[test]
fn bad_input_is_told() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let before = site.snapshot()?;
    for (keys, word) in [
        (json!({ "table": 254 }), "table"),
        (json!({ "table": -1 }), "table"),
        (
            json!({ "gateways": ["10.83.2.1", "10.83.2.2"] }),
            "gateways",
        ),
        (json!({ "gateways": ["here"] }), "gateways"),
    ] {
        let network = with_sbr(&site, &keys);
        let container = Container::new("wrong")?;
        let mut attachment = Attachment::new(&container);
        let error = site.try_add(&network, &mut attachment)?;
        if !error
            .as_ref()
            .is_some_and(|error| error.code == 7 && error.msg.contains(word))
        {
            return Err(Failure::new(format!("{keys}: {error:?}")));
        }
    }
    let two = with_sbr(&site, &json!({}));
    site.nothing_left(&before, &[&two], "refused ADDs")
}

#[test]
fn every_step_of_add_can_fail() -> Outcome {
    let make = || {
        let site = Site::new(Backend::Nftables)?;
        let network = with_sbr(&site, &json!({}));
        Ok((site, network))
    };
    chained_faults(make, 2, 3)
}

#[test]
fn every_version() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let before = site.snapshot()?;
    let base = with_sbr(&site, &json!({}));
    for version in [
        "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
    ] {
        let network = base.clone().in_version(version);
        let (container, mut attachment) = site.join("versions", &network)?;
        let rules =
            container.output("ip", &["rule"])? + &container.output("ip", &["-6", "rule"])?;
        if !rules.contains("from 10.83.2.") || !rules.contains("from fd00:83:2:") {
            return Err(Failure::new(format!("{version}: {rules}")));
        }
        if version >= "0.4.0" {
            site.runtime().check(&network, &attachment)?;
        }
        attachment.netns.clear();
        attachment.result = None;
        site.runtime().del(&network, &attachment)?;
        site.nothing_left(&before, &[&network], version)?;
    }
    Ok(())
}
