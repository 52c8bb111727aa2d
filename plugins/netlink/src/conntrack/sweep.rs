//! Cutting flows to many ports in one pass over all flows, by a child that shares its parent's memory: what it needs is
//! made before it starts, and it takes no lock and asks for no memory.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use netlink_packet_core::NLM_F_DUMP;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};

use super::message::{self, Flow};
use super::{Conntrack, LOCAL, Port};
use crate::error::Error;
use crate::frame::{Frame, Frames, MessageMeaning};
use crate::netfilter::receive;
use crate::route::RouteSocket;

const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
/// Where `struct rtmsg` has its `rtm_type`.
const ROUTE_TYPE: usize = 7;
/// The kernel builds listings in pieces of at most 32 KiB; a route is shorter.
const ROOM: usize = 64 * 1024;
/// More than the order to delete a flow takes: two headers, a tuple with its port pair and two IPv6 addresses, a zone
/// and an id.
const ORDER: usize = 512;

/// Memory for a pass.
#[derive(Debug)]
pub(super) struct SweepBuffers {
    listing: Vec<u8>,
    answer: Vec<u8>,
    order: Frames,
}

impl Default for SweepBuffers {
    fn default() -> Self {
        SweepBuffers {
            listing: Vec::with_capacity(ROOM),
            answer: Vec::with_capacity(ROOM),
            order: Frames::with_room(ORDER),
        }
    }
}

/// The flows of one family.
#[derive(Debug)]
pub(super) struct FamilySweep {
    request: Frames,
    v4: bool,
    ports: Vec<Port>,
    keep: Option<IpAddr>,
}

/// The order to cut the flows to ports that now lead elsewhere; [`DetachedChild::sweep`](crate::DetachedChild::sweep) has it carried
/// out.
#[derive(Debug)]
pub struct Sweep {
    netfilter: OwnedFd,
    route: OwnedFd,
    passes: Vec<FamilySweep>,
    room: SweepBuffers,
}

impl Sweep {
    /// What [`Conntrack::cut_stale`] does, for later: for each family the ports, and the address of who is spared.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn new(conntrack: Conntrack, stale: &[(Vec<Port>, IpAddr)]) -> Result<Sweep, Error> {
        let route = match conntrack.route {
            Some(route) => route,
            None => RouteSocket::open()?,
        };
        let pass = |(ports, keep): &(Vec<Port>, IpAddr)| {
            let pass = || FamilySweep::new(ports, keep.is_ipv4(), Some(*keep));
            (!ports.is_empty()).then(pass)
        };
        Ok(Sweep {
            netfilter: conntrack.socket.into_fd(),
            route: route.into_fd(),
            passes: stale.iter().filter_map(pass).collect(),
            room: SweepBuffers::default(),
        })
    }

    /// The sockets, which must stay open until it is carried out.
    pub(crate) fn sockets(&self) -> [BorrowedFd<'_>; 2] {
        [self.netfilter.as_fd(), self.route.as_fd()]
    }

    /// Cuts the flows. Errors are dropped: a flow that is missed lives no longer than it would have without this.
    pub(crate) fn carry_out(&mut self) {
        for pass in &self.passes {
            let sockets = (self.netfilter.as_fd(), self.route.as_fd());
            let _ = pass.carry_out(sockets.0, sockets.1, &mut self.room);
        }
    }
}

impl FamilySweep {
    pub(super) fn new(ports: &[Port], v4: bool, keep: Option<IpAddr>) -> FamilySweep {
        let mut request = Frames::new();
        request.push(message::GET, NLM_F_DUMP, &message::header(v4), |_| {});
        let mut ports = ports.to_vec();
        ports.sort_unstable();
        FamilySweep {
            request,
            v4,
            ports,
            keep,
        }
    }

    /// Cuts what is stale.
    pub(super) fn carry_out(
        &self,
        netfilter: BorrowedFd<'_>,
        route: BorrowedFd<'_>,
        room: &mut SweepBuffers,
    ) -> Result<(), Errno> {
        let SweepBuffers {
            listing,
            answer,
            order,
        } = room;
        post(netfilter, &self.request)?;
        loop {
            receive(netfilter, listing, ROOM)?;
            for frame in Frame::walk(listing) {
                // What refuses a deletion, of a flow that has ended by itself, has another number.
                if self.request.position(frame.sequence).is_none() {
                    continue;
                }
                match frame.meaning() {
                    MessageMeaning::Data => {}
                    MessageMeaning::Failed(failure) => return Err(failure.errno),
                    MessageMeaning::Done | MessageMeaning::Acknowledged => return Ok(()),
                }
                let Some(flow) = Flow::parse(frame.payload) else {
                    continue;
                };
                if !self.is_stale(&flow, |address| is_local(route, answer, order, address)) {
                    continue;
                }
                order.clear();
                order.push(message::DELETE, 0, &message::header(self.v4), |attrs| {
                    flow.identify(attrs);
                });
                post(netfilter, order)?;
            }
        }
    }

    fn is_stale(&self, flow: &Flow<'_>, local: impl FnOnce(IpAddr) -> bool) -> bool {
        let Some(port) = flow.port else {
            return false;
        };
        let wanted = (flow.protocol, port);
        let start = self.ports.partition_point(|port| (port.0, port.1) < wanted);
        let published = self.ports[start..]
            .iter()
            .take_while(|port| (port.0, port.1) == wanted);
        let mut anywhere = false;
        for (_, _, address) in published {
            match address {
                Some(address) if *address == flow.destination => {
                    return self.keep != Some(flow.reply_source);
                }
                Some(_) => {}
                None => anywhere = true,
            }
        }
        anywhere && self.keep != Some(flow.reply_source) && local(flow.destination)
    }
}

fn post(socket: BorrowedFd<'_>, frames: &Frames) -> Result<(), Errno> {
    send(socket.as_raw_fd(), frames.as_bytes(), MsgFlags::empty()).map(drop)
}

/// Whether packets to the address are for this machine itself.
fn is_local(
    route: BorrowedFd<'_>,
    answer: &mut Vec<u8>,
    question: &mut Frames,
    address: IpAddr,
) -> bool {
    let (family, prefix) = match address {
        IpAddr::V4(_) => (libc::AF_INET as u8, 32),
        IpAddr::V6(_) => (libc::AF_INET6 as u8, 128),
    };
    question.clear();
    let fixed = [family, prefix, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    question.push(RTM_GETROUTE, 0, &fixed, |attrs| attrs.ip(RTA_DST, address));
    if post(route, question).is_err() || receive(route, answer, ROOM).is_err() {
        return false;
    }
    let first = Frame::walk(answer).next();
    first.is_some_and(|frame| {
        matches!(frame.meaning(), MessageMeaning::Data)
            && frame.payload.get(ROUTE_TYPE) == Some(&LOCAL)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_flows_to_ports_of_another_container_are_stale() {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let ports = vec![
            (6, 80, None),
            (17, 53, Some(address("192.0.2.1"))),
            (17, 53, Some(address("192.0.2.2"))),
        ];
        let pass = FamilySweep {
            request: Frames::new(),
            v4: true,
            ports,
            keep: Some(address("10.0.0.2")),
        };
        #[track_caller]
        fn check(pass: &FamilySweep, flow: (u8, u16, &str, &str), local: bool, stale: bool) {
            let flow = Flow {
                protocol: flow.0,
                source: "198.51.100.1".parse().expect("an address"),
                destination: flow.2.parse().expect("an address"),
                port: Some(flow.1),
                reply_source: flow.3.parse().expect("an address"),
                translated: false,
                tuple: &[],
                zone: None,
                id: None,
            };
            assert_eq!(pass.is_stale(&flow, |_| local), stale);
        }
        check(&pass, (6, 80, "192.0.2.9", "10.0.0.9"), true, true);
        check(&pass, (6, 80, "192.0.2.9", "10.0.0.9"), false, false);
        check(&pass, (6, 80, "192.0.2.9", "10.0.0.2"), true, false);
        check(&pass, (6, 81, "192.0.2.9", "10.0.0.9"), true, false);
        check(&pass, (17, 80, "192.0.2.9", "10.0.0.9"), true, false);
        check(&pass, (17, 53, "192.0.2.2", "192.0.2.2"), true, true);
        check(&pass, (17, 53, "192.0.2.2", "10.0.0.2"), true, false);
        check(&pass, (17, 53, "192.0.2.3", "192.0.2.3"), true, false);
    }
}
