//! One packet followed through the kernel's own tracing of nf_tables (`meta nftrace`).
//!
//! A table with a base chain at both ends of each hook marks the packet where it first meets a hook,
//! and shows it at each end: what becomes of it in between is seen whatever rules do it, those of
//! iptables-legacy too, which this tracing does not name. The table is owned by its socket
//! (`NFT_TABLE_F_OWNER`): it is gone with this process, however that ends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use pontoon_netlink::{Errno, Group, Listener, Received, Reply};

use super::chain::{Hook, new_chain_of};
use super::error::Error;
use super::expression::{Base, Compare, Meta, Rule};
use super::message::{Batch, Family, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, kind};
use super::socket::Socket;
use super::uapi::*;

/// Before all other chains, and after them: iptables' are between -400 and 300.
const FIRST: i32 = -1000;
const LAST: i32 = 1000;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// The packet that is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// The address that it is sent to.
    pub destination: IpAddr,
    /// Its protocol and ports.
    pub kind: ProbeKind,
}

/// What kind of packet it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeKind {
    /// The opening segment of a connection: from a port, if that is known, and to one.
    Tcp(Option<u16>, u16),
    /// A datagram, likewise.
    Udp(Option<u16>, u16),
    /// An echo request, with its identifier if that is known.
    Echo(Option<u16>),
}

/// What the tracing tells of a packet at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceEvent {
    /// `inet`, `ip`, `bridge`: that of the table.
    pub family: &'static str,
    /// The table; `None` at either end of a hook.
    pub table: Option<String>,
    /// The chain; at an end of a hook its name: `forward`.
    pub chain: String,
    /// At an end of a hook: whether it is the far one.
    pub last: bool,
    /// The rule that the packet met; `None`: the verdict is the chain's policy.
    pub rule: Option<u64>,
    /// The verdict of the rule or of the policy.
    pub verdict: TraceVerdict,
    /// The packet as it is here, told once for every base chain.
    pub packet: Option<PacketHeader>,
    /// Number of the link that it goes out by.
    pub out: Option<u32>,
}

/// What a rule or a policy did with a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceVerdict {
    /// It goes on.
    Accept,
    /// It ends here.
    Drop,
    /// To the next rule, or back.
    Continue,
    /// To another chain.
    Jump(String),
}

/// Addresses and ports of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketHeader {
    /// The source address in its header.
    pub source: IpAddr,
    /// The destination address in its header.
    pub destination: IpAddr,
    /// The destination port, of TCP and UDP.
    pub port: Option<u16>,
}

/// A tracing that is set up. It ends when this is dropped.
pub struct Tracing {
    // Closing it removes the tables.
    _owner: Socket,
    listener: Listener,
    table: String,
}

impl Tracing {
    /// Begins to follow what is like the probe, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the kernel has no nf_tables, or this is not allowed.
    pub fn start(probe: &Probe) -> Result<Self, Error> {
        let listener = Listener::open(&[Group::NftablesTrace])
            .map_err(|source| Error::OpenSocket { source })?;
        let mut owner = Socket::open()?;
        let table = format!("pontoon-trace-{}", std::process::id());
        for family in [Family::Inet, Family::Bridge] {
            let committed = owner.commit(tables(&table, family, probe))?;
            match committed {
                Ok(()) => {}
                // Without it the way through bridges is not seen.
                Err(refusal)
                    if family == Family::Bridge
                        && matches!(refusal.why.errno, Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP) => {
                }
                Err(refusal) => return Err(refusal.into()),
            }
        }
        Ok(Self {
            _owner: owner,
            listener,
            table,
        })
    }

    /// What is told until the deadline, or until nothing more can follow: with the first event.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn events(&mut self, deadline: Instant) -> Result<Vec<TraceEvent>, Error> {
        match self.listener.recv(deadline) {
            Ok(Received::Messages(replies)) => Ok(replies
                .iter()
                .filter(|reply| reply.kind == kind(NFT_MSG_TRACE))
                .filter_map(|reply| self.event(reply))
                .collect()),
            Ok(Received::TimedOut | Received::Lost) => Ok(Vec::new()),
            Err(source) => Err(Error::OpenSocket { source }),
        }
    }

    fn event(&self, reply: &Reply) -> Option<TraceEvent> {
        let find = |kind| reply.attrs().get(kind);
        let number = |kind| find(kind).and_then(|attr| attr.u32be());
        let table = find(NFTA_TRACE_TABLE)?.text();
        let mut chain = find(NFTA_TRACE_CHAIN)?.text();
        let own = table == self.table;
        let mut last = false;
        if own {
            let (hook, end) = chain.rsplit_once('-')?;
            last = end == "last";
            chain = hook.to_owned();
        }
        let part = |kind| reply.attrs().path([NFTA_TRACE_VERDICT, kind]);
        let code = match number(NFTA_TRACE_TYPE) {
            Some(NFT_TRACETYPE_RULE) => part(NFTA_VERDICT_CODE).and_then(|code| code.u32be()),
            _ => number(NFTA_TRACE_POLICY),
        };
        let verdict = match code.map(u32::cast_signed) {
            Some(NF_DROP) => TraceVerdict::Drop,
            Some(NF_ACCEPT) => TraceVerdict::Accept,
            Some(NFT_JUMP | NFT_GOTO) => {
                let chain = part(NFTA_VERDICT_CHAIN).map(|chain| chain.text());
                TraceVerdict::Jump(chain.unwrap_or_default())
            }
            _ => TraceVerdict::Continue,
        };
        let header = |kind| find(kind).map(|attr| attr.value);
        Some(TraceEvent {
            family: Family::named(*reply.payload.first()?),
            table: (!own).then_some(table),
            chain,
            last,
            rule: find(NFTA_TRACE_RULE_HANDLE).and_then(|handle| handle.u64be()),
            verdict,
            packet: header(NFTA_TRACE_NETWORK_HEADER).and_then(|network| {
                seen(
                    network,
                    header(NFTA_TRACE_TRANSPORT_HEADER).unwrap_or_default(),
                )
            }),
            out: number(NFTA_TRACE_OIF),
        })
    }
}

fn seen(header: &[u8], transport: &[u8]) -> Option<PacketHeader> {
    let (source, destination, protocol) = match header.first()? >> 4 {
        4 => {
            let address = |at: usize| -> Option<IpAddr> {
                let octets: [u8; 4] = header.get(at..at + 4)?.try_into().ok()?;
                Some(Ipv4Addr::from(octets).into())
            };
            (address(12)?, address(16)?, *header.get(9)?)
        }
        6 => {
            let address = |at: usize| -> Option<IpAddr> {
                let octets: [u8; 16] = header.get(at..at + 16)?.try_into().ok()?;
                Some(Ipv6Addr::from(octets).into())
            };
            (address(8)?, address(24)?, *header.get(6)?)
        }
        _ => return None,
    };
    let port = || Some(u16::from_be_bytes(transport.get(2..4)?.try_into().ok()?));
    Some(PacketHeader {
        source,
        destination,
        port: match protocol {
            TCP | UDP => port(),
            _ => None,
        },
    })
}

/// The table of one family, in one transaction.
fn tables(name: &str, family: Family, probe: &Probe) -> Batch {
    let mut batch = Batch::default();
    let object = || format!("the table {name}");
    batch.push(
        NFT_MSG_NEWTABLE,
        family,
        NLM_F_CREATE | NLM_F_EXCL,
        object(),
        |out| {
            out.cstr(NFTA_TABLE_NAME, name);
            out.u32be(NFTA_TABLE_FLAGS, NFT_TABLE_F_OWNER);
        },
    );
    for (hook, number) in [
        ("prerouting", NF_INET_PRE_ROUTING),
        ("input", NF_INET_LOCAL_IN),
        ("forward", NF_INET_FORWARD),
        ("output", NF_INET_LOCAL_OUT),
        ("postrouting", NF_INET_POST_ROUTING),
    ] {
        for (end, priority) in [("first", FIRST), ("last", LAST)] {
            let chain = format!("{hook}-{end}");
            let place = Hook {
                kind: "filter",
                number,
                priority,
            };
            new_chain_of(&mut batch, name, family, &chain, Some(&place), None);
            // Where a packet may first be met: from a wire, from a bridge's port, from this host.
            if end == "first" && matches!(number, NF_INET_PRE_ROUTING | NF_INET_LOCAL_OUT) {
                let rule = marks(probe);
                let object = format!("a rule in chain {chain}");
                batch.push(
                    NFT_MSG_NEWRULE,
                    family,
                    NLM_F_CREATE | NLM_F_APPEND,
                    object,
                    |out| {
                        out.cstr(NFTA_RULE_TABLE, name);
                        out.cstr(NFTA_RULE_CHAIN, &chain);
                        out.nested(NFTA_RULE_EXPRESSIONS, |out| out.append(rule.0.as_bytes()));
                    },
                );
            }
        }
    }
    batch
}

/// Traces what is like the probe.
fn marks(probe: &Probe) -> Rule {
    let v6 = probe.destination.is_ipv6();
    // `meta protocol`: of a frame on a bridge the family is "bridge".
    let ether: u16 = if v6 { 0x86dd } else { 0x0800 };
    let rule = Rule::default()
        .meta(Meta::Protocol)
        .compare(Compare::Equal, &ether.to_be_bytes())
        .destination(probe.destination);
    let of = |rule: Rule, protocol: u8| {
        rule.meta(Meta::Transport)
            .compare(Compare::Equal, &[protocol])
    };
    let number = |rule: Rule, offset: u32, number: Option<u16>| match number {
        Some(number) => rule
            .payload(Base::Transport, offset, 2)
            .compare(Compare::Equal, &number.to_be_bytes()),
        None => rule,
    };
    let ports = |rule, from, to| number(number(rule, 0, from), 2, Some(to));
    match probe.kind {
        // SYN without ACK: the opening segment only.
        ProbeKind::Tcp(from, to) => ports(of(rule, TCP), from, to).flags_of(13, 0x12, 0x02),
        ProbeKind::Udp(from, to) => ports(of(rule, UDP), from, to),
        ProbeKind::Echo(identifier) => {
            let (protocol, request) = if v6 { (ICMPV6, 128) } else { (ICMP, 8) };
            let rule = of(rule, protocol)
                .payload(Base::Transport, 0, 1)
                .compare(Compare::Equal, &[request]);
            number(rule, 4, identifier)
        }
    }
    .traced()
}
