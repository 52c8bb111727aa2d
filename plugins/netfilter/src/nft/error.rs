//! What can go wrong with the nftables backend.

use ipnetwork::IpNetwork;
use nix::errno::Errno;
use pontoon_netlink::Refusal;
use thiserror::Error as ThisError;

use crate::rules::Port;

/// Why a ruleset could not be applied, withdrawn or read.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// No netlink socket.
    #[error("cannot open a netfilter netlink socket")]
    OpenSocket {
        /// The kernel's reason.
        source: pontoon_netlink::Error,
    },
    /// The kernel has no nf_tables.
    #[error(
        "the kernel has no nf_tables ({errno}): load the module nf_tables or use the iptables \
         backend"
    )]
    NoNftables {
        /// The kernel's reason.
        errno: Errno,
    },
    /// No CAP_NET_ADMIN over the network namespace.
    #[error("no permission to change nftables: CAP_NET_ADMIN in this network namespace is needed")]
    Permission,
    /// The kernel refused one object; the rest of the transaction is not applied either.
    #[error("nftables refused {action} {object}: {why}{}", hint(.why.errno))]
    Refused {
        /// What was tried, as it follows "refused": `to add`.
        action: &'static str,
        /// The object in nft's words.
        object: String,
        /// The kernel's reason, with its own words if it has any.
        why: Refusal,
    },
    /// The kernel has no bridge family in nf_tables.
    #[error(
        "filtering on bridge ports needs the bridge family of nf_tables (CONFIG_NF_TABLES_BRIDGE), \
         which this kernel lacks: {errno}"
    )]
    NoBridgeFamily {
        /// The kernel's reason.
        errno: Errno,
    },
    /// A port of the host is published by another owner.
    #[error("host port {}/{} is already published by `{owner}`", .port.host_port, .port.protocol)]
    PortTaken {
        /// The port.
        port: Port,
        /// The other owner's tag.
        owner: String,
    },
    /// One container wants a port of the host for two of its own.
    #[error("host port {}/{} is to lead to two ports of one container", .port.host_port, .port.protocol)]
    PortTwice {
        /// The port, with the second target.
        port: Port,
    },
    /// A subnet overlaps one that leaves the host under other rules.
    #[error("subnet {subnet} meets the egress rules of `{owner}`")]
    SubnetTaken {
        /// Our subnet.
        subnet: IpNetwork,
        /// The other owner's tag.
        owner: String,
    },
    /// Two networks on one bridge do not agree about what may pass.
    #[error("bridge {bridge} has another policy already, that of `{owner}`")]
    BridgeTaken {
        /// The bridge.
        bridge: String,
        /// The other owner's tag.
        owner: String,
    },
    /// A link between two families.
    #[error("a link cannot lead from {from} to {to}: not of the same family")]
    LinkFamily {
        /// The linking container's address.
        from: std::net::IpAddr,
        /// The other container's address.
        to: std::net::IpAddr,
    },
    /// The source address of a fixed source rule is of the other family.
    #[error("traffic from {subnet} cannot leave as {source_address}: not of the same family")]
    WrongFamily {
        /// The subnet.
        subnet: IpNetwork,
        /// The address asked for.
        source_address: std::net::IpAddr,
    },
    /// An interface name that cannot stand in a rule.
    #[error(transparent)]
    InterfaceName {
        /// What is wrong with it.
        #[from]
        source: pontoon_netlink::InvalidName,
    },
    /// A condition that this backend cannot express.
    #[error(
        "condition `{word}` is not one that the nftables backend knows ({known}): give it in these \
         words, or choose the iptables backend, which takes iptables arguments"
    )]
    Condition {
        /// The word that was not understood.
        word: String,
        /// What would be understood.
        known: &'static str,
    },
    /// Others kept changing the same objects.
    #[error("{what} kept changing under us: try again")]
    Unstable {
        /// The objects.
        what: String,
    },
    /// A question to the kernel failed.
    #[error("cannot read the nftables ruleset: {why}")]
    Ask {
        /// The kernel's reason, with its own words if it has any.
        why: Refusal,
    },
    /// The socket failed: a message did not go out, or the answer did not come in.
    #[error("no answer from nftables: {source}")]
    Socket {
        /// The failed system call.
        source: pontoon_netlink::Error,
    },
}

impl Error {
    /// A refused question.
    pub(super) fn asking(why: Refusal) -> Self {
        match why.errno {
            Errno::EPERM => Self::Permission,
            // The answer of nfnetlink for a subsystem that is not there.
            errno @ (Errno::EINVAL | Errno::EOPNOTSUPP) => Self::NoNftables { errno },
            _ => Self::Ask { why },
        }
    }
}

fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOENT => " (does the kernel have the nft modules fib, nat, masq and ct?)",
        Errno::EEXIST => " (made by another program, in another shape?)",
        _ => "",
    }
}
