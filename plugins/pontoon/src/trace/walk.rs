//! The way of a packet through this host: the bridge, the hooks, the routing.

mod leave;

use std::net::IpAddr;
use std::rc::Rc;

use pontoon_netlink::{Link, RouteEntry, RouteQuestion, RouteSocket, sysctl};
use pontoon_passage::{Hook, HookOutcome, HookTraversal, Packet, Rules, Step};

use super::decided;
use super::path_end::{End, Verdict};
use super::question::{ContainerEndpoint, PacketOrigin, Question};
use crate::facts::{Attachment, Host};
use crate::report::Failure;

/// `RTN_LOCAL`.
pub(super) const LOCAL: u8 = 2;

/// What is expected to happen.
pub(crate) struct Predicted {
    pub(crate) steps: Vec<Step>,
    pub(crate) end: End,
    /// What stands on the way and could not be read.
    pub(crate) doubts: Vec<String>,
    /// The packet as the last hook leaves it.
    pub(crate) packet: Option<Packet>,
    /// The address that it was sent from, before anything was rewritten.
    pub(crate) source: Option<IpAddr>,
}

/// Ends the way here, unless it goes on.
type Way<T> = Result<Result<T, End>, Failure>;

macro_rules! on {
    ($way:expr) => {
        match $way? {
            Ok(value) => value,
            Err(end) => return Ok(end),
        }
    };
}

pub(crate) struct Walk<'a> {
    host: &'a mut Host,
    rules: &'a Rules,
    question: &'a Question,
    attachments: Rc<Vec<Attachment>>,
    own: Vec<(u32, IpAddr)>,
    steps: Vec<Step>,
    doubts: Vec<String>,
    packet: Option<Packet>,
    source: Option<IpAddr>,
}

fn end(verdict: Verdict, reason: impl Into<String>) -> End {
    End::new(verdict, None, reason)
}

fn dropped(reason: impl Into<String>) -> End {
    end(Verdict::Dropped, reason)
}

impl<'a> Walk<'a> {
    pub(crate) fn new(host: &'a mut Host, rules: &'a Rules, question: &'a Question) -> Self {
        Self {
            attachments: host.attachments(),
            own: Vec::new(),
            host,
            rules,
            question,
            steps: Vec::new(),
            doubts: rules.unread.clone(),
            packet: None,
            source: None,
        }
    }

    /// Follows the packet to its end.
    pub(crate) fn predict(mut self) -> Result<Predicted, Failure> {
        let end = self.go()?;
        Ok(Predicted {
            steps: self.steps,
            end,
            doubts: self.doubts,
            packet: self.packet,
            source: self.source,
        })
    }

    fn go(&mut self) -> Result<End, Failure> {
        for address in self
            .host
            .socket
            .all_addresses(self.question.destination.is_ipv4())?
        {
            self.own.push((address.index, address.cidr.ip()));
        }
        let found = match &self.question.place {
            PacketOrigin::Host => self.sent_by_host()?,
            PacketOrigin::Outside(link) => {
                let source = self.question.source.unwrap_or(self.question.destination);
                let packet = self.packet(source);
                let link = link.clone();
                self.tell("wire", format!("comes in by {}", link.name));
                self.comes_in(packet, &link, None)?
            }
            PacketOrigin::Container(inside) => self.sent_by_container(inside)?,
        };
        Ok(match self.doubts.is_empty() {
            true => found,
            false => end(
                Verdict::CannotTell,
                format!(
                    "without what cannot be told: {}, {}",
                    found.verdict.word(),
                    found.reason
                ),
            ),
        })
    }

    fn packet(&mut self, source: IpAddr) -> Packet {
        self.source = Some(source);
        let mut packet = Packet {
            source,
            destination: self.question.destination,
            protocol: self.question.protocol_name().to_owned(),
            ports: self.question.ports,
            in_interface: String::new(),
            out_interface: String::new(),
            in_port: String::new(),
            out_port: String::new(),
            established: false,
            mark: 0,
            dnat: false,
            snat: false,
            source_type: "unicast",
            destination_type: "unicast",
        };
        self.classify(&mut packet);
        packet
    }

    fn is_own(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.own.iter().any(|(_, own)| *own == address)
    }

    fn classify(&self, packet: &mut Packet) {
        let kind = |address: IpAddr| match address {
            address if self.is_own(address) => "local",
            address if address.is_multicast() => "multicast",
            IpAddr::V4(address) if address.is_broadcast() => "broadcast",
            _ => "unicast",
        };
        packet.source_type = kind(packet.source);
        packet.destination_type = kind(packet.destination);
    }

    fn tell(&mut self, at: &str, what: impl Into<String>) {
        self.steps.push(Step {
            at: at.to_owned(),
            chain: None,
            what: what.into(),
            owner: None,
            effect: None,
            handle: None,
            remove: None,
        });
    }

    /// Through the chains of a hook.
    fn hook(
        &mut self,
        hook: Hook,
        bridge: bool,
        packet: &mut Packet,
        own_address: Option<IpAddr>,
    ) -> Result<(), Box<End>> {
        self.classify(packet);
        let mut visit = HookTraversal {
            rules: self.rules,
            hook,
            bridge,
            own_address,
            steps: &mut self.steps,
            doubts: &mut self.doubts,
        };
        let at = visit.at();
        let passed = visit.pass(packet);
        self.classify(packet);
        self.packet = Some(packet.clone());
        match passed {
            HookOutcome::On => Ok(()),
            HookOutcome::Ended { refused, by } => Err(Box::new(match self.steps.last() {
                Some(step) => decided::end(self.host, hook, packet, refused, step),
                None => End::new(Verdict::Dropped, Some(at), format!("by {by}")),
            })),
        }
    }

    /// A hook for a frame on its bridge: its ports are its interfaces.
    fn bridge_hook(
        &mut self,
        hook: Hook,
        packet: &mut Packet,
        from: &str,
        to: &str,
    ) -> Result<(), Box<End>> {
        let kept = (packet.in_interface.clone(), packet.out_interface.clone());
        (packet.in_interface, packet.out_interface) = (from.to_owned(), to.to_owned());
        let passed = self.hook(hook, true, packet, None);
        (packet.in_interface, packet.out_interface) = kept;
        passed
    }

    fn sent_by_host(&mut self) -> Result<End, Failure> {
        let question = RouteQuestion {
            source: self.question.source,
            destination: self.question.destination,
            came_in_by: None,
            mark: 0,
        };
        let route = match self.host.socket.route_of(&question)? {
            Ok(route) => route,
            Err(errno) => return Ok(self.no_route(&question, errno, "")),
        };
        let out = self.out_link(&route);
        let chosen = match self.question.destination {
            destination if self.is_own(destination) => Some(destination),
            _ => route.prefsrc,
        };
        let Some(source) = self.question.source.or(chosen) else {
            return Ok(dropped("the kernel knows no source address for it"));
        };
        let mut packet = self.packet(source);
        let name = match route.kind {
            LOCAL => "lo".to_owned(),
            _ => out.as_ref().map_or(String::new(), |link| link.name.clone()),
        };
        self.tell(
            "routing",
            format!("to {} by {name}, from {source}", packet.destination),
        );
        packet.out_interface = name;
        let before = packet.destination;
        if let Err(end) = self.hook(Hook::Output, false, &mut packet, Some(loopback(before))) {
            return Ok(*end);
        }
        if packet.destination == before && route.kind == LOCAL {
            return Ok(self.deliver(&mut packet, "lo"));
        }
        let (route, out) = match packet.destination == before {
            true => (route, out),
            false => {
                let question = RouteQuestion {
                    source: Some(packet.source),
                    destination: packet.destination,
                    came_in_by: None,
                    mark: packet.mark as u32,
                };
                match self.host.socket.route_of(&question)? {
                    Ok(route) => {
                        let out = self.out_link(&route);
                        (route, out)
                    }
                    Err(errno) => return Ok(self.no_route(&question, errno, "")),
                }
            }
        };
        let Some(out) = out else {
            return Ok(dropped("its route has no interface"));
        };
        if packet.destination != before {
            self.tell(
                "routing",
                format!("to {} by {}", packet.destination, out.name),
            );
        }
        self.leaves(packet, &route, &out, None)
    }

    fn sent_by_container(&mut self, inside: &ContainerEndpoint) -> Result<End, Failure> {
        let mut socket = RouteSocket::open_in(&inside.netns)?;
        let destination = self.question.destination;
        let question = RouteQuestion {
            source: self.question.source,
            destination,
            came_in_by: None,
            mark: 0,
        };
        let route = match socket.route_of(&question)? {
            Ok(route) => route,
            Err(errno) => {
                return Ok(dropped(format!(
                    "container {} has no route to {destination} ({errno})",
                    inside.name
                )));
            }
        };
        if route.kind == LOCAL {
            self.tell("container", format!("{destination} is its own address"));
            return Ok(self.listens(&inside.name, destination));
        }
        let Some(source) = self.question.source.or(route.prefsrc) else {
            return Ok(dropped("the container knows no source address for it"));
        };
        let hop = route.gateway.unwrap_or(destination);
        self.tell("container", format!("sends from {source}, next hop {hop}"));
        let mut packet = self.packet(source);
        let Some(bridge) = inside.bridge.clone() else {
            return self.comes_in(packet, &inside.port.clone(), None);
        };
        if self.own.contains(&(bridge.index, hop)) {
            return self.comes_in(packet, &bridge, Some(&inside.port));
        }
        let Some((name, port)) = self.on_bridge(&bridge, hop) else {
            // No container of Pontoon: the bridge has proxied neighbours, or a foreign interface is plugged in.
            if self.proxies(&bridge) {
                return self.comes_in(packet, &bridge, Some(&inside.port));
            }
            return Ok(dropped(format!(
                "no neighbour on {} has the address {hop}",
                bridge.name
            )));
        };
        if let Err(shut) = self.across(&mut packet, &bridge, &inside.port, &port) {
            if !self.proxies(&bridge) {
                return Ok(*shut);
            }
            let words = format!("{}; the host answers for {hop} and routes", shut.reason);
            self.tell("bridge", words);
            let packet = self.packet(source);
            return self.comes_in(packet, &bridge, Some(&inside.port));
        }
        Ok(self.listens(&name, packet.destination))
    }

    /// From port to port of a bridge.
    fn across(
        &mut self,
        packet: &mut Packet,
        bridge: &Link,
        from: &Link,
        to: &Link,
    ) -> Result<(), Box<End>> {
        self.tell(
            "bridge",
            format!("{}: from {} to {}", bridge.name, from.name, to.name),
        );
        let isolated = |link: &Link| link.port.is_some_and(|port| port.isolated);
        if isolated(from) && isolated(to) {
            return Err(Box::new(decided::apart(self.host, &bridge.name)));
        }
        let filtered = self.bridged_packets_filtered(packet);
        self.bridge_hook(Hook::Prerouting, packet, &from.name, "")?;
        if filtered {
            packet.in_interface.clone_from(&bridge.name);
            packet.in_port.clone_from(&from.name);
            self.hook(Hook::Prerouting, false, packet, None)?;
        }
        self.bridge_hook(Hook::Forward, packet, &from.name, &to.name)?;
        if filtered {
            packet.out_interface.clone_from(&bridge.name);
            packet.out_port.clone_from(&to.name);
            self.hook(Hook::Forward, false, packet, None)?;
        }
        self.bridge_hook(Hook::Postrouting, packet, "", &to.name)?;
        if filtered {
            self.hook(Hook::Postrouting, false, packet, None)?;
        }
        Ok(())
    }

    fn bridged_packets_filtered(&self, packet: &Packet) -> bool {
        let call = if packet.v4() { "iptables" } else { "ip6tables" };
        let path = format!("net/bridge/bridge-nf-call-{call}");
        sysctl::read(&path).is_ok_and(|value| value.trim() == "1")
    }

    fn proxies(&self, bridge: &Link) -> bool {
        ["ipv4/conf/NAME/proxy_arp_pvlan", "ipv6/conf/NAME/proxy_ndp"]
            .iter()
            .any(|path| {
                let path = format!("net/{}", path.replace("NAME", &bridge.name));
                sysctl::read(&path).is_ok_and(|value| value.trim() == "1")
            })
    }

    /// Who has an address on a bridge: its name, and its port.
    fn on_bridge(&self, bridge: &Link, address: IpAddr) -> Option<(String, Link)> {
        let one = self.attachments.iter().find(|one| {
            one.bridge.as_ref() == Some(&bridge.name) && one.ips().any(|ip| ip == address)
        })?;
        let port = self
            .host
            .links
            .iter()
            .find(|link| Some(&link.name) == one.host_interface.as_ref())?;
        Some((one.names.first().unwrap_or(&one.id).clone(), port.clone()))
    }

    fn out_link(&self, route: &RouteEntry) -> Option<Link> {
        self.host.link(route.interface?).cloned()
    }

    /// By an interface of this host.
    fn comes_in(
        &mut self,
        mut packet: Packet,
        by: &Link,
        port: Option<&Link>,
    ) -> Result<End, Failure> {
        let before = packet.destination;
        packet.in_interface.clone_from(&by.name);
        if let Some(port) = port {
            if let Err(end) = self.bridge_hook(Hook::Prerouting, &mut packet, &port.name, "") {
                return Ok(*end);
            }
            packet.in_port.clone_from(&port.name);
        }
        // ip6_rcv() comes before the hook, that of bridged packets before ip6_rcv().
        let early = port.is_some() && self.bridged_packets_filtered(&packet);
        let of_loopback = [packet.source, packet.destination]
            .into_iter()
            .find(|address| address.is_ipv6() && address.is_loopback());
        if let (Some(address), false) = (of_loopback, early) {
            if let Some(port) = port
                && let Err(end) = self.bridge_hook(Hook::Input, &mut packet, &port.name, "")
            {
                return Ok(*end);
            }
            return Ok(End::new(
                Verdict::Dropped,
                Some("routing".to_owned()),
                format!("the kernel takes nothing of {address} that comes by a wire"),
            ));
        }
        let own = self.own.iter().find(|(index, ip)| {
            *index == by.index && ip.is_ipv4() == packet.v4() && !link_local(*ip)
        });
        let own = own.map(|(_, ip)| *ip);
        if let Err(end) = self.hook(Hook::Prerouting, false, &mut packet, own) {
            return Ok(*end);
        }
        let question = RouteQuestion {
            source: Some(packet.source),
            destination: packet.destination,
            came_in_by: Some(by.index),
            mark: packet.mark as u32,
        };
        let route = on!(self.route_in(&question, &by.name));
        if route.kind == LOCAL {
            self.tell(
                "routing",
                format!("{} is this host's own", packet.destination),
            );
            if let Some(port) = port
                && let Err(end) = self.bridge_hook(Hook::Input, &mut packet, &port.name, "")
            {
                return Ok(*end);
            }
            return Ok(self.deliver(&mut packet, &by.name));
        }
        let Some(out) = self.out_link(&route) else {
            return Ok(dropped("its route has no interface"));
        };
        self.tell(
            "routing",
            format!("to {} by {}", packet.destination, out.name),
        );
        let family = if packet.v4() { "ipv4" } else { "ipv6" };
        let path = format!("net/{family}/conf/{}/forwarding", by.name);
        if !sysctl::read(&path).is_ok_and(|value| value.trim() == "1") {
            return Ok(dropped(format!("this host does not forward: {path} is 0")));
        }
        packet.out_interface.clone_from(&out.name);
        // A rewritten packet that goes back to its bridge stays a frame there, when frames are filtered.
        let filtered = self.bridged_packets_filtered(&packet);
        let to = self.on_bridge(&out, packet.destination);
        if let (Some(from), Some((_, to))) = (port, &to)
            && filtered
            && out.index == by.index
            && packet.destination != before
        {
            let hairpin = from.port.is_some_and(|port| port.hairpin);
            if from.index == to.index && !hairpin {
                return Ok(dropped(format!(
                    "{} has no hairpin mode: a frame does not go back out of the port it came in by",
                    from.name
                )));
            }
            if let Err(end) = self.bridge_hook(Hook::Forward, &mut packet, &from.name, &to.name) {
                return Ok(*end);
            }
        }
        if let Err(end) = self.hook(Hook::Forward, false, &mut packet, None) {
            return Ok(*end);
        }
        self.leaves(packet, &route, &out, to)
    }

    fn route_in(&mut self, question: &RouteQuestion, by: &str) -> Way<RouteEntry> {
        Ok(match self.host.socket.route_of(question)? {
            Ok(route) => Ok(route),
            Err(errno) => Err(self.no_route(question, errno, by)),
        })
    }
}

fn link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

fn loopback(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(_) => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
    }
}
