//! Several hosts with a network below, and the files that an agent would write on each.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;

use ipnetwork::IpNetwork;
use pontoon_netlink::{BridgeSpec, LinkChange, Netns, RouteSocket, Setup};
use serde_json::{Value, json};

use super::failure::{Failure, Outcome};
use super::host::{Host, cable};

/// A switch that hosts are plugged into, each by its interface `under0`.
pub struct Switch {
    netns: Netns,
    bridge: u32,
}

impl Switch {
    /// A switch without hosts.
    pub fn new() -> Outcome<Self> {
        let act = "make a switch";
        let netns = Netns::create_unnamed().map_err(Failure::act(act))?;
        let mut socket = RouteSocket::open_in(&netns).map_err(Failure::act(act))?;
        let spec = BridgeSpec {
            name: "switch",
            mac: [2, 0, 0, 0, 60, 0],
            ..BridgeSpec::default()
        };
        let bridge = socket.create_bridge(&spec).map_err(Failure::act(act))?;
        Ok(Self {
            netns,
            bridge: bridge.index,
        })
    }

    /// Plugs a host in, as number `number` of the switch, with these addresses.
    pub fn plug(&self, host: &Host, number: u8, addresses: &[IpNetwork], mtu: u32) -> Outcome {
        /// A host that has been up for a while has found out that its addresses are no other host's.
        const SETTLED: &str = "net/ipv6/conf/default/accept_dad";
        let act = "plug a host into the switch";
        let before = host.get(SETTLED)?;
        host.set(SETTLED, "0")?;
        let mut socket = host.run(RouteSocket::open)?.map_err(Failure::act(act))?;
        let mut other = RouteSocket::open_in(&self.netns).map_err(Failure::act(act))?;
        let port = format!("host{number}");
        let mut spec = cable("under0", &self.netns, [2, 0, 0, 1, 60, number]);
        spec.peer_name = &port;
        spec.mac = Some([2, 0, 0, 0, 60, number]);
        spec.mtu = Some(mtu);
        let veth = socket.create_veth(&spec).map_err(Failure::act(act))?;
        let change = LinkChange {
            master: Some(Some(self.bridge)),
            up: Some(true),
            ..LinkChange::default()
        };
        other
            .set_link(veth.peer_index, &change)
            .map_err(Failure::act(act))?;
        let setup = Setup {
            index: veth.index,
            up: true,
            ..Setup::default()
        };
        socket.configure(&setup).map_err(Failure::act(act))?;
        for address in addresses {
            // No one else has it: it works at once.
            socket
                .add_address(veth.index, *address, true)
                .map_err(Failure::act(act))?;
        }
        host.set(SETTLED, before.as_deref().unwrap_or("1"))
    }

    /// Its namespace, for one that is no host of any network.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }
}

/// Another host, as the list of hosts has it.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its id.
    pub host: String,
    /// Its end of the tunnel.
    pub underlay: Vec<IpAddr>,
    /// Its blocks.
    pub blocks: Vec<String>,
    /// Hardware address of its tunnel device.
    pub mac: [u8; 6],
}

/// A subnet, and the prefix length of its blocks.
pub type Subnet = (String, u8);

/// What an agent writes for one host of a network.
#[derive(Debug, Clone)]
pub struct Overlay {
    /// Network name.
    pub network: String,
    /// The whole network.
    pub subnets: Vec<Subnet>,
    /// Its number in the tunnel.
    pub vni: u32,
    /// `vxlan`, `direct` or `auto`.
    pub mode: &'static str,
    /// This host, as the others have it.
    pub own: Peer,
    /// The others.
    pub peers: Vec<Peer>,
}

impl Overlay {
    /// A network of IPv4 and IPv6 whose only host is this one.
    #[must_use]
    pub fn alone(network: &str, address: IpAddr) -> Self {
        Self {
            network: network.to_owned(),
            subnets: vec![("10.5.0.0/16".to_owned(), 24), ("fd05::/48".to_owned(), 64)],
            vni: 5,
            mode: "auto",
            own: Peer {
                host: "h1".to_owned(),
                underlay: vec![address],
                blocks: vec!["10.5.1.0/24".to_owned(), "fd05:0:0:1::/64".to_owned()],
                mac: [2, 0x70, 0, 0, 0, 1],
            },
            peers: Vec::new(),
        }
    }

    /// Writes the files as the host's agent would.
    pub fn write(&self, host: &Host) -> Outcome {
        let dir = host.overlay_dir();
        let act = || format!("write the files of overlay network {}", self.network);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(Failure::act(act()))?;
        let subnets: Vec<Value> = self
            .subnets
            .iter()
            .map(|(subnet, prefix)| json!({ "subnet": subnet, "block_prefix": prefix }))
            .collect();
        let network = json!({
            "version": 1, "network": self.network, "subnets": subnets, "vni": self.vni, "port": 4789,
            "mode": self.mode, "host": self.own.host, "underlay": underlay(&self.own), "blocks": self.own.blocks,
        });
        let peers: Vec<Value> = self
            .peers
            .iter()
            .map(|peer| {
                let mac = peer.mac.map(|byte| format!("{byte:02x}")).join(":");
                json!({
                    "host": peer.host, "underlay": underlay(peer), "mac": mac, "blocks": peer.blocks,
                })
            })
            .collect();
        let peers = json!({ "version": 1, "peers": peers });
        for (file, value) in [
            (format!("{}.json", self.network), network),
            (format!("{}.peers.json", self.network), peers),
        ] {
            fs::write(dir.join(file), value.to_string()).map_err(Failure::act(act()))?;
        }
        Ok(())
    }
}

fn underlay(peer: &Peer) -> Value {
    let family = |v4: bool| peer.underlay.iter().find(|it| it.is_ipv4() == v4);
    let mut found = json!({});
    for (key, address) in [("v4", family(true)), ("v6", family(false))] {
        if let Some(address) = address {
            found[key] = json!(address);
        }
    }
    found
}
