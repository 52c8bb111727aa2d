//! A host on which one plugin of a chain is attacked: the plugins before it have done their work for
//! the container, and a neighbour may be in the network.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pontoon_lab::{
    Attachment, Backend, Call, CniError, Container, Failure, Finished, Network, Outcome, Site,
    cable,
};
use pontoon_netlink::{LinkChange, Netns, RouteSocket};
use serde_json::{Value, json};

use super::tracer::{Act, Traced, Tracer};

/// Which plugin is attacked, and how its network is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    /// The plugin.
    pub(crate) plugin: &'static str,
    /// The rule backend.
    pub(crate) backend: Backend,
    /// What else is on the host.
    pub(crate) neighbour: Neighbour,
}

/// The other container of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Neighbour {
    /// It is in the attacked network: "warm".
    SameNetwork,
    /// It is in another network, so that the attacked one goes and the host's state stays: "beside".
    OtherNetwork,
    /// There is none: "cold".
    None,
}

impl Kind {
    /// Whether the network has another container, so that it stays.
    pub(crate) fn is_warm(self) -> bool {
        self.neighbour == Neighbour::SameNetwork
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let warmth = match self.neighbour {
            Neighbour::SameNetwork => "warm",
            Neighbour::OtherNetwork => "beside",
            Neighbour::None => "cold",
        };
        write!(f, "{} {} {warmth}", self.plugin, self.backend)
    }
}

const BOTH: &[Backend] = &[Backend::Nftables, Backend::IptablesNft];
const ONE: &[Backend] = &[Backend::Nftables];

/// Every plugin, with the backends that it knows and whether it is attacked without a neighbour too.
const PLUGINS: [(&str, &[Backend], bool); 16] = [
    ("bridge", BOTH, true),
    ("portmap", BOTH, true),
    ("firewall", BOTH, true),
    ("ptp", BOTH, true),
    ("dns", BOTH, true),
    ("host-local", ONE, true),
    ("macvlan", ONE, true),
    ("host-device", ONE, true),
    ("tuning", ONE, true),
    ("bandwidth", ONE, true),
    ("sbr", ONE, true),
    // The container that is shared is there first.
    ("container", ONE, false),
    ("host", ONE, true),
    ("none", ONE, true),
    ("loopback", ONE, true),
    ("static", ONE, true),
];

/// All that is attacked.
pub(crate) fn kinds() -> Vec<Kind> {
    let mut all = Vec::new();
    for (plugin, backends, cold) in PLUGINS {
        for backend in backends {
            for neighbour in [
                Neighbour::SameNetwork,
                Neighbour::None,
                Neighbour::OtherNetwork,
            ] {
                let kind = Kind {
                    plugin,
                    backend: *backend,
                    neighbour,
                };
                if kind.is_warm() || cold {
                    all.push(kind);
                }
            }
        }
    }
    all
}

/// See the module.
pub(crate) struct Scene {
    pub(crate) kind: Kind,
    pub(crate) site: Site,
    pub(crate) network: Network,
    /// Where the attacked plugin stands in the chain.
    position: usize,
    neighbours: Vec<(Network, Container, Attachment)>,
    victim: Option<(Container, Attachment)>,
}

impl Scene {
    /// A host with the neighbours, and no container yet.
    pub(crate) fn new(kind: Kind) -> Outcome<Self> {
        let site = Site::new(kind.backend)?;
        // A setting of the whole host that the first network switches on and none switches off.
        for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            site.host.set(key, "1")?;
        }
        fs::write(
            site.leases.path().join("resolv.conf"),
            "nameserver 198.18.7.2\n",
        )
        .map_err(Failure::act("write resolv.conf"))?;
        fs::create_dir_all(site.leases.path().join("../").join(tracer_dir(&site)))
            .map_err(Failure::act("make the tracer's directory"))?;
        let mut scene = Self {
            kind,
            network: Network::from_list(json!({})),
            position: 0,
            site,
            neighbours: Vec::new(),
            victim: None,
        };
        scene.make_network()?;
        if kind.neighbour == Neighbour::OtherNetwork {
            scene.join_other_network()?;
        }
        if kind.is_warm() {
            let container = Container::new("neighbour")?;
            scene.lo_up(&container)?;
            let attachment = Attachment::new(&container)
                .publish("", 8081, 80, "tcp")
                .named("other");
            if ["host-device", "macvlan"].contains(&kind.plugin) {
                scene.spare("spare1", 9)?;
            }
            let network = match kind.plugin {
                // Each device is in one container at most.
                "host-device" => {
                    scene
                        .network
                        .clone()
                        .with("host-device", "device", json!("spare1"))
                }
                _ => scene.network.clone(),
            };
            scene.join(network, container, attachment)?;
        }
        Ok(scene)
    }

    fn join(
        &mut self,
        network: Network,
        container: Container,
        mut attachment: Attachment,
    ) -> Outcome {
        self.site.runtime().add(&network, &mut attachment)?;
        self.neighbours.push((network, container, attachment));
        Ok(())
    }

    /// A container with a port and names on another network.
    fn join_other_network(&mut self) -> Outcome {
        let site = &self.site;
        let network = site.network(
            "bystanding",
            "bystanding0",
            &["10.92.0.0/24", "fd00:92::/64"],
        );
        let mut list = network.list().clone();
        if let Some(plugins) = list["plugins"].as_array_mut() {
            plugins.push(json!({
                "type": "firewall", "backend": site.backend.key(), "profile": "docker", "icc": false,
                "capabilities": { "links": true },
            }));
            plugins.push(json!({
                "type": "dns", "backend": site.backend.key(),
                "resolvConf": site.leases.path().join("resolv.conf"),
                "capabilities": { "aliases": true, "dns": true, "links": true },
            }));
        }
        let container = Container::new("bystander")?;
        self.lo_up(&container)?;
        let attachment = Attachment::new(&container)
            .publish("", 8081, 80, "tcp")
            .named("bystander");
        self.join(Network::from_list(list), container, attachment)
    }

    fn lo_up(&self, container: &Container) -> Outcome {
        // Runtimes bring it up first, by the plugin that is for it. Once up, it keeps its address.
        let set = |up| -> Result<(), pontoon_netlink::Error> {
            let change = LinkChange {
                up: Some(up),
                ..LinkChange::default()
            };
            RouteSocket::open()?.set_link(1, &change)
        };
        let loopback = self.kind.plugin == "loopback";
        container
            .run(|| {
                set(true)?;
                if loopback { set(false) } else { Ok(()) }
            })?
            .map_err(Failure::act("bring lo up"))
    }

    /// A cable to the outside that a container may have.
    fn spare(&self, name: &str, number: u8) -> Outcome {
        let lay = || -> Result<u32, pontoon_netlink::Error> {
            let mut socket = RouteSocket::open()?;
            let mut spec = cable(name, self.site.host.outside(), [2, 0, 0, 0, number, 2]);
            spec.mac = Some([2, 0, 0, 0, number, 1]);
            socket.create_veth(&spec).map(|veth| veth.peer_index)
        };
        self.site
            .host
            .run(lay)?
            .map(drop)
            .map_err(Failure::act("lay a cable"))
    }

    fn make_network(&mut self) -> Outcome {
        let (site, kind) = (&self.site, self.kind);
        let subnets = ["10.91.0.0/24", "fd00:91::/64"];
        let docker = site.network("attacked", "attacked0", &subnets);
        let ipam = json!({
            "type": "host-local", "dataDir": site.leases.path(),
            "ranges": [[{ "subnet": "198.18.7.0/24", "rangeStart": "198.18.7.100" }]],
        });
        let behind = |plugin: Value| {
            let mut list = docker.list().clone();
            list["plugins"][1] = plugin;
            list
        };
        let alone = |plugin: Value| json!({ "cniVersion": "1.1.0", "name": "attacked", "plugins": [plugin] });
        let (list, position) = match kind.plugin {
            "bridge" => (docker.first_only().list().clone(), 0),
            "portmap" => (docker.list().clone(), 1),
            "firewall" => {
                let firewall = json!({
                    "type": "firewall", "backend": site.backend.key(), "profile": "docker", "icc": false,
                    "capabilities": { "links": true },
                });
                (behind(firewall), 1)
            }
            "ptp" => (
                alone(json!({
                    "type": "ptp", "ipMasq": true, "ipMasqBackend": site.backend.key(),
                    "ipam": {
                        "type": "host-local", "dataDir": site.leases.path(),
                        "ranges": [[{ "subnet": subnets[0] }], [{ "subnet": subnets[1] }]],
                        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
                    },
                })),
                0,
            ),
            "dns" => {
                let dns = json!({
                    "type": "dns", "backend": site.backend.key(),
                    "resolvConf": site.leases.path().join("resolv.conf"),
                    "capabilities": { "aliases": true, "dns": true, "links": true },
                });
                (behind(dns), 1)
            }
            "host-local" => (alone(json!({ "type": "host-local", "ipam": ipam })), 0),
            "static" => (
                alone(
                    json!({ "type": "static", "ipam": { "type": "static", "addresses": [{ "address": "198.18.7.50/24" }] } }),
                ),
                0,
            ),
            "macvlan" => (
                alone(json!({ "type": "macvlan", "master": "eth0", "ipam": ipam })),
                0,
            ),
            "host-device" => {
                self.spare("spare0", 8)?;
                (
                    alone(json!({ "type": "host-device", "device": "spare0", "ipam": ipam })),
                    0,
                )
            }
            "tuning" => {
                let tuning = json!({
                    "type": "tuning", "dataDir": site.leases.path().join("tuning"), "mtu": 1400,
                    "promisc": true, "mac": "02:42:0a:00:00:99",
                    "sysctl": { "net.core.somaxconn": "500", "net/ipv4/conf/IFNAME/log_martians": "1" },
                });
                (behind(tuning), 1)
            }
            "bandwidth" => (
                behind(json!({
                    "type": "bandwidth", "ingressRate": 8_000_000, "ingressBurst": 80_000,
                    "egressRate": 8_000_000, "egressBurst": 80_000,
                })),
                1,
            ),
            "sbr" => (behind(json!({ "type": "sbr" })), 1),
            "container" => {
                let target = Container::new("target")?;
                let attachment = Attachment::new(&target);
                let id = target.id.clone();
                self.join(docker.first_only(), target, attachment)?;
                (alone(json!({ "type": "container", "container": id })), 0)
            }
            plugin => (alone(json!({ "type": plugin })), 0),
        };
        self.network = Network::from_list(list);
        self.position = position;
        Ok(())
    }

    /// The container that the attacked verb is about, while there is one.
    pub(crate) fn container(&self) -> Option<&Container> {
        self.victim.as_ref().map(|(container, _)| container)
    }

    /// A new container, attached to nothing.
    pub(crate) fn enter(&mut self) -> Outcome {
        let container = Container::new("victim")?;
        self.lo_up(&container)?;
        let attachment = Attachment::new(&container)
            .publish("", 8080, 80, "tcp")
            .named("web");
        self.victim = Some((container, attachment));
        Ok(())
    }

    /// ADD of the plugins before the attacked one.
    pub(crate) fn precede(&mut self) -> Outcome {
        self.set_result(None);
        for position in 0..self.position {
            let finished = self.run("ADD", position)?;
            self.succeeded("ADD", &finished)?;
            self.keep(&finished)?;
        }
        Ok(())
    }

    /// DEL of the chain, from the attacked plugin to the first one, as a runtime does it: the first
    /// error ends it.
    pub(crate) fn leave(&mut self) -> Result<(), CniError> {
        for position in (0..=self.position).rev() {
            let finished = self.run("DEL", position).map_err(|failure| CniError {
                place: "DEL".to_owned(),
                code: 0,
                msg: failure.to_string(),
                details: String::new(),
            })?;
            finished.verdict("DEL")?;
        }
        self.set_result(None);
        Ok(())
    }

    /// The container's namespace dies without a word, and what was mounted over it.
    pub(crate) fn vanish(&mut self) {
        self.victim = None;
    }

    /// Keeps a result of ADD for the verbs that follow.
    pub(crate) fn keep(&mut self, finished: &Finished) -> Outcome {
        let result = serde_json::from_str(&finished.stdout).map_err(Failure::act(format!(
            "read the result of {}: {:?}",
            self.kind, finished.stdout
        )))?;
        if let Some((_, attachment)) = &mut self.victim {
            attachment.result = Some(result);
        }
        Ok(())
    }

    /// Gives back the result of the plugins before the attacked one, as it was when its ADD began.
    pub(crate) fn result(&self) -> Option<Value> {
        self.victim.as_ref()?.1.result.clone()
    }

    pub(crate) fn set_result(&mut self, result: Option<Value>) {
        if let Some((_, attachment)) = &mut self.victim {
            attachment.result = result;
        }
    }

    /// Fails with the plugin's words unless it succeeded.
    pub(crate) fn succeeded(&self, verb: &str, finished: &Finished) -> Outcome {
        let place = format!("{} {verb}", self.kind);
        Ok(finished.verdict(&place)?)
    }

    fn call(&self, verb: &str, position: usize) -> Outcome<(String, Call)> {
        let plugin = &self.network.plugins()[position];
        let program = plugin["type"].as_str().unwrap_or_default().to_owned();
        let runtime = self.site.runtime();
        if verb == "STATUS" {
            let stdin = self.network.stdin(plugin, &serde_json::Map::new(), None);
            let call = Call::new(verb, runtime.programs().dir(), stdin.to_string());
            return Ok((program, call));
        }
        if verb == "GC" {
            let valid: Vec<Value> = self
                .neighbours
                .iter()
                .filter(|(network, ..)| network.name() == self.network.name())
                .map(|(_, _, kept)| (&kept.container_id, &kept.ifname))
                .map(|(id, ifname)| json!({ "containerID": id, "ifname": ifname }))
                .collect();
            let mut stdin = self.network.stdin(plugin, &serde_json::Map::new(), None);
            stdin["cni.dev/valid-attachments"] = json!(valid);
            let call = Call::new(verb, runtime.programs().dir(), stdin.to_string());
            return Ok((program, call));
        }
        let Some((_, attachment)) = &self.victim else {
            return Err(Failure::new(format!("{verb} without a container")));
        };
        let stdin =
            self.network
                .stdin(plugin, &attachment.capabilities, attachment.result.as_ref());
        Ok((program, runtime.attachment_call(verb, &stdin, attachment)))
    }

    fn run(&self, verb: &str, position: usize) -> Outcome<Finished> {
        let (program, call) = self.call(verb, position)?;
        Ok(self.site.runtime().call(&program, &call)?)
    }

    /// The program that is attacked, and a call of it that succeeds.
    pub(crate) fn attacked_call(&self, verb: &str) -> Outcome<(String, Call)> {
        self.call(verb, self.position)
    }

    /// Where files of calls lie, beside the directory of leases.
    pub(crate) fn tracer_dir(&self) -> PathBuf {
        self.site
            .leases
            .path()
            .join("../")
            .join(tracer_dir(&self.site))
    }

    /// Runs a verb of the attacked plugin.
    pub(crate) fn verb(&self, verb: &str) -> Outcome<Finished> {
        self.run(verb, self.position)
    }

    /// Runs a verb of the attacked plugin under the tracer.
    pub(crate) fn traced(
        &self,
        verb: &str,
        order: Option<(usize, Act)>,
        name: Option<&str>,
    ) -> Outcome<Traced> {
        let (program, call) = self.call(verb, self.position)?;
        let dir = self.tracer_dir();
        self.site.host.run(|| {
            let runtime = self.site.runtime();
            Tracer::new(&runtime, &dir).run(&program, &call, order, name)
        })?
    }

    /// GC of the whole chain, with the neighbours on its list.
    pub(crate) fn collect(&self) -> Outcome {
        for position in 0..self.network.plugins().len() {
            let finished = self.run("GC", position)?;
            self.succeeded("GC", &finished)?;
        }
        Ok(())
    }
}

/// Beside the directory of leases, which is looked at.
fn tracer_dir(site: &Site) -> String {
    let leases = site.leases.path();
    let name = leases.file_name().and_then(|name| name.to_str());
    format!("{}-traced", name.unwrap_or("leases"))
}

impl Drop for Scene {
    fn drop(&mut self) {
        kill_all_in(self.site.host.netns());
        let _ = fs::remove_dir_all(self.tracer_dir());
    }
}

/// Ends what still runs in a namespace that is the attack's alone.
pub(crate) fn kill_all_in(host: &Netns) {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|pid| pid.parse().ok());
        let there =
            Netns::open(&entry.path().join("ns/net")).is_ok_and(|netns| netns.same_as(host));
        if let Some(pid) = pid
            && there
        {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
