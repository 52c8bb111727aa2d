//! Hosts on a switch, and containers of one network on them.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use pontoon_lab::{
    Ask, Attachment, Backend, Container, Echo, Failure, Network, NoReply, Outcome, Overlay, Peer,
    Reply, Site, Switch,
};
use pontoon_ledger::overlay::tunnel_mac;
use serde_json::{Value, json};

/// How long an answer may take, and how long none is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);
pub(crate) const SILENCE: Duration = Duration::from_millis(400);

/// The network below: how hosts reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Below {
    pub(crate) v6: bool,
    pub(crate) mode: &'static str,
    pub(crate) mtu: u32,
}

pub(crate) const VXLAN: Below = Below {
    v6: false,
    mode: "vxlan",
    mtu: 1500,
};
pub(crate) const DIRECT: Below = Below {
    mode: "direct",
    ..VXLAN
};

/// Hosts 1, 2, ... on one switch.
pub(crate) struct Scene {
    pub(crate) sites: Vec<Site>,
    pub(crate) switch: Switch,
    pub(crate) below: Below,
    backend: Backend,
}

/// A container on a host.
pub(crate) struct Member {
    pub(crate) container: Container,
    pub(crate) attachment: Attachment,
    // Only held: it answers.
    _server: Echo,
}

impl Member {
    pub(crate) fn address(&self, v6: bool) -> Outcome<IpAddr> {
        let text = self.attachment.address(v6);
        text.and_then(|text| text.parse().ok())
            .ok_or_else(|| Failure::new("the container has no such address"))
    }

    pub(crate) fn ask(&self, ask: Ask, to: SocketAddr) -> Outcome<Result<Reply, NoReply>> {
        self.container.run(|| ask(to, PATIENCE))
    }
}

/// Address of host `number` on the switch.
pub(crate) fn under(number: u8, v6: bool) -> IpAddr {
    match v6 {
        false => [198, 18, 60, number].into(),
        true => [0x2001, 0xdb8, 0x60, 0, 0, 0, 0, number.into()].into(),
    }
}

/// Network `lan` has 10.5.0.0/16, number 5; another network takes other numbers.
pub(crate) fn peer(network: u8, number: u8, below: Below) -> Peer {
    let host = format!("h{number}");
    let mac = tunnel_mac(&host).0;
    // In direct mode each family of containers has a next hop of its own.
    let underlay = match (below.mode, below.v6) {
        ("direct", _) => vec![under(number, false), under(number, true)],
        (_, v6) => vec![under(number, v6)],
    };
    Peer {
        host,
        underlay,
        blocks: vec![
            format!("10.{network}.{number}.0/24"),
            format!("fd{network:02x}:0:0:{number:x}::/64"),
        ],
        mac,
    }
}

impl Scene {
    pub(crate) fn new(backend: Backend, below: Below, hosts: u8) -> Outcome<Self> {
        let switch = Switch::new()?;
        let mut sites = Vec::new();
        for number in 1..=hosts {
            let site = Site::new(backend)?;
            let addresses = [
                format!("{}/24", under(number, false)),
                format!("{}/64", under(number, true)),
            ]
            .map(|text| text.parse());
            let [v4, v6] = addresses.map(|it| it.map_err(Failure::act("form an address")));
            switch.plug(&site.host, number, &[v4?, v6?], below.mtu)?;
            sites.push(site);
        }
        Ok(Self {
            sites,
            switch,
            below,
            backend,
        })
    }

    pub(crate) fn files(&self, name: &str, network: u8, number: u8) -> Overlay {
        let hosts = 1..=u8::try_from(self.sites.len()).unwrap_or_default();
        let others = hosts.filter(|other| *other != number);
        Overlay {
            network: name.to_owned(),
            subnets: vec![
                (format!("10.{network}.0.0/16"), 24),
                (format!("fd{network:02x}::/48"), 64),
            ],
            vni: network.into(),
            mode: self.below.mode,
            own: peer(network, number, self.below),
            peers: others.map(|it| peer(network, it, self.below)).collect(),
        }
    }

    /// Writes the files of network `lan` on all hosts.
    pub(crate) fn write(&self) -> Outcome {
        self.write_of("lan", 5)
    }

    pub(crate) fn write_of(&self, name: &str, network: u8) -> Outcome {
        for (site, number) in self.sites.iter().zip(1..) {
            self.files(name, network, number).write(&site.host)?;
        }
        Ok(())
    }

    /// Network `name` as the conflist of a host has it, with these keys of overlay, and of firewall when there are any.
    pub(crate) fn network(&self, host: usize, name: &str, keys: Value, firewall: Value) -> Network {
        let backend = self.backend.key();
        let mut overlay = json!({
            "type": "overlay", "bridge": format!("br-{name}"), "ipMasq": true, "ipMasqBackend": backend,
            "ipam": { "type": "host-local", "dataDir": self.sites[host].leases.path() },
        });
        extend(&mut overlay, keys);
        let mut plugins = vec![
            overlay,
            json!({ "type": "portmap", "backend": backend, "capabilities": { "portMappings": true } }),
        ];
        if !firewall.is_null() {
            let mut own = json!({ "type": "firewall", "backend": backend });
            extend(&mut own, firewall);
            plugins.push(own);
        }
        Network::from_list(json!({ "cniVersion": "1.1.0", "name": name, "plugins": plugins }))
    }

    /// Network `lan` without further keys.
    pub(crate) fn plain(&self, host: usize) -> Network {
        self.network(host, "lan", Value::Null, Value::Null)
    }

    /// A new container on a host, which answers at port 80.
    pub(crate) fn join(&self, host: usize, network: &Network) -> Outcome<Member> {
        let (container, attachment) = self.sites[host].join("box", network)?;
        let server = container.serve(80)?;
        Ok(Member {
            container,
            attachment,
            _server: server,
        })
    }

    pub(crate) fn leave(&self, host: usize, network: &Network, member: &Member) -> Outcome {
        self.sites[host]
            .runtime()
            .del(network, &member.attachment)?;
        Ok(())
    }

    /// Runs a command line on a host; its output.
    pub(crate) fn shell(&self, host: usize, line: &str) -> Outcome<String> {
        let mut shell = Command::new("sh");
        self.sites[host].host.command(shell.args(["-c", line]))
    }
}

fn extend(object: &mut Value, keys: Value) {
    if let (Value::Object(own), Value::Object(keys)) = (object, keys) {
        own.extend(keys);
    }
}
