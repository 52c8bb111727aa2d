//! The way back: whether a reply is sent, and comes to where the packet came from. Lost is only said of what
//! this host can see for certain.

use std::net::IpAddr;

use pontoon_ledger::Sandbox;
use pontoon_netlink::{Link, RouteQuestion, RouteSocket, sysctl};
use pontoon_passage::{Hook, Packet, PacketVerdict, Rules};
use serde::Serialize;

use super::path_end::Verdict;
use super::question::{PacketOrigin, Protocol, Question};
use super::walk::{LOCAL, Predicted};
use crate::doctor::sockets;
use crate::facts::{Attachment, Host};
use crate::report::Failure;

/// What becomes of the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ReplyOutcome {
    ComesBack,
    Lost,
    CannotTell,
}

#[derive(Debug, Serialize)]
pub(crate) struct Reply {
    pub(crate) fate: ReplyOutcome,
    pub(crate) reason: String,
}

impl Reply {
    pub(crate) fn lost(&self) -> bool {
        self.fate == ReplyOutcome::Lost
    }
}

fn lost(reason: String) -> Reply {
    Reply {
        fate: ReplyOutcome::Lost,
        reason,
    }
}

fn unknown(reason: String) -> Reply {
    Reply {
        fate: ReplyOutcome::CannotTell,
        reason,
    }
}

/// Of a packet that arrives; nothing where there is nothing to tell.
pub(super) fn of(
    host: &mut Host,
    rules: &Rules,
    question: &Question,
    predicted: &Predicted,
) -> Result<Option<Reply>, Failure> {
    let (Verdict::Arrives, Some(at)) = (predicted.end.verdict, &predicted.end.at) else {
        return Ok(None);
    };
    let packet = match &predicted.packet {
        Some(packet) => packet.clone(),
        // It never left its container.
        None => {
            let own = question.destination;
            let (from, to) = question.ports.unwrap_or_default();
            let mut packet = Packet::new(question.protocol_name(), (own, from), (own, to));
            packet.ports = question.ports;
            packet
        }
    };
    let attachments = host.attachments();
    let way = ReplyPath {
        rules,
        question,
        packet: &packet,
        source: predicted.source,
    };
    if at == "this host" {
        return way.reply_of_host(host).map(Some);
    }
    let named = |one: &&Attachment| one.names.first().unwrap_or(&one.id) == at;
    let there = |one: &&Attachment| one.ips().any(|ip| ip == packet.destination);
    let receiver = attachments.iter().filter(named).find(there);
    match receiver {
        Some(one) => way.reply_of_container(host, at, one).map(Some),
        None if host.links.iter().any(|link| link.name == *at) => way.reply_of_outside(host),
        None => Ok(None),
    }
}

struct ReplyPath<'a> {
    rules: &'a Rules,
    question: &'a Question,
    /// As it arrives.
    packet: &'a Packet,
    /// Who sent it, before anything was rewritten.
    source: Option<IpAddr>,
}

impl ReplyPath<'_> {
    fn service(&self) -> String {
        let port = self.packet.destination_port().unwrap_or(0);
        format!("{port}/{}", self.packet.protocol)
    }

    fn comes_back(&self, who: &str) -> Reply {
        let reason = match self.question.protocol {
            Protocol::Icmp => format!("{who} has a way back"),
            _ => format!("{who} listens on {}, and has a way back", self.service()),
        };
        Reply {
            fate: ReplyOutcome::ComesBack,
            reason,
        }
    }

    /// Of the calling thread's namespace.
    fn is_taken(&self) -> Result<bool, Failure> {
        match self.packet.destination_port() {
            Some(port) => sockets::takes(&self.packet.protocol, self.packet.destination, port),
            None => Ok(true),
        }
    }

    fn refused(&self, who: &str) -> Reply {
        let how = match self.question.protocol {
            Protocol::Tcp => "the connection is refused",
            _ => "nothing answers",
        };
        lost(format!(
            "no process listens on {} in {who}: {how}",
            self.service()
        ))
    }

    fn reply_of_host(&self, host: &mut Host) -> Result<Reply, Failure> {
        if !self.is_taken()? {
            return Ok(self.refused("this host"));
        }
        let back = RouteQuestion {
            source: Some(self.packet.destination),
            destination: self.packet.source,
            came_in_by: None,
            mark: 0,
        };
        if let Err(errno) = host.socket.route_of(&back)? {
            return Ok(lost(format!(
                "this host has no route to {} ({errno})",
                self.packet.source
            )));
        }
        Ok(self.comes_back("this host"))
    }

    /// What is outside knows its own way back, if the packet has an address of this host.
    fn reply_of_outside(&self, host: &mut Host) -> Result<Option<Reply>, Failure> {
        let own = host.socket.all_addresses(self.packet.v4())?;
        let source = self.packet.source;
        if own.iter().any(|own| own.cidr.ip() == source) {
            return Ok(None);
        }
        Ok(Some(unknown(format!(
            "it leaves with the address {source}, which is not this host's: a reply comes only if the outside has a route here"
        ))))
    }

    fn reply_of_container(
        &self,
        host: &mut Host,
        name: &str,
        one: &Attachment,
    ) -> Result<Reply, Failure> {
        let who = format!("container {name}");
        let sandbox = one.about.as_ref().map(|about| &about.sandbox);
        let opened = sandbox.map_or(Ok(None), Sandbox::open);
        let Some(netns) = opened? else {
            return Ok(unknown(format!("the namespace of {who} cannot be opened")));
        };
        let mut inside = RouteSocket::open_in(&netns)?;
        let link = inside.link_by_name(&one.interface)?;
        if link.as_ref().is_none_or(|link| !link.up) {
            return Ok(lost(format!("{} of {who} is down", one.interface)));
        }
        let taken = netns
            .run(|| self.is_taken())
            .map_err(|error| Failure::Failed(error.to_string()))?;
        if !taken? {
            return Ok(self.refused(&who));
        }
        let to = self.packet.source;
        let back = RouteQuestion {
            source: Some(self.packet.destination),
            destination: to,
            came_in_by: None,
            mark: 0,
        };
        let route = match inside.route_of(&back)? {
            Ok(route) => route,
            Err(errno) => {
                let words = match defaults(&mut inside, to.is_ipv4())? {
                    true => "",
                    false => ", and no default route",
                };
                return Ok(lost(format!("{who} has no route to {to}{words} ({errno})")));
            }
        };
        if route.kind == LOCAL {
            // It has sent to itself; or to its own published port, and is told its own address.
            return Ok(match self.packet.dnat {
                true => lost(format!(
                    "{who} has the sender's address {to} itself: the reply does not leave it"
                )),
                false => self.comes_back(&who),
            });
        }
        let interface = match route.interface {
            Some(index) => inside.link_by_index(index)?.map(|link| link.name),
            None => None,
        };
        let interface = interface.unwrap_or_default();
        let hop = route.gateway.unwrap_or(to);
        let own = host.socket.all_addresses(to.is_ipv4())?;
        let Some(gateway) = own.iter().find(|own| own.cidr.ip() == hop) else {
            return Ok(self.past_the_host(&who, one, &interface, hop));
        };
        let Some(link) = host.link(gateway.index).cloned() else {
            return Ok(self.comes_back(&who));
        };
        self.through_the_host(host, &who, &interface, &link, one)
    }

    /// By a sibling, or a router that is not this host.
    fn past_the_host(&self, who: &str, one: &Attachment, interface: &str, hop: IpAddr) -> Reply {
        let rewritten = self.packet.dnat || self.packet.snat;
        let bridged = match &self.question.place {
            PacketOrigin::Container(from) => {
                from.bridge.as_ref().map(|bridge| &bridge.name) == one.bridge.as_ref()
                    && interface == one.interface
            }
            _ => false,
        };
        if rewritten && !bridged {
            return lost(format!(
                "{who} answers {hop} past this host, by {interface}, from {}: nothing writes the address {} back",
                self.packet.destination, self.question.destination
            ));
        }
        self.comes_back(who)
    }

    /// In by this link of the host, and on to the sender.
    fn through_the_host(
        &self,
        host: &mut Host,
        who: &str,
        interface: &str,
        by: &Link,
        one: &Attachment,
    ) -> Result<Reply, Failure> {
        let (own, v4) = (self.packet.destination, self.packet.v4());
        let read = |path: String| {
            sysctl::read(&path)
                .ok()
                .and_then(|value| value.trim().parse::<u8>().ok())
        };
        let forward = host.socket.route_to(own)?.and_then(|route| route.interface);
        if v4 && forward.is_some_and(|index| index != by.index) {
            let filter = |name: &str| read(format!("net/ipv4/conf/{name}/rp_filter")).unwrap_or(0);
            if filter("all").max(filter(&by.name)) == 1 {
                return Ok(lost(format!(
                    "{who} answers by {interface}, not by {}: the strict reverse-path filter of {} drops it (net.ipv4.conf.{}.rp_filter)",
                    one.interface, by.name, by.name
                )));
            }
        }
        let Some(sender) = self.source else {
            return Ok(self.comes_back(who));
        };
        let mut forwarded = self.packet.clone();
        forwarded.source = sender;
        forwarded.out_interface.clone_from(&by.name);
        let hook = match &self.question.place {
            PacketOrigin::Host => Hook::Input,
            PacketOrigin::Outside(link) => {
                forwarded.in_interface.clone_from(&link.name);
                Hook::Forward
            }
            PacketOrigin::Container(from) => {
                let link = from.bridge.as_ref().unwrap_or(&from.port);
                forwarded.in_interface.clone_from(&link.name);
                Hook::Forward
            }
        };
        if hook == Hook::Forward {
            let family = if v4 { "ipv4" } else { "ipv6" };
            let path = format!("net/{family}/conf/{}/forwarding", by.name);
            if read(path.clone()) == Some(0) {
                return Ok(lost(format!(
                    "this host does not forward what comes by {}: {path} is 0",
                    by.name
                )));
            }
        }
        if let PacketVerdict::Dropped(drop) = self.rules.judge(hook, &forwarded.reply()) {
            return Ok(lost(format!("it is dropped on its way back by {drop}")));
        }
        if let PacketOrigin::Outside(link) = &self.question.place {
            let back = RouteQuestion {
                source: None,
                destination: sender,
                came_in_by: None,
                mark: 0,
            };
            match host.socket.route_of(&back)? {
                Err(errno) => {
                    return Ok(lost(format!(
                        "this host has no route back to {sender} ({errno})"
                    )));
                }
                Ok(route) => {
                    let out = route.interface.and_then(|index| host.link(index));
                    if let Some(out) = out.filter(|out| out.index != link.index) {
                        return Ok(unknown(format!(
                            "it leaves by {}, not by {} where the packet came in: who is there may not take it",
                            out.name, link.name
                        )));
                    }
                }
            }
        }
        Ok(self.comes_back(who))
    }
}

fn defaults(inside: &mut RouteSocket, v4: bool) -> Result<bool, Failure> {
    let routes = inside.routes(v4)?;
    Ok(routes.iter().any(|route| route.destination.prefix() == 0))
}
