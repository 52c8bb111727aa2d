//! The container's side in one batch: loopback up, addresses, link up, routes.

use std::collections::HashMap;
use std::fmt;

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressFlags};
use nix::errno::Errno;

use crate::address;
use crate::error::Error;
use crate::frame::{Failure, Frames};
use crate::link::RTM_NEWLINK;
use crate::link::change::{self, LinkChange};
use crate::route::RouteSocket;
use crate::routing::{self, RTM_NEWROUTE, RouteSpec};

/// Loopback is the first link of every namespace.
const LOOPBACK: u32 = 1;

/// `rp_filter` that asks for any way back.
pub const LOOSE: u32 = 2;

/// What a link in a container shall become.
#[derive(Debug, Clone, Copy, Default)]
pub struct Setup<'a> {
    /// Bring loopback up as well.
    pub lo_up: bool,
    /// The link.
    pub index: u32,
    /// Announce its addresses by ARP as it comes up.
    pub arp_notify: bool,
    /// Its addresses, IPv6 ones without the second that the search for duplicates takes.
    pub addresses: &'a [IpNetwork],
    /// The addresses bring no route to their subnets: all of it lies behind a gateway.
    pub no_prefix_route: bool,
    /// Bring it up.
    pub up: bool,
    /// Its reverse-path filter takes packets whose answers go out by another link: a container on
    /// several networks has one default route.
    pub loose: bool,
    /// Its routes; without an interface of their own they go out by this link. Several gateways for one destination
    /// share the load.
    pub routes: &'a [RouteSpec],
}

/// A piece of a [`Setup`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Loopback comes up.
    Loopback,
    /// The ARP announcement is switched on.
    Announce,
    /// An address is given.
    Address(IpNetwork),
    /// The link comes up.
    Up,
    /// The reverse-path filter takes what another link answers.
    Loosen,
    /// A route is made.
    Route(RouteSpec),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Loopback => write!(f, "bring loopback up"),
            Step::Announce => write!(f, "switch arp_notify on"),
            Step::Address(cidr) => write!(f, "add address {cidr}"),
            Step::Up => write!(f, "bring the link up"),
            Step::Loosen => write!(f, "set rp_filter to 2"),
            Step::Route(route) => write!(f, "add {route}"),
        }
    }
}

impl RouteSocket {
    /// Sets a link up in one batch, through a socket opened in the container's namespace. The first failure is told;
    /// what follows from it is not. A batch is not atomic: what succeeded stays, and goes with the link.
    ///
    /// A destination that other links have routes to, as the default one of a container's first network, gets one
    /// behind theirs, by its metric: of two equal ones the kernel takes now this and now that.
    ///
    /// # Errors
    /// With the step that the kernel refused; the steps before it are done.
    pub fn configure(&mut self, setup: &Setup<'_>) -> Result<(), Error> {
        let mut routes = setup.routes.to_vec();
        if setup.index > LOOPBACK + 1 {
            self.stand_behind(setup.index, &mut routes)?;
        }
        let (mut frames, steps) = batch(&Setup {
            routes: &routes,
            ..*setup
        });
        let failures = self.batch(&mut frames, |_| {})?;
        match failures.into_iter().next() {
            None => Ok(()),
            Some(failure) => {
                let step = frames
                    .position(failure.sequence)
                    .and_then(|at| steps.get(at))
                    .copied()
                    .unwrap_or(Step::Announce);
                Err(explain(step, failure))
            }
        }
    }

    /// Gives routes without a metric one that is higher than those of other links.
    fn stand_behind(&mut self, index: u32, routes: &mut [RouteSpec]) -> Result<(), Error> {
        for v4 in [true, false] {
            let mine = |route: &RouteSpec| {
                route.dst.is_ipv4() == v4 && route.priority.is_none() && route.table.is_none()
            };
            if !routes.iter().any(mine) {
                continue;
            }
            let there = self.routes(v4)?;
            let mut behind: HashMap<IpNetwork, u32> = HashMap::new();
            for other in there.iter().filter(|other| other.interface != Some(index)) {
                let metric = other.priority.unwrap_or(0).saturating_add(1);
                let highest = behind.entry(other.destination).or_default();
                *highest = metric.max(*highest);
            }
            for route in routes.iter_mut().filter(|route| mine(route)) {
                route.priority = behind.get(&route.dst).copied();
            }
        }
        Ok(())
    }
}

fn explain(step: Step, failure: Failure) -> Error {
    match (step, failure.errno) {
        (Step::Address(address), Errno::EACCES) if address.is_ipv6() => {
            Error::Ipv6Disabled { address }
        }
        (Step::Address(address), Errno::EEXIST) => Error::AddressTaken { address },
        (step, _) => Error::Setup {
            step: Box::new(step),
            why: failure.into(),
        },
    }
}

fn batch(setup: &Setup<'_>) -> (Frames, Vec<Step>) {
    let (mut frames, mut steps) = (Frames::new(), Vec::new());
    let up = LinkChange {
        up: Some(true),
        ..LinkChange::default()
    };
    if setup.lo_up {
        frames.emit(RTM_NEWLINK, 0, &change::message(LOOPBACK, &up));
        steps.push(Step::Loopback);
    }
    if setup.arp_notify {
        let change = LinkChange {
            arp_notify: Some(true),
            ..LinkChange::default()
        };
        frames.emit(RTM_NEWLINK, 0, &change::message(setup.index, &change));
        steps.push(Step::Announce);
    }
    // Addresses come before the link is up: what the kernel announces as it comes up then includes them.
    for cidr in setup.addresses {
        let mut message = address::message(setup.index, *cidr, true);
        if setup.no_prefix_route {
            // This attribute replaces the flags of the header.
            let flags = AddressFlags::Noprefixroute | AddressFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(flags));
        }
        frames.emit(address::RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &message);
        steps.push(Step::Address(*cidr));
    }
    // One message: the reverse-path filter is one of IPv4.
    let loose = setup.loose && setup.addresses.iter().any(IpNetwork::is_ipv4);
    if setup.up || loose {
        let change = LinkChange {
            up: setup.up.then_some(true),
            rp_filter: loose.then_some(LOOSE),
            ..LinkChange::default()
        };
        frames.emit(RTM_NEWLINK, 0, &change::message(setup.index, &change));
        steps.push(if setup.up { Step::Up } else { Step::Loosen });
    }
    let here = |route: &RouteSpec| RouteSpec {
        interface: route.interface.or(Some(setup.index)),
        ..*route
    };
    let routes: Vec<_> = setup.routes.iter().map(here).collect();
    for group in routing::group(&routes) {
        frames.emit(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND, &group.message());
        steps.push(Step::Route(group.first));
    }
    (frames, steps)
}
