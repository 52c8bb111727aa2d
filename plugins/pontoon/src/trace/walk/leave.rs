//! The end of the way: delivered here, out of an interface, or nowhere.

use std::net::IpAddr;

use pontoon_netlink::{Errno, Link, RouteEntry, RouteQuestion, sysctl};
use pontoon_passage::{Hook, Packet};

use super::{End, Verdict, Walk, dropped, end, link_local};
use crate::report::Failure;

impl Walk<'_> {
    /// Why there is no way: the kernel gives a number only.
    pub(super) fn no_route(&self, question: &RouteQuestion, errno: Errno, by: &str) -> End {
        let read = |name: &str, key: &str| {
            let value = sysctl::read(&format!("net/ipv4/conf/{name}/{key}"));
            value
                .ok()
                .and_then(|value| value.trim().parse::<u8>().ok())
                .unwrap_or(0)
        };
        let source = question
            .source
            .map_or("?".to_owned(), |source| source.to_string());
        let to = question.destination;
        if errno == Errno::EHOSTUNREACH && !by.is_empty() && read(by, "forwarding") == 0 {
            return dropped(format!(
                "this host does not forward: net.ipv4.conf.{by}.forwarding is 0"
            ));
        }
        if matches!(errno, Errno::EXDEV | Errno::EINVAL) {
            let strict = !by.is_empty() && read(by, "rp_filter").max(read("all", "rp_filter")) == 1;
            let loopback = question.source.is_some_and(|source| source.is_loopback());
            return dropped(match (loopback, strict) {
                (true, _) => format!(
                    "routing: a packet from {source} does not leave this host to {to} (route_localnet)"
                ),
                (_, true) => format!(
                    "routing: reverse-path filter of {by}: the way back to {source} is another"
                ),
                _ => format!("routing: the kernel refuses {source} to {to} by {by} ({errno})"),
            });
        }
        end(
            Verdict::Refused,
            format!("routing: no route to {to} ({errno})"),
        )
    }

    /// To this host itself.
    pub(super) fn deliver(&mut self, packet: &mut Packet, by: &str) -> End {
        packet.out_interface.clear();
        packet.in_interface = by.to_owned();
        if let Err(end) = self.hook(Hook::Input, false, packet, None) {
            return *end;
        }
        self.listens("this host", packet.destination)
    }

    pub(super) fn listens(&mut self, who: &str, address: IpAddr) -> End {
        End {
            at: Some(who.to_owned()),
            ..end(Verdict::Arrives, format!("at {who} ({address})"))
        }
    }

    /// Out of an interface of this host.
    pub(super) fn leaves(
        &mut self,
        mut packet: Packet,
        route: &RouteEntry,
        out: &Link,
        to: Option<(String, Link)>,
    ) -> Result<End, Failure> {
        packet.out_interface.clone_from(&out.name);
        packet.in_interface.clear();
        let own = self.source_on(out, route, packet.destination);
        if let Err(end) = self.hook(Hook::Postrouting, false, &mut packet, own) {
            return Ok(*end);
        }
        if packet.source.is_loopback() {
            return Ok(dropped(format!(
                "the receiver takes no packet from {} that comes by a wire",
                packet.source
            )));
        }
        let to = to.or_else(|| self.on_bridge(out, packet.destination));
        if let Some((name, port)) = to {
            if let Err(end) = self.bridge_hook(Hook::Output, &mut packet, "", &port.name) {
                return Ok(*end);
            }
            if !port.up {
                return Ok(dropped(format!("{} is down", port.name)));
            }
            return Ok(self.listens(&name, packet.destination));
        }
        let ptp = self
            .attachments
            .iter()
            .find(|one| one.host_interface.as_ref() == Some(&out.name) && one.bridge.is_none());
        if let Some(one) = ptp {
            let name = one.names.first().unwrap_or(&one.id).clone();
            return Ok(self.listens(&name, packet.destination));
        }
        if out.kind.as_deref() == Some("bridge") {
            return Ok(end(
                Verdict::Refused,
                format!(
                    "no neighbour on {} has the address {}",
                    out.name, packet.destination
                ),
            ));
        }
        self.tell(
            "wire",
            format!("goes out by {}, from {}", out.name, packet.source),
        );
        let words = format!(
            "outside ({}): what happens there is not known here",
            packet.target()
        );
        Ok(End {
            at: Some(out.name.clone()),
            ..end(Verdict::Arrives, words)
        })
    }

    /// The address that masquerade takes: the interface's own, of the next hop's network first.
    fn source_on(&mut self, out: &Link, route: &RouteEntry, to: IpAddr) -> Option<IpAddr> {
        let hop = route.gateway.unwrap_or(to);
        let addresses = self.host.socket.addresses(out.index).ok()?;
        let fit = |with_network: bool| {
            addresses.iter().find(|address| {
                let ip = address.cidr.ip();
                ip.is_ipv4() == to.is_ipv4()
                    && !link_local(ip)
                    && (!with_network || address.cidr.contains(hop))
            })
        };
        fit(true)
            .or_else(|| fit(false))
            .map(|address| address.cidr.ip())
    }
}
