//! An address with its prefix length, strictly written.

use std::{
    fmt,
    net::{AddrParseError, IpAddr},
    ops::Deref,
    str::FromStr,
};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An address and the length of its network's prefix, such as `10.1.2.3/24`. The host part is kept.
///
/// `ipnetwork` alone would read a bare address as a /32 and a netmask as a prefix; in a network
/// configuration both are slips of the pen, so both are errors here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr(IpNetwork);

/// Why a string, or a pair of address and length, is no [`Cidr`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// No `/`.
    #[error("{0:?} has no prefix length; write it like \"10.1.2.0/24\"")]
    NoPrefix(String),
    /// What stands before the `/` is no address.
    #[error("{0:?} does not start with an IP address; write it like \"10.1.2.0/24\"")]
    Address(String),
    /// What stands behind the `/` is no number.
    #[error("{0:?} does not end with a prefix length; write it like \"10.1.2.0/24\"")]
    Prefix(String),
    /// Longer than the address itself.
    #[error("the prefix length {prefix} is too large for {address}")]
    TooLong {
        /// The address.
        address: IpAddr,
        /// The length asked for.
        prefix: u8,
    },
    /// A length that is none of IPv4, with an IPv4 address in IPv6 notation.
    #[error("the prefix length of the IPv4-mapped address {0:?} is not between 96 and 128")]
    Mapped(String),
}

/// Reads an address. An IPv4 address in the notation `::ffff:10.1.2.3`, which programs write whose
/// sockets serve both families, is that IPv4 address.
///
/// # Errors
/// The text is no address.
pub fn address(text: &str) -> Result<IpAddr, AddrParseError> {
    text.parse::<IpAddr>().map(|address| address.to_canonical())
}

impl Cidr {
    /// `address` in a network of `prefix` bits.
    ///
    /// # Errors
    /// When the family has no prefix of that length.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Cidr, CidrError> {
        IpNetwork::new(address, prefix)
            .map(Cidr)
            .map_err(|_| CidrError::TooLong { address, prefix })
    }

    /// The address alone.
    #[must_use]
    pub fn addr(&self) -> IpAddr {
        self.0.ip()
    }

    /// The prefix length.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.0.prefix()
    }

    /// The same network with the host part cleared.
    #[must_use]
    pub fn network(&self) -> Cidr {
        // The prefix comes from a valid network of this family, so it is never refused.
        Cidr(IpNetwork::new(self.0.network(), self.prefix()).unwrap_or(self.0))
    }

    /// Whether this is IPv4.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.0.is_ipv4()
    }

    /// Whether this is IPv6.
    #[must_use]
    pub fn is_ipv6(&self) -> bool {
        self.0.is_ipv6()
    }

    /// Whether `address` lies in the network; never for one of the other family.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(address)
    }

    /// Whether the two networks share an address; never for different families.
    #[must_use]
    pub fn overlaps(&self, other: &Cidr) -> bool {
        // Networks nest or are disjoint, so one contains the other's base if they meet.
        self.contains(other.0.network()) || other.contains(self.0.network())
    }

    /// The address after the network's own, which is what the reference plugins take as gateway
    /// when none is given. A network of a single address has only that one.
    #[must_use]
    pub fn first_host(&self) -> IpAddr {
        let single = self.prefix() == if self.is_ipv4() { 32 } else { 128 };
        match self.0.network() {
            address if single => address,
            IpAddr::V4(address) => IpAddr::V4((u32::from(address) | 1).into()),
            IpAddr::V6(address) => IpAddr::V6((u128::from(address) | 1).into()),
        }
    }

    /// The last address of the network: the broadcast address in IPv4; in IPv6, which has no
    /// broadcast, an ordinary address.
    #[must_use]
    pub fn broadcast(&self) -> IpAddr {
        self.0.broadcast()
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Cidr, CidrError> {
        let (address, prefix) = text
            .split_once('/')
            .ok_or_else(|| CidrError::NoPrefix(text.to_owned()))?;
        let written: IpAddr = address
            .parse()
            .map_err(|_| CidrError::Address(text.to_owned()))?;
        // u8's parser alone would take "+24".
        let digits = prefix.len() <= 3 && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix: u8 = prefix
            .parse()
            .ok()
            .filter(|_| digits)
            .ok_or_else(|| CidrError::Prefix(text.to_owned()))?;
        let address = written.to_canonical();
        if address.is_ipv4() == written.is_ipv4() {
            return Cidr::new(address, prefix);
        }
        match prefix.checked_sub(96) {
            Some(prefix) if prefix <= 32 => Cidr::new(address, prefix),
            _ => Err(CidrError::Mapped(text.to_owned())),
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr(), self.prefix())
    }
}

impl Deref for Cidr {
    type Target = IpNetwork;

    fn deref(&self) -> &IpNetwork {
        &self.0
    }
}

impl From<Cidr> for IpNetwork {
    fn from(cidr: Cidr) -> IpNetwork {
        cidr.0
    }
}

impl From<IpNetwork> for Cidr {
    fn from(network: IpNetwork) -> Cidr {
        Cidr(network)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Cidr, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}
