//! What ADD answers, free of any version's shape.
//!
//! `parse` knows every shape that a previous result may come in, `print` every shape that may be
//! asked for.

mod error;
mod parse;
mod print;

use std::{fmt::Display, net::IpAddr, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

use crate::{Cidr, Error, Version};
use error::ResultError;

/// The result of ADD: of a chain so far, of one plugin, or of an address manager (which names no
/// interfaces).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddResult {
    /// Interfaces made or seen, on the host and in the container.
    pub interfaces: Vec<Interface>,
    /// Addresses given.
    pub ips: Vec<IpConfig>,
    /// Routes of the container.
    pub routes: Vec<Route>,
    /// What the container's resolver should use.
    pub dns: Dns,
}

impl AddResult {
    /// Addresses, interfaces, and words of each list of `dns`, of one attachment. The kernel looks through those of an interface
    /// one by one, and so does what reads a result.
    pub const MOST: usize = 1024;

    /// Refuses a result that no attachment can have.
    ///
    /// # Errors
    /// Code 7 with what there is too much of.
    pub fn refuse_excess(&self) -> Result<(), Error> {
        let dns = &self.dns;
        refuse_more_than_most([
            ("addresses", self.ips.len()),
            ("interfaces", self.interfaces.len()),
            ("nameservers", dns.nameservers.len()),
            ("search domains", dns.search.len()),
            ("resolver options", dns.options.len()),
        ])
    }
}

fn refuse_excess(addresses: usize, interfaces: usize) -> Result<(), Error> {
    refuse_more_than_most([("addresses", addresses), ("interfaces", interfaces)])
}

fn refuse_more_than_most<const N: usize>(counts: [(&'static str, usize); N]) -> Result<(), Error> {
    let most = AddResult::MOST;
    for (what, count) in counts {
        if count > most {
            return Err(ResultError::TooMany { count, what, most }.into());
        }
    }
    Ok(())
}

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address.
    pub mac: Option<String>,
    /// Its MTU (1.1.0).
    pub mtu: Option<u32>,
    /// The namespace it lives in; none on the host.
    pub sandbox: Option<String>,
    /// The socket file behind it (1.1.0).
    pub socket_path: Option<String>,
    /// The PCI device behind it (1.1.0).
    pub pci_id: Option<String>,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpConfig {
    /// Which of [`AddResult::interfaces`] carries it; none in an address manager's result.
    pub interface: Option<usize>,
    /// The address with its network's prefix length.
    pub address: Cidr,
    /// The default gateway of that network.
    pub gateway: Option<IpAddr>,
}

/// A route of the container. Also a key of configurations, so it can be decoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Route {
    /// Where to.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub dst: Cidr,
    /// Through whom; none means the gateway of the address's network.
    #[serde(default, deserialize_with = "address_or_none")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// The path's MTU (1.1.0).
    #[serde(default, deserialize_with = "zero_is_none")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The segment size to advertise (1.1.0).
    #[serde(default, deserialize_with = "zero_is_none")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// The metric (1.1.0).
    #[serde(default, deserialize_with = "zero_is_none")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// The routing table (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// 0 global, 253 link, 254 host (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

impl Route {
    /// A route to `dst` with nothing else said.
    #[must_use]
    pub fn to(dst: Cidr) -> Route {
        Route {
            dst,
            gw: None,
            mtu: None,
            advmss: None,
            priority: None,
            table: None,
            scope: None,
        }
    }
}

/// Settings for a resolver. Also a key of configurations, so it can be decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Dns {
    /// Servers, in the order they should be asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(deserialize_with = "blank_is_none")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Domains to try short names in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options of resolv.conf.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Dns {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Dns::default()
    }
}

impl AddResult {
    /// The addresses of the container's interface of this name. One that names no interface, or one
    /// that is not in the list, counts as its own: the specification leaves the index out where it
    /// likes, and some plugins list the host's end of a pair alone.
    pub fn ips_of<'a, 'n>(
        &'a self,
        name: &'n str,
    ) -> impl Iterator<Item = &'a IpConfig> + use<'a, 'n> {
        let another = move |interface: &Interface| {
            interface.name != name || interface.sandbox.as_deref().is_none_or(str::is_empty)
        };
        self.ips.iter().filter(move |ip| {
            let named = ip.interface.and_then(|index| self.interfaces.get(index));
            !named.is_some_and(another)
        })
    }

    /// Reads a result in any version's shape. `fallback`, the version of the configuration, counts
    /// when the result does not name its own.
    ///
    /// # Errors
    /// Code 6 for a value that is no result of its version, code 1 for a version that is not known,
    /// code 7 for a list that is too long and for an interface that is not there.
    pub fn parse(value: &Value, fallback: Version) -> Result<AddResult, Error> {
        parse::attached(value, fallback)
    }

    /// The result as `version` writes it, for standard output. What a version has no place for is
    /// left out, except that the two oldest cannot do without an address.
    ///
    /// # Errors
    /// Code 1 when the version needs an address and the result has none.
    pub fn to_json(&self, version: Version) -> Result<String, Error> {
        print::attached(self, version)
    }
}

/// For `#[serde(deserialize_with)]` on an `Option`: the empty string is none, as it is for Go's
/// addresses (containerd sends `"HostIP": ""`). Needs `#[serde(default)]` beside it.
///
/// # Errors
/// Those of the deserializer.
pub fn blank_is_none<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    match Option::<String>::deserialize(deserializer)? {
        Some(text) if !text.is_empty() => text
            .parse()
            .map(Some)
            .map_err(|why| de::Error::custom(format_args!("{text:?}: {why}"))),
        _ => Ok(None),
    }
}

/// An address in its canonical form; an empty text means none.
///
/// # Errors
/// Those of the deserializer, and text that is no address.
pub fn address_or_none<'de, D>(deserializer: D) -> Result<Option<IpAddr>, D::Error>
where
    D: Deserializer<'de>,
{
    blank_is_none(deserializer).map(|address: Option<IpAddr>| address.map(|ip| ip.to_canonical()))
}

/// Numbers whose zero means "not set" in the reference plugins, which never print it.
fn zero_is_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    Ok(Option::<u32>::deserialize(deserializer)?.filter(|&number| number != 0))
}
