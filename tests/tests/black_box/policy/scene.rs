//! One lab for one policy: two networks, four containers, the outside and a neighbour.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::{fmt, fs};

use pontoon_lab::{
    Attachment, Backend, Container, Failure, HOST_V4, HOST_V6, Network, OUTSIDE_V4, OUTSIDE_V6,
    Outcome, Protocol, SECOND_V4, SECOND_V6, Shot, ShotOutcome, Site, Volley,
};
use pontoon_netlink::{LinkChange, Netns, RouteSocket, RouteSpec};
use serde_json::{Value, json};

use super::table::{ALL, PLACES, Place, PolicyCase, What, arrives};

const LAN: [&str; 2] = ["10.91.0.0/24", "fd00:91::/64"];
const OTHER: [&str; 2] = ["10.92.0.0/24", "fd00:92::/64"];
/// The port that is published and linked to, and another that is listened at.
const SERVED: u16 = 80;
const UNLINKED: u16 = 81;
const PUBLISHED: u16 = 8080;
const ON_LOOPBACK: u16 = 8081;
const ON_ADDRESS: u16 = 8082;
const STRANGERS: u16 = 8090;

pub(crate) struct Scene {
    pub(crate) site: Site,
    pub(crate) stance: PolicyCase,
    neighbour: Netns,
    guests: Vec<(Place, Container, Attachment)>,
    volley: Volley,
}

fn keys(stance: PolicyCase) -> Value {
    match stance {
        PolicyCase::Open => json!({}),
        PolicyCase::Docker => json!({ "profile": "docker" }),
        PolicyCase::IccOff | PolicyCase::Link => json!({ "profile": "docker", "icc": false }),
        PolicyCase::Internal => json!({ "profile": "docker", "internal": true }),
        PolicyCase::Trusted => json!({ "profile": "docker", "trustedInterfaces": ["eth1"] }),
        PolicyCase::NoHostAccess => json!({ "profile": "docker", "hostAccess": false }),
    }
}

impl Scene {
    pub(crate) fn new(backend: Backend, bridge_nf_call: bool, stance: PolicyCase) -> Outcome<Self> {
        let site = Site::new(backend)?;
        site.host.bridge_nf_call(bridge_nf_call)?;
        let neighbour = site.host.neighbour()?;
        let lan = site.firewalled("lan", &LAN, keys(stance)).with(
            "bridge",
            "internal",
            json!(stance == PolicyCase::Internal),
        );
        let other = site.firewalled("other", &OTHER, json!({}));
        let mut scene = Self {
            site,
            stance,
            neighbour,
            guests: Vec::new(),
            volley: Volley::default(),
        };
        // The linked one comes first: its link waits for the target.
        for place in [
            Place::Linked,
            Place::Target,
            Place::Sibling,
            Place::Stranger,
        ] {
            let network = if place == Place::Stranger {
                &other
            } else {
                &lan
            };
            scene.join(place, network)?;
        }
        let open = |volley: &mut Volley, place: Place, netns: &Netns| {
            volley.station(place as usize, netns, &[SERVED, UNLINKED])
        };
        open(&mut scene.volley, Place::Host, scene.site.host.netns())?;
        for (place, netns, gateways) in [
            (
                Place::Outside,
                scene.site.host.outside(),
                [HOST_V4, HOST_V6],
            ),
            (Place::Neighbour, &scene.neighbour, [SECOND_V4, SECOND_V6]),
        ] {
            abroad(netns, gateways)?;
            open(&mut scene.volley, place, netns)?;
        }
        for (place, container, _) in &scene.guests {
            let net = if place.on_lan() { 0x91 } else { 0x92 };
            let decimal = if place.on_lan() { 91 } else { 92 };
            let gateways = [
                IpAddr::V4(Ipv4Addr::new(10, decimal, 0, 1)),
                IpAddr::V6(Ipv6Addr::new(0xfd00, net, 0, 0, 0, 0, 0, 1)),
            ];
            abroad(container.netns(), gateways)?;
            open(&mut scene.volley, *place, container.netns())?;
        }
        Ok(scene)
    }

    fn join(&mut self, place: Place, network: &Network) -> Outcome {
        let name = format!("{place:?}").to_lowercase();
        let container = Container::new(&name)?;
        let mut attachment = Attachment::new(&container);
        attachment.args = format!("IgnoreUnknown=1;K8S_POD_NAME={name}");
        let ports: &[(&str, u16)] = match place {
            Place::Target if self.stance != PolicyCase::Internal => &[
                ("", PUBLISHED),
                ("127.0.0.1", ON_LOOPBACK),
                ("::1", ON_LOOPBACK),
                ("198.18.8.1", ON_ADDRESS),
                ("2001:db8:fd::1", ON_ADDRESS),
            ],
            Place::Stranger => &[("", STRANGERS)],
            _ => &[],
        };
        for (address, port) in ports {
            for protocol in ["tcp", "udp"] {
                attachment = attachment.publish(address, *port, SERVED, protocol);
            }
        }
        // With icc a link changes nothing.
        if place == Place::Linked && self.stance != PolicyCase::IccOff {
            let ports = json!([{ "port": SERVED, "protocol": "tcp" }, { "port": SERVED, "protocol": "udp" }]);
            let links = json!([{ "container": "target", "alias": "db", "ports": ports }]);
            attachment.capabilities.insert("links".to_owned(), links);
        }
        self.site.runtime().add(network, &mut attachment)?;
        self.guests.push((place, container, attachment));
        Ok(())
    }

    fn own(&self, place: Place, v6: bool) -> Outcome<IpAddr> {
        let guest = self.guests.iter().find(|(guest, ..)| *guest == place);
        let address = guest.and_then(|(.., attachment)| attachment.address(v6));
        address
            .ok_or_else(|| Failure::new(format!("{place:?} has no address")))?
            .parse()
            .map_err(Failure::act("parse an address"))
    }

    fn address(&self, what: What, v6: bool) -> Outcome<SocketAddr> {
        let of = |v4, six| if v6 { six } else { v4 };
        let host = of(HOST_V4, HOST_V6);
        let loopback = of(
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        );
        let (ip, port) = match what {
            What::Service => (self.own(Place::Target, v6)?, SERVED),
            What::OtherPort => (self.own(Place::Target, v6)?, UNLINKED),
            What::Published => (host, PUBLISHED),
            What::OnLoopback => (loopback, ON_LOOPBACK),
            What::LoopbackElsewhere => (host, ON_LOOPBACK),
            What::OnAddress => (of(SECOND_V4, SECOND_V6), ON_ADDRESS),
            What::AddressElsewhere => (host, ON_ADDRESS),
            What::Sibling => (self.own(Place::Sibling, v6)?, SERVED),
            What::Linked => (self.own(Place::Linked, v6)?, SERVED),
            What::LinkedBackwards => (self.own(Place::Linked, v6)?, UNLINKED),
            What::Stranger => (self.own(Place::Stranger, v6)?, SERVED),
            What::StrangerPublished => (host, STRANGERS),
            What::World => (of(OUTSIDE_V4, OUTSIDE_V6), SERVED),
            What::Host => (host, SERVED),
        };
        Ok(SocketAddr::new(ip, port))
    }

    /// Every cell, with its packet and whether that must arrive.
    pub(crate) fn cells(&self) -> Outcome<Vec<Cell>> {
        let mut cells = Vec::new();
        for v6 in [false, true] {
            for what in ALL {
                let to = self.address(what, v6)?;
                for (from, protocol) in PLACES
                    .into_iter()
                    .flat_map(|from| Protocol::ALL.map(|protocol| (from, protocol)))
                {
                    let backwards = what == What::LinkedBackwards && from == Place::Target;
                    let shot = Shot {
                        from: from as usize,
                        to,
                        protocol,
                        at: what.at() as usize,
                        source_port: backwards.then_some(SERVED),
                        arrives: arrives(self.stance, from, what, protocol, v6),
                    };
                    cells.push(Cell { from, what, shot });
                }
            }
        }
        Ok(cells)
    }

    /// Sends every packet.
    pub(crate) fn fire(&mut self, cells: &[Cell]) -> Outcome<Vec<ShotOutcome>> {
        let shots: Vec<Shot> = cells.iter().map(|cell| cell.shot).collect();
        self.volley.fire(&shots)
    }
}

/// One question of the matrix.
pub(crate) struct Cell {
    pub(crate) from: Place,
    pub(crate) what: What,
    pub(crate) shot: Shot,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shot { to, protocol, .. } = self.shot;
        write!(
            f,
            "{:?} to {:?} by {protocol:?} ({to})",
            self.from, self.what
        )
    }
}

/// Makes a namespace send what is for a loopback address to the host, and everything else that it
/// knows no way for. Its loopback interface stays up for what it sends to itself.
fn abroad(netns: &Netns, gateways: [IpAddr; 2]) -> Outcome {
    let act = "lead loopback addresses abroad";
    let work = || -> Outcome {
        fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").map_err(Failure::act(act))?;
        let mut socket = RouteSocket::open().map_err(Failure::act(act))?;
        let up = LinkChange {
            up: Some(true),
            ..LinkChange::default()
        };
        socket.set_link(1, &up).map_err(Failure::act(act))?;
        for (own, all, gateway) in [
            ("127.0.0.1/8", "0.0.0.0/0", gateways[0]),
            ("::1/128", "::/0", gateways[1]),
        ] {
            let own: pontoon_netlink::IpNetwork = own.parse().map_err(Failure::act(act))?;
            socket.remove_address(1, own).map_err(Failure::act(act))?;
            let single = if gateway.is_ipv4() {
                "127.0.0.1/32"
            } else {
                "::1/128"
            };
            for destination in [single, all] {
                let route = RouteSpec {
                    gateway: Some(gateway),
                    ..RouteSpec::to(destination.parse().map_err(Failure::act(act))?)
                };
                // The default route may be there.
                socket.add_route(&route).map_err(Failure::act(act))?;
            }
        }
        Ok(())
    };
    netns.run(work).map_err(Failure::act(act))?
}
