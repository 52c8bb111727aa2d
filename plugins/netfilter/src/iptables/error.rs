//! What can go wrong, by the act that failed.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

/// A value that cannot be written as a rule. Nothing has been changed when it is returned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// A name with characters that rules cannot carry.
    #[error(
        "{what} {value:?} cannot be written in a rule's comment: \
         use letters, digits and punctuation without blanks, quotes and backslashes"
    )]
    Name {
        /// Which name.
        what: &'static str,
        /// The name.
        value: String,
    },
    /// An interface name that iptables would read as something else.
    #[error(transparent)]
    Interface {
        /// What is wrong with it.
        #[from]
        source: pontoon_netlink::InvalidName,
    },
    /// A chain name that iptables would refuse.
    #[error("chain name {value:?} is not one that iptables takes: 1 to 28 plain characters")]
    Chain {
        /// The name.
        value: String,
    },
    /// A chain that the admin cannot have, since it leads to the admin's own.
    #[error(
        "{value:?} cannot be the admin's chain: iptables and this suite have a use for it; \
         choose another name"
    )]
    AdminChain {
        /// The name.
        value: String,
    },
    /// A condition that is no match argument.
    #[error(
        "condition {value:?} is not a match argument of iptables: commands, tables and targets \
         do not belong into conditionsV4 and conditionsV6"
    )]
    Condition {
        /// The word.
        value: String,
    },
    /// More conditions than a rule can hold.
    #[error("conditions of {words} words and {bytes} bytes do not fit into one rule")]
    TooLong {
        /// How many words.
        words: usize,
        /// Their size.
        bytes: usize,
    },
    /// The packet mark has 32 bits.
    #[error("mark bit {bit} is out of range: the packet mark has bits 0 to 31")]
    MarkBit {
        /// The bit.
        bit: u8,
    },
    /// An address of the wrong family.
    #[error("{address} cannot be the source of traffic from {subnet}: not the same family")]
    SnatFamily {
        /// The source that was asked for.
        address: IpAddr,
        /// The subnet.
        subnet: String,
    },
    /// The two ends of a link are of different families.
    #[error("{from} cannot be linked to {to}: not the same family")]
    LinkFamily {
        /// The linking container's address.
        from: IpAddr,
        /// The other container's address.
        to: IpAddr,
    },
}

/// A failed operation of the iptables backend.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value cannot be written as a rule.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The programs for one family are not installed.
    #[error("no {family} iptables is installed: install iptables or choose the nftables backend")]
    Missing {
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// No thread could be made for the rules of the second family. Try again.
    #[error("start a thread for the rules of IPv6")]
    Thread {
        /// The error of the operating system.
        source: io::Error,
    },
    /// A program could not be started.
    #[error("start {}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A program was started and its input or output broke off.
    #[error("talk to {}", program.display())]
    Talk {
        /// The program.
        program: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The program ran and refused.
    #[error("{} could not {act} ({status}): {stderr}", program.display())]
    Refused {
        /// The program.
        program: PathBuf,
        /// What it was asked to do, for whom.
        act: String,
        /// How it ended.
        status: String,
        /// What it said.
        stderr: String,
    },
    /// Another program held the xtables lock all the time. Try again.
    #[error("{} waited {seconds} s for the xtables lock, which another program holds; try again", program.display())]
    Busy {
        /// The program.
        program: PathBuf,
        /// How long it waited.
        seconds: u32,
    },
    /// Our own lock file could not be opened or locked.
    #[error("lock {}", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Another of our processes held our lock all the time. Try again.
    #[error("{} stayed locked by another process for {seconds} s; try again", path.display())]
    LockBusy {
        /// The file.
        path: PathBuf,
        /// How long we waited.
        seconds: u64,
    },
    /// Both families failed, each for its own reason.
    #[error("IPv4: {v4}; IPv6: {v6}")]
    Both {
        /// The IPv4 failure.
        #[source]
        v4: Box<Error>,
        /// The IPv6 failure.
        v6: Box<Error>,
    },
}

impl Error {
    /// Whether the same call may succeed a little later.
    #[must_use]
    pub fn try_again(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::LockBusy { .. } | Self::Thread { .. } => true,
            Self::Both { v4, v6 } => v4.try_again() && v6.try_again(),
            _ => false,
        }
    }
}
