//! Plugins after a mode: a container that is in another's namespace, or has no network, has nothing
//! for them to add to. They say so, and no DEL fails.

use std::path::Path;

use pontoon_lab::{Attachment, Backend, Container, Failure, Finished, Network, Outcome, Site};
use pontoon_netlink::Netns;
use serde_json::{Value, json};

/// Every plugin that changes what one before it has made, with what a runtime may ask of it.
const CHAINED: [&str; 6] = ["portmap", "dns", "firewall", "tuning", "bandwidth", "sbr"];

#[track_caller]
fn wrong(text: impl Into<String>) -> Outcome {
    Err(Failure::new(text))
}

fn chained(kind: &str, backend: Backend) -> Value {
    match kind {
        "portmap" => json!({
            "type": kind, "backend": backend.key(), "capabilities": { "portMappings": true },
        }),
        "firewall" => json!({ "type": kind, "backend": backend.key(), "profile": "docker" }),
        "tuning" => json!({
            "type": kind, "mtu": 1400,
            "sysctl": { "net.ipv4.ip_local_port_range": "20000 30000" },
        }),
        "bandwidth" => json!({ "type": kind, "ingressRate": 8_000_000, "ingressBurst": 80_000 }),
        _ => json!({ "type": kind }),
    }
}

/// The identity of the namespace that a path leads to.
fn leads_to(path: &Path) -> Outcome<String> {
    let netns = Netns::open(path).map_err(Failure::act("open a namespace"))?;
    Ok(netns.id().to_string())
}

struct Scene {
    site: Site,
    target: (Container, Attachment),
    home: Network,
}

impl Scene {
    fn new(backend: Backend) -> Outcome<Self> {
        let site = Site::new(backend)?;
        let home = site.network("home", "home0", &["10.86.0.0/24"]);
        let target = site.join("target", &home)?;
        Ok(Self { site, target, home })
    }

    fn list(&self, mode: &str, chain: &[&str]) -> Network {
        let mut plugins = vec![json!({ "type": mode, "container": self.target.0.id })];
        let backend = self.site.backend;
        plugins.extend(chain.iter().map(|kind| chained(kind, backend)));
        Network::from_list(json!({
            "cniVersion": "1.1.0", "name": format!("{mode}-list"), "plugins": plugins,
        }))
    }

    /// One plugin of the list, verbatim.
    fn call(
        &self,
        verb: &str,
        network: &Network,
        plugin: &Value,
        attachment: &Attachment,
    ) -> Outcome<Finished> {
        let result = attachment.result.as_ref();
        let stdin = network.stdin(plugin, &attachment.capabilities, result);
        let runtime = self.site.runtime();
        let call = runtime.attachment_call(verb, &stdin, attachment);
        Ok(runtime.call(plugin["type"].as_str().unwrap_or_default(), &call)?)
    }
}

#[test]
fn plugins_after_a_mode_warn_and_let_go() -> Outcome {
    for backend in [Backend::Nftables, Backend::IptablesNft] {
        let scene = Scene::new(backend)?;
        let ports = scene.site.host.get("net/ipv4/ip_local_port_range")?;
        for mode in ["host", "container", "none"] {
            for kind in CHAINED {
                let network = scene.list(mode, &[kind]);
                let before = scene.site.snapshot()?;
                let target = scene.target.0.details()?;
                let container = Container::new("modal")?;
                let own = leads_to(container.path())?;
                let mut attachment = Attachment::new(&container).publish("", 8080, 80, "tcp");
                let first = network.clone().first_only();
                scene.site.runtime().add(&first, &mut attachment)?;
                let told = scene.call("ADD", &network, &network.plugins()[1], &attachment)?;
                let what = format!("{backend}: {kind} after {mode}");
                told.verdict(&what)?;
                let words = ["warning", mode];
                if !words.iter().all(|word| told.stderr.contains(word)) {
                    return wrong(format!("{what}: no warning: {:?}", told.stderr));
                }
                let passed: Value =
                    serde_json::from_str(&told.stdout).map_err(Failure::act("read a result"))?;
                let (ips, result) = (&passed["ips"], &attachment.result);
                if result.as_ref().map(|result| &result["ips"]) != Some(ips) {
                    return wrong(format!("{what}: not the result before: {passed}"));
                }
                scene.site.runtime().check(&network, &attachment)?;
                if scene.target.0.details()? != target
                    || scene.site.host.get("net/ipv4/ip_local_port_range")? != ports
                {
                    return wrong(format!("{what}: another's namespace was changed"));
                }
                for _ in 0..2 {
                    scene.site.runtime().del(&network, &attachment)?;
                }
                if leads_to(container.path())? != own {
                    return wrong(format!("{what}: the path leads elsewhere after DEL"));
                }
                before.same_as(&scene.site.snapshot()?, &what)?;
            }
        }
    }
    Ok(())
}

/// As a runtime does it that asks for no ports: nothing is said of them.
#[test]
fn portmap_without_ports_is_silent() -> Outcome {
    let scene = Scene::new(Backend::Nftables)?;
    let network = scene.list("host", &["portmap"]);
    let container = Container::new("quiet")?;
    let mut attachment = Attachment::new(&container);
    let first = network.clone().first_only();
    scene.site.runtime().add(&first, &mut attachment)?;
    let told = scene.call("ADD", &network, &network.plugins()[1], &attachment)?;
    told.verdict("portmap")?;
    scene.site.runtime().del(&network, &attachment)?;
    if told.stderr.is_empty() {
        Ok(())
    } else {
        wrong(told.stderr)
    }
}

/// A container's second network is of type host: its first one can go, whichever goes first, and
/// whatever plugin made it. The host's own interfaces are not touched.
#[test]
fn the_other_network_goes_while_the_path_leads_to_the_host() -> Outcome {
    for kind in ["bridge", "ptp", "macvlan", "loopback"] {
        let scene = Scene::new(Backend::Nftables)?;
        let before = scene.site.snapshot()?;
        let ipam = json!({
            "type": "host-local", "dataDir": scene.site.leases.path(), "subnet": "10.87.0.0/24",
        });
        let plugin = match kind {
            "bridge" => json!({ "type": kind, "bridge": "own0", "isGateway": true, "ipam": ipam }),
            "macvlan" => json!({ "type": kind, "master": "eth0", "ipam": ipam }),
            _ => json!({ "type": kind, "ipam": ipam }),
        };
        let own = Network::from_list(
            json!({ "cniVersion": "1.1.0", "name": "own", "plugins": [plugin] }),
        );
        let (container, attachment) = scene.site.join("both", &own)?;
        let host = scene.list("host", &["portmap"]);
        let mut second = Attachment {
            ifname: "eth1".to_owned(),
            ..Attachment::new(&container)
        };
        scene.site.runtime().add(&host, &mut second)?;
        for _ in 0..2 {
            scene.site.runtime().del(&own, &attachment)?;
        }
        scene.site.runtime().del(&host, &second)?;
        let lo = scene
            .site
            .host
            .run(|| pontoon_netlink::RouteSocket::open()?.link_by_name("lo"))?;
        let lo = lo.map_err(Failure::act("look at lo"))?;
        if !lo.is_some_and(|link| link.up) {
            return wrong(format!("{kind}: the host's lo is down"));
        }
        scene.site.nothing_left(&before, &[&own], kind)?;
    }
    Ok(())
}

/// The records are lost, and DEL comes: nothing fails.
#[test]
fn without_state() -> Outcome {
    let scene = Scene::new(Backend::Nftables)?;
    for mode in ["host", "container", "none"] {
        let network = scene.list(mode, &CHAINED);
        let container = Container::new("stateless")?;
        let mut attachment = Attachment::new(&container).publish("", 8080, 80, "tcp");
        scene.site.runtime().add(&network, &mut attachment)?;
        std::fs::remove_dir_all(scene.site.host.state_dir().join(mode))
            .map_err(Failure::act("lose the records"))?;
        for _ in 0..2 {
            scene.site.runtime().del(&network, &attachment)?;
        }
        scene.site.runtime().check(&scene.home, &scene.target.1)?;
    }
    Ok(())
}
