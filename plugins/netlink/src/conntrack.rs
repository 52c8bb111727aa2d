//! Connection tracking: cutting flows that are pinned to a target which is gone or has moved.
//!
//! A UDP client that keeps sending from one port keeps its flow alive, and with it the decision of its first packet: to
//! a container that has ended, or to the host itself when the port was not published yet. New rules do not reach it. So
//! its flow is deleted, by address and port, and no other one.

mod message;
mod sweep;

use std::net::IpAddr;
use std::os::fd::AsFd;

use ipnetwork::IpNetwork;
use nix::errno::Errno;

use crate::error::Error;
use crate::frame::Frames;
use crate::netfilter::{NetfilterError, NetfilterSocket, Reply};
use crate::netns::Netns;
use crate::route::RouteSocket;

use message::Flow;
pub use sweep::Sweep;
use sweep::{FamilySweep, SweepBuffers};

/// Protocol number, port, and host address if it is only one.
pub type Port = (u8, u16, Option<IpAddr>);

/// A flow, as its first packet was, and who answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackedFlow {
    /// The client.
    pub source: IpAddr,
    /// Where it sends to.
    pub destination: IpAddr,
    /// The port there.
    pub port: u16,
    /// Who answers: another address where the destination was translated.
    pub answered_by: IpAddr,
}

/// `RTN_LOCAL`: a route to this machine itself.
const LOCAL: u8 = 2;
/// `RT_TABLE_LOCAL`: the kernel's own.
const LOCAL_TABLE: u32 = 255;
/// Up to so many filters are left to the kernel, which takes about 0.15 ms for each; listing all flows takes 9 (262,144
/// buckets, a lock for each).
const FEW: usize = 32;
/// The first long-term kernel of which it is certain that it deletes by filter.
const FILTERS_SINCE: (u32, u32) = (6, 12);
/// The protocols with ports that can be published: TCP, UDP, SCTP.
const WITH_PORTS: [u8; 3] = [6, 17, 132];

/// Which flows. All that is given must match; of the port and the addresses at least one must be given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filter {
    /// IPv4 flows, else IPv6.
    pub v4: bool,
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// The port that the client sent to.
    pub original_port: Option<u16>,
    /// The address that the client sent from.
    pub original_source: Option<IpAddr>,
    /// The address that the client sent to.
    pub original_destination: Option<IpAddr>,
    /// The address that answers: the container, for a flow to a published port and for one that a container without
    /// address translation accepted.
    pub reply_source: Option<IpAddr>,
    /// Whether the destination was translated (DNAT).
    pub translated: Option<bool>,
}

impl Filter {
    /// Linux compares IPv6 addresses of a filter the wrong way round (seen up to 6.18: `ctnetlink_filter_match_tuple`
    /// takes equal for different): the kernel would spare the flows that are meant and cut all others. So IPv6 addresses
    /// are never left to the kernel; it chooses by protocol and port alone.
    fn has_ipv6_address(&self) -> bool {
        !self.v4
            && (self.original_source.is_some()
                || self.original_destination.is_some()
                || self.reply_source.is_some())
    }

    /// What of it the kernel may be trusted with.
    fn for_the_kernel(&self) -> Filter {
        if self.v4 {
            return *self;
        }
        Filter {
            original_source: None,
            original_destination: None,
            reply_source: None,
            ..*self
        }
    }

    fn matches(&self, flow: &Flow<'_>) -> bool {
        self.protocol
            .is_none_or(|protocol| flow.protocol == protocol)
            && self
                .original_port
                .is_none_or(|port| flow.port == Some(port))
            && self
                .original_source
                .is_none_or(|address| flow.source == address)
            && self
                .original_destination
                .is_none_or(|address| flow.destination == address)
            && self
                .reply_source
                .is_none_or(|address| flow.reply_source == address)
            && self
                .translated
                .is_none_or(|translated| flow.translated == translated)
    }
}

/// Version of the running kernel.
fn kernel() -> Option<(u32, u32)> {
    let release = crate::sysctl::read("kernel/osrelease").ok()?;
    let mut numbers = release.split(['.', '-']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Connection tracking of one network namespace.
#[derive(Debug)]
pub struct Conntrack {
    socket: NetfilterSocket,
    /// Opened when it is needed, unless that is in another namespace.
    route: Option<RouteSocket>,
}

impl Conntrack {
    /// Opens it in the calling thread's namespace.
    ///
    /// # Errors
    /// When the socket cannot be opened.
    pub fn open() -> Result<Conntrack, Error> {
        Ok(Conntrack {
            socket: NetfilterSocket::open()?,
            route: None,
        })
    }

    /// Opens it in another namespace, as [`RouteSocket::open_in`] does.
    ///
    /// # Errors
    /// When the socket cannot be opened, or the namespace not entered.
    pub fn open_in(netns: &Netns) -> Result<Conntrack, Error> {
        Ok(Conntrack {
            socket: NetfilterSocket::open_in(netns)?,
            route: Some(RouteSocket::open_in(netns)?),
        })
    }

    /// The number of flows.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn count(&mut self) -> Result<u32, Error> {
        let replies = self
            .socket
            .request(message::GET_STATS, &message::header(true), |_| {});
        let replies = replies.map_err(|error| match refusal(error) {
            Ok(failure) => Error::NoConntrack {
                why: failure.into(),
            },
            Err(error) => error,
        })?;
        let entries = replies
            .iter()
            .find_map(|reply| reply.attrs().get(message::STATS_ENTRIES)?.u32be());
        entries.ok_or_else(|| Error::Incomplete {
            action: "count".into(),
            object: "flows".into(),
            missing: "number",
        })
    }

    /// Cuts all flows that match. The kernel does the choosing, in one message; one before Linux 6.10 or so cannot, and
    /// its flows are listed and deleted one by one, as are those of a filter with an IPv6
    /// address.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn cut(&mut self, filter: &Filter) -> Result<(), Error> {
        if filter.original_port.is_none()
            && filter.original_source.is_none()
            && filter.original_destination.is_none()
            && filter.reply_source.is_none()
        {
            return Err(Error::EmptyFilter);
        }
        // Most machines have flows, most namespaces in tests have none: walking the empty table is not free.
        if self.count()? == 0 {
            return Ok(());
        }
        self.cut_filtered(filter)
    }

    fn cut_filtered(&mut self, filter: &Filter) -> Result<(), Error> {
        if filter.has_ipv6_address() {
            return self.cut_one_by_one(filter);
        }
        match self
            .socket
            .send(&mut deletions(&expand(filter)))
            .map_err(refusal)
        {
            Ok(()) => Ok(()),
            // Without filters the kernel takes the tuple for a whole one, and it lacks half its parts.
            Err(Ok(failure)) if takes_no_filters(failure.errno) => self.cut_one_by_one(filter),
            Err(Ok(failure)) => Err(Error::kernel("cut", "flows", failure)),
            Err(Err(error)) => Err(error),
        }
    }

    fn cut_one_by_one(&mut self, filter: &Filter) -> Result<(), Error> {
        let listed = self.listed(filter)?;
        let flows = listed
            .iter()
            .filter_map(|reply| Flow::parse(&reply.payload));
        self.delete(flows.filter(|flow| filter.matches(flow)))
    }

    /// The flows of one family and protocol to some ports of their destination, in the order of the kernel's table.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn flows_to(
        &mut self,
        v4: bool,
        protocol: u8,
        ports: &[u16],
    ) -> Result<Vec<TrackedFlow>, Error> {
        let filter = Filter {
            v4,
            protocol: Some(protocol),
            ..Filter::default()
        };
        let listed = self.listed(&filter)?;
        let flows = listed
            .iter()
            .filter_map(|reply| Flow::parse(&reply.payload));
        let seen = flows.filter_map(|flow| {
            let port = flow.port.filter(|port| ports.contains(port))?;
            (flow.protocol == protocol).then_some(TrackedFlow {
                source: flow.source,
                destination: flow.destination,
                port,
                answered_by: flow.reply_source,
            })
        });
        Ok(seen.collect())
    }

    /// Cuts the flows of one family to addresses in a network that `keep` does not want. They are listed and looked at one
    /// by one.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn cut_unless(
        &mut self,
        to: IpNetwork,
        keep: impl Fn(&TrackedFlow) -> bool,
    ) -> Result<usize, Error> {
        if self.count()? == 0 {
            return Ok(0);
        }
        let listed = self.listed(&Filter {
            v4: to.is_ipv4(),
            ..Filter::default()
        })?;
        let mut unwanted: Vec<Flow<'_>> = Vec::new();
        for reply in &listed {
            let Some(flow) = Flow::parse(&reply.payload) else {
                continue;
            };
            let seen = TrackedFlow {
                source: flow.source,
                destination: flow.destination,
                port: flow.port.unwrap_or_default(),
                answered_by: flow.reply_source,
            };
            if to.contains(flow.destination) && !keep(&seen) {
                unwanted.push(flow);
            }
        }
        let count = unwanted.len();
        self.delete(unwanted.into_iter())?;
        Ok(count)
    }

    /// Cuts flows to ports that now lead to `keep`, and are answered by another address: `(protocol, port, host address)`.
    /// Without a host address the port is one of the machine itself: flows *through* it to the same port elsewhere are
    /// not touched.
    ///
    /// Few IPv4 ports are left to the kernel, which can choose flows by the address that answers but not exempt one. So it cuts the flows that no
    /// rule has redirected: one to `keep` always was, and one to a container that has gone was cut at its DEL.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn cut_stale(
        &mut self,
        ports: &[Port],
        v4: bool,
        keep: Option<IpAddr>,
    ) -> Result<(), Error> {
        if ports.is_empty() || self.count()? == 0 {
            return Ok(());
        }
        if v4 && let Some(filters) = self.few(ports)? {
            return filters
                .iter()
                .try_for_each(|filter| self.cut_filtered(filter));
        }
        let pass = FamilySweep::new(ports, v4, keep);
        self.route()?;
        let Some(route) = &self.route else {
            return Ok(());
        };
        pass.carry_out(
            self.socket.as_fd(),
            route.as_fd(),
            &mut SweepBuffers::default(),
        )
        .map_err(|errno| Error::io("cut flows")(errno.into()))
    }

    /// The messages of [`Conntrack::cut_stale`], for another process to send, which reads no refusal. So a kernel
    /// that may take no filters is sent the first one here: `None` when it refuses, or when all flows would have to be
    /// listed for another reason.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn stale_deletions(&mut self, ports: &[Port], v4: bool) -> Result<Option<Frames>, Error> {
        let filters = if v4 { self.few(ports)? } else { None };
        let Some((first, rest)) = filters.as_deref().and_then(<[Filter]>::split_first) else {
            return Ok(None);
        };
        if kernel().is_some_and(|version| version >= FILTERS_SINCE) {
            return Ok(filters.map(|filters| deletions(&filters)));
        }
        match self.socket.send(&mut deletions(&[*first])).map_err(refusal) {
            Ok(()) => Ok(Some(deletions(rest))),
            Err(Ok(failure)) if takes_no_filters(failure.errno) => Ok(None),
            Err(Ok(failure)) => Err(Error::kernel("cut", "flows", failure)),
            Err(Err(error)) => Err(error),
        }
    }

    /// Hands out the socket, to be closed by a detached child: as with any of netfilter's, closing it may wait.
    #[must_use]
    pub fn into_fd(self) -> std::os::fd::OwnedFd {
        self.socket.into_fd()
    }

    /// A filter for each port at each IPv4 address of this machine, unless they are many.
    fn few(&mut self, ports: &[Port]) -> Result<Option<Vec<Filter>>, Error> {
        if ports.len() > FEW {
            return Ok(None);
        }
        // What the machine delivers to itself: a listing of addresses would look at every link.
        let own: Vec<IpAddr> = self
            .route()?
            .routes_of_table(true, LOCAL_TABLE)?
            .iter()
            .filter(|route| route.kind == LOCAL && route.destination.prefix() == 32)
            .map(|route| route.destination.ip())
            .collect();
        let filters: Vec<Filter> = ports
            .iter()
            .flat_map(|&(protocol, port, address)| {
                let at = address.map_or_else(|| own.clone(), |address| vec![address]);
                at.into_iter().map(move |address| Filter {
                    v4: true,
                    protocol: Some(protocol),
                    original_port: Some(port),
                    original_destination: Some(address),
                    translated: Some(false),
                    ..Filter::default()
                })
            })
            .collect();
        Ok((filters.len() <= FEW).then_some(filters))
    }

    fn route(&mut self) -> Result<&mut RouteSocket, Error> {
        let route = match self.route.take() {
            Some(route) => route,
            None => RouteSocket::open()?,
        };
        Ok(self.route.insert(route))
    }

    /// The flows that match, chosen by the kernel where it can: an older one returns them all.
    fn listed(&mut self, filter: &Filter) -> Result<Vec<Reply>, Error> {
        let filter = filter.for_the_kernel();
        let dump = self
            .socket
            .dump(message::GET, &message::header(filter.v4), |attrs| {
                message::filter(attrs, &filter)
            });
        dump.map_err(|error| match refusal(error) {
            Ok(failure) => Error::kernel("list", "flows", failure),
            Err(error) => error,
        })
    }

    fn delete<'a>(&mut self, flows: impl Iterator<Item = Flow<'a>>) -> Result<(), Error> {
        let mut frames = Frames::new();
        for flow in flows {
            frames.push(
                message::DELETE,
                0,
                &message::header(flow.destination.is_ipv4()),
                |attrs| flow.identify(attrs),
            );
        }
        if frames.is_empty() {
            return Ok(());
        }
        match self.socket.send(&mut frames) {
            Ok(()) => Ok(()),
            Err(NetfilterError::Socket(error)) => Err(error),
            // A flow that ended meanwhile is what was wanted.
            Err(NetfilterError::Refused(failures)) => failures
                .into_iter()
                .find(|failure| failure.errno != Errno::ENOENT)
                .map_or(Ok(()), |failure| {
                    Err(Error::kernel("cut", "a flow", failure))
                }),
        }
    }
}

/// Whether a refusal comes from a kernel without filters, which takes the tuple for a whole one.
fn takes_no_filters(errno: Errno) -> bool {
    matches!(errno, Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOENT)
}

/// A message for each filter: cut what matches.
fn deletions(filters: &[Filter]) -> Frames {
    let mut frames = Frames::new();
    for filter in filters {
        frames.push(message::DELETE, 0, &message::header(filter.v4), |attrs| {
            message::filter(attrs, filter)
        });
    }
    frames
}

/// The kernel knows ports only together with a protocol.
fn expand(filter: &Filter) -> Vec<Filter> {
    match (filter.protocol, filter.original_port) {
        (None, Some(_)) => WITH_PORTS
            .map(|protocol| Filter {
                protocol: Some(protocol),
                ..*filter
            })
            .to_vec(),
        _ => vec![*filter],
    }
}

fn refusal(error: NetfilterError) -> Result<crate::frame::Failure, Error> {
    match error {
        NetfilterError::Refused(failures) => failures.into_iter().next().ok_or(Error::Incomplete {
            action: "ask".into(),
            object: "conntrack".into(),
            missing: "reason",
        }),
        NetfilterError::Socket(error) => Err(error),
    }
}
