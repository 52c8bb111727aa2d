//! Who sends what to whom: the words of the command line, found on this host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::ValueEnum;
use pontoon_ledger::Sandbox;
use pontoon_netlink::{Link, Netns};
use pontoon_passage::shown;
use serde::Serialize;

use crate::facts::{Attachment, Host};
use crate::inspect::attachments_of;
use crate::report::Failure;

/// The port that it is sent from, unless told: one of those that the kernel gives out itself.
const SOURCE_PORT: u16 = 45_678;

/// A question in words.
pub(crate) struct Asked<'a> {
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) from_port: Option<u16>,
    /// IPv6 where names have both.
    pub(crate) v6: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Icmp,
}

/// Where a packet starts.
pub(crate) enum PacketOrigin {
    Host,
    /// Beyond the link of this name.
    Outside(Link),
    Container(Box<ContainerEndpoint>),
}

/// A container with an interface of its own.
pub(crate) struct ContainerEndpoint {
    pub(crate) name: String,
    pub(crate) netns: Netns,
    /// The host's end of its veth pair.
    pub(crate) port: Link,
    pub(crate) bridge: Option<Link>,
}

/// A packet to be traced.
pub(crate) struct Question {
    pub(crate) place: PacketOrigin,
    /// `None`: the kernel chooses.
    pub(crate) source: Option<IpAddr>,
    pub(crate) destination: IpAddr,
    /// The port that it is sent from, and to; nothing for ICMP.
    pub(crate) ports: Option<(u16, u16)>,
    /// The port that it is to be sent from, where one was told.
    pub(crate) own_port: Option<u16>,
    pub(crate) protocol: Protocol,
}

impl Question {
    /// `tcp`, `icmpv6`: as rules call it.
    pub(crate) fn protocol_name(&self) -> &'static str {
        match (self.protocol, self.destination) {
            (Protocol::Tcp, _) => "tcp",
            (Protocol::Udp, _) => "udp",
            (Protocol::Icmp, IpAddr::V4(_)) => "icmp",
            (Protocol::Icmp, IpAddr::V6(_)) => "icmpv6",
        }
    }

    /// In one line.
    pub(crate) fn text(&self) -> String {
        let from = match &self.place {
            PacketOrigin::Host => "the host".to_owned(),
            PacketOrigin::Outside(link) => format!("outside, by {}", link.name),
            PacketOrigin::Container(inside) => format!("container {}", inside.name),
        };
        format!(
            "{} from {from} to {}",
            self.protocol_name(),
            shown(self.destination, self.ports.map(|(_, to)| to))
        )
    }
}

fn wrong(text: String) -> Failure {
    Failure::Failed(text)
}

/// A destination with its port: `web:80`, `10.0.0.2`, `[fd00::2]:80`.
fn split(text: &str) -> Result<(&str, Option<u16>), Failure> {
    let bad = |what: String, hint: &str| Err(wrong(format!("{text}: {what}\nhint: {hint}")));
    if text.parse::<IpAddr>().is_ok() {
        return Ok((text, None));
    }
    if let Some((rest, protocol)) = text.rsplit_once('/')
        && Protocol::from_str(protocol, true).is_ok()
    {
        let hint = format!("{rest} --proto {}", protocol.to_lowercase());
        return bad("the protocol does not stand in DST".to_owned(), &hint);
    }
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, "")) => (name, None),
            Some((name, port)) if port.starts_with(':') => (name, Some(&port[1..])),
            _ => {
                return bad(
                    "a bracket is not closed before the port".to_owned(),
                    "[fd00::2]:80",
                );
            }
        },
        None => match text.rsplit_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    if text.starts_with('[') && name.parse::<IpAddr>().is_err() {
        return bad(format!("{name} is no address"), "[fd00::2]:80");
    }
    if name.is_empty() {
        return bad(
            "there is no receiver before the port".to_owned(),
            "a container, host, outside, or an address: web:80",
        );
    }
    if name == "localhost" {
        return bad(
            "localhost is another one in each container".to_owned(),
            "127.0.0.1, with host or the container as SRC",
        );
    }
    let Some(word) = port else {
        return Ok((name, None));
    };
    match word.parse::<u16>() {
        Ok(port) if port > 0 => Ok((name, Some(port))),
        _ => bad(
            format!("\"{word}\" is no port"),
            "a number from 1 to 65535: web:80",
        ),
    }
}

/// Finds sender and receiver.
pub(crate) fn find(host: &mut Host, asked: &Asked<'_>) -> Result<Question, Failure> {
    let Asked {
        from, to, protocol, ..
    } = *asked;
    let (name, port) = split(to)?;
    if let Some((name, port)) = from
        .rsplit_once(':')
        .filter(|_| from.parse::<IpAddr>().is_err())
    {
        return Err(wrong(format!(
            "{from}: SRC takes no port\nhint: {name}, and --from-port {port}"
        )));
    }
    let protocol = protocol.unwrap_or(match port {
        Some(_) => Protocol::Tcp,
        None => Protocol::Icmp,
    });
    if port.is_none() && protocol != Protocol::Icmp {
        return Err(wrong(format!(
            "{to} names no port\nhint: {to}:80, or --proto icmp"
        )));
    }
    let written = name.parse::<IpAddr>().ok();
    let v4 = match (written, from.parse::<IpAddr>().ok()) {
        (Some(address), _) | (None, Some(address)) => address.is_ipv4(),
        (None, None) => !asked.v6,
    };
    let destination = match written {
        Some(address) => address,
        None => match address_of(host, name, v4) {
            Err(Failure::NotFound(_)) if port.is_none() && name.parse::<u16>().is_ok() => {
                return Err(wrong(format!(
                    "{name}: a port without a receiver, and no container is called so\nhint: web:{name}, or host:{name}"
                )));
            }
            found => found?,
        },
    };
    let (place, source) = place(host, from, v4)?;
    if source.is_some_and(|source| source.is_ipv4() != destination.is_ipv4()) {
        return Err(wrong(format!(
            "{from} and {to} are addresses of two families"
        )));
    }
    Ok(Question {
        place,
        source,
        destination,
        ports: port
            .filter(|_| protocol != Protocol::Icmp)
            .map(|to| (asked.from_port.unwrap_or(SOURCE_PORT), to)),
        own_port: asked.from_port,
        protocol,
    })
}

/// The one address that a word means.
fn address_of(host: &mut Host, name: &str, v4: bool) -> Result<IpAddr, Failure> {
    let family = if v4 { "IPv4" } else { "IPv6" };
    match name {
        "host" => {
            let uplink = uplink(host, v4)?;
            let addresses = crate::facts::global(&mut host.socket, uplink.index)?;
            let own = addresses.iter().find_map(|text| parse(text, v4));
            own.ok_or_else(|| wrong(format!("{} has no {family} address", uplink.name)))
        }
        "outside" => beyond(host, v4),
        container => {
            let attachments = attachments_of(host, container)?;
            let mut addresses = attachments.iter().flat_map(|one| &one.addresses);
            let found = addresses.find_map(|text| parse(text, v4));
            found.ok_or_else(|| wrong(format!("{container} has no {family} address")))
        }
    }
}

fn parse(cidr: &str, v4: bool) -> Option<IpAddr> {
    let address: IpAddr = cidr.split('/').next()?.parse().ok()?;
    (address.is_ipv4() == v4).then_some(address)
}

/// The link with the default route.
fn uplink(host: &mut Host, v4: bool) -> Result<Link, Failure> {
    let routes = host.socket.routes(v4)?;
    let defaults = routes
        .iter()
        .filter(|route| route.destination.prefix() == 0);
    let best = defaults.min_by_key(|route| route.priority.unwrap_or(0));
    let link = best.and_then(|route| host.link(route.interface?)).cloned();
    link.ok_or_else(|| {
        wrong(
            "this host has no default route\nhint: give an address instead of host or outside"
                .to_owned(),
        )
    })
}

/// A sender outside: the gateway, since what is beyond it is all the same to this host.
fn beyond(host: &mut Host, v4: bool) -> Result<IpAddr, Failure> {
    let routes = host.socket.routes(v4)?;
    let mut defaults = routes
        .iter()
        .filter(|route| route.destination.prefix() == 0);
    // Documentation addresses (RFC 5737, RFC 3849) for a link without a gateway.
    let example = match v4 {
        true => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        false => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    };
    Ok(defaults.find_map(|route| route.gateway).unwrap_or(example))
}

/// Where the sender is, and its address.
fn place(host: &mut Host, name: &str, v4: bool) -> Result<(PacketOrigin, Option<IpAddr>), Failure> {
    if name == "host" {
        return Ok((PacketOrigin::Host, None));
    }
    if name == "outside" {
        let address = beyond(host, v4)?;
        return Ok((PacketOrigin::Outside(uplink(host, v4)?), Some(address)));
    }
    if let Ok(address) = name.parse::<IpAddr>() {
        return place_of(host, address);
    }
    let attachments = attachments_of(host, name)?;
    match attachments.iter().find(|one| one.mode == "host") {
        Some(_) => Ok((PacketOrigin::Host, None)),
        None => Ok((
            PacketOrigin::Container(Box::new(inside(host, &attachments)?)),
            None,
        )),
    }
}

fn place_of(host: &mut Host, address: IpAddr) -> Result<(PacketOrigin, Option<IpAddr>), Failure> {
    if host
        .socket
        .all_addresses(address.is_ipv4())?
        .iter()
        .any(|own| own.cidr.ip() == address)
    {
        return Ok((PacketOrigin::Host, Some(address)));
    }
    let own = host.attachments();
    let has = |one: &&Attachment| {
        let mut addresses = one.addresses.iter();
        one.host_interface.is_some()
            && addresses.any(|text| parse(text, address.is_ipv4()) == Some(address))
    };
    if let Some(one) = own.iter().find(has) {
        let inside = inside(host, std::slice::from_ref(one))?;
        return Ok((PacketOrigin::Container(Box::new(inside)), Some(address)));
    }
    let route = host.socket.route_to(address)?;
    let link = route.and_then(|route| host.link(route.interface?)).cloned();
    match link {
        Some(link) => Ok((PacketOrigin::Outside(link), Some(address))),
        None => Err(wrong(format!("this host has no way to {address}"))),
    }
}

/// Of a container's attachments the first with an interface of its own, or that of whom it shares.
fn inside(host: &Host, attachments: &[Attachment]) -> Result<ContainerEndpoint, Failure> {
    let all = host.attachments();
    for one in attachments {
        let other = one.shares.as_ref();
        let shared = all.iter().find(|other_one| {
            other.is_some_and(|id| other_one.id == *id && other_one.host_interface.is_some())
        });
        let own = shared.unwrap_or(one);
        let named = |name: &Option<String>| {
            let mut links = host.links.iter();
            links
                .find(|link| Some(&link.name) == name.as_ref())
                .cloned()
        };
        let sandbox = own.about.as_ref().map(|about| &about.sandbox);
        let netns = sandbox.map_or(Ok(None), Sandbox::open)?;
        if let (Some(port), Some(netns)) = (named(&own.host_interface), netns) {
            return Ok(ContainerEndpoint {
                name: one.names.first().unwrap_or(&one.id).clone(),
                netns,
                port,
                bridge: named(&own.bridge),
            });
        }
    }
    let (id, mode) = attachments
        .first()
        .map_or(("", ""), |one| (one.id.as_str(), one.mode));
    Err(wrong(format!(
        "{id} (mode {mode}) has no interface that leads through this host\nhint: pontoon doctor --container {id}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_and_ports() {
        for (text, name, port) in [
            ("web:80", "web", Some(80)),
            ("web", "web", None),
            ("10.0.0.2:53", "10.0.0.2", Some(53)),
            ("fd00::80", "fd00::80", None),
            ("[fd00::80]:80", "fd00::80", Some(80)),
            ("[fd00::80]", "fd00::80", None),
        ] {
            assert_eq!(split(text).unwrap(), (name, port));
        }
    }

    #[test]
    fn wrong_words_are_called_that() {
        for (text, words) in [
            ("db:99999", "\"99999\" is no port"),
            ("db:0", "\"0\" is no port"),
            ("db:http", "\"http\" is no port"),
            ("db:", "\"\" is no port"),
            ("10.93.0.3:5432/udp", "--proto udp"),
            ("localhost:8080", "another one in each container"),
            ("localhost", "another one in each container"),
            (":8080", "no receiver"),
            ("[fd00::2:80", "bracket"),
            ("[web]:80", "web is no address"),
        ] {
            let Err(Failure::Failed(error)) = split(text) else {
                panic!("{text} is taken");
            };
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
