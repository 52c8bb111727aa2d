//! The keys in etcd, and how their names are written.
//!
//! ```text
//! /pontoon/v1/net/NET                     a network                        the admin writes it
//! /pontoon/v1/vni/N                       the network that has VNI N       the admin
//! /pontoon/v1/drain/H                     host H is being emptied          the admin
//! /pontoon/v1/block/NET/10.5.7.0-24       the host that asked for a block  any host, if absent
//! /pontoon/v1/host/H/block/NET/10.5.7.0-24  H's confirmation of it         H only
//! /pontoon/v1/host/H/info                 how H is reached                 H only
//! /pontoon/v1/host/H/alive                there as long as H's lease is    H only
//! /pontoon/v1/host/H/ep/NET/ADDRESS       a container of H                 H only
//! /pontoon/v1/service/NET/name/NAME       the number of a service          any host, if absent
//! /pontoon/v1/service/NET/number/N        the service that has number N    any host, with the one above
//! ```
//!
//! A role in etcd that reads `/pontoon/v1/` and writes `/pontoon/v1/host/H/`, `/pontoon/v1/block/` and
//! `/pontoon/v1/service/` is all that host H needs.

use std::net::IpAddr;

use pontoon_conf::Cidr;

/// What all keys begin with.
pub(crate) const PREFIX: &str = "/pontoon/v1/";

/// A key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    /// A network.
    Network(String),
    /// The network of a VNI.
    Vni(u32),
    /// A host is being emptied.
    Drain(String),
    /// The host that asked for a block of a network.
    Claim(String, Cidr),
    /// A host's confirmation of its claim: host, network, block.
    Confirmation(String, String, Cidr),
    /// How a host is reached.
    Info(String),
    /// A host is alive.
    Alive(String),
    /// A container: host, network, address.
    Endpoint(String, String, IpAddr),
    /// The number of a service: network, name.
    ServiceName(String, String),
    /// The service of a number: network, number.
    ServiceNumber(String, u32),
}

impl Key {
    /// The key's name.
    pub(crate) fn path(&self) -> String {
        match self {
            Self::Network(network) => format!("{PREFIX}net/{network}"),
            Self::Vni(number) => format!("{PREFIX}vni/{number}"),
            Self::Drain(host) => format!("{PREFIX}drain/{host}"),
            Self::Claim(network, block) => format!("{PREFIX}block/{network}/{}", dashed(*block)),
            Self::Confirmation(host, network, block) => {
                format!("{PREFIX}host/{host}/block/{network}/{}", dashed(*block))
            }
            Self::Info(host) => format!("{PREFIX}host/{host}/info"),
            Self::Alive(host) => format!("{PREFIX}host/{host}/alive"),
            Self::Endpoint(host, network, address) => {
                format!("{PREFIX}host/{host}/ep/{network}/{address}")
            }
            Self::ServiceName(network, name) => format!("{}name/{name}", of_services(network)),
            Self::ServiceNumber(network, number) => {
                format!("{}number/{number}", of_services(network))
            }
        }
    }

    /// The key of this name; `None` when it is none of Pontoon's.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let words: Vec<&str> = path.strip_prefix(PREFIX)?.split('/').collect();
        let text = |word: &str| (!word.is_empty()).then(|| word.to_owned());
        Some(match words[..] {
            ["net", network] => Self::Network(text(network)?),
            ["vni", number] => Self::Vni(number.parse().ok()?),
            ["drain", host] => Self::Drain(text(host)?),
            ["block", network, block] => Self::Claim(text(network)?, undashed(block)?),
            ["host", host, "info"] => Self::Info(text(host)?),
            ["host", host, "alive"] => Self::Alive(text(host)?),
            ["host", host, "block", network, block] => {
                Self::Confirmation(text(host)?, text(network)?, undashed(block)?)
            }
            ["host", host, "ep", network, address] => {
                Self::Endpoint(text(host)?, text(network)?, address.parse().ok()?)
            }
            ["service", network, "name", name] => Self::ServiceName(text(network)?, text(name)?),
            ["service", network, "number", number] => {
                Self::ServiceNumber(text(network)?, number.parse().ok()?)
            }
            _ => return None,
        })
    }
}

/// What all keys begin with that only this host writes.
pub(crate) fn of_host(host: &str) -> String {
    format!("{PREFIX}host/{host}/")
}

/// What the keys of a network's services begin with.
pub(crate) fn of_services(network: &str) -> String {
    format!("{PREFIX}service/{network}/")
}

/// What the keys of all networks begin with.
pub(crate) fn networks() -> String {
    format!("{PREFIX}net/")
}

fn dashed(block: Cidr) -> String {
    block.to_string().replace('/', "-")
}

fn undashed(text: &str) -> Option<Cidr> {
    let block: Cidr = text.replace('-', "/").parse().ok()?;
    (block.network() == block).then_some(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read_as_it_is_written() {
        let block = |text: &str| -> Cidr { text.parse().unwrap() };
        let (h, n) = (|| "h1".to_owned(), || "lan".to_owned());
        for (key, path) in [
            (Key::Network(n()), "net/lan"),
            (Key::Vni(4096), "vni/4096"),
            (Key::Drain(h()), "drain/h1"),
            (
                Key::Claim(n(), block("10.5.7.0/24")),
                "block/lan/10.5.7.0-24",
            ),
            (
                Key::Confirmation(h(), n(), block("fd00:5:0:1::/64")),
                "host/h1/block/lan/fd00:5:0:1::-64",
            ),
            (Key::Info(h()), "host/h1/info"),
            (Key::Alive(h()), "host/h1/alive"),
            (
                Key::Endpoint(h(), n(), "10.5.7.2".parse().unwrap()),
                "host/h1/ep/lan/10.5.7.2",
            ),
            (
                Key::ServiceName(n(), "web".to_owned()),
                "service/lan/name/web",
            ),
            (Key::ServiceNumber(n(), 7), "service/lan/number/7"),
        ] {
            let path = format!("{PREFIX}{path}");
            assert_eq!(key.path(), path);
            assert_eq!(Key::parse(&path), Some(key));
        }
    }

    #[test]
    fn what_is_no_key_is_none() {
        for path in [
            "/other/net/lan",
            "/pontoon/v1/net/",
            "/pontoon/v1/net/a/b",
            "/pontoon/v1/block/lan/10.5.7.1-24",
            "/pontoon/v1/block/lan/x",
            "/pontoon/v1/host/h1/other",
            "/pontoon/v1/vni/x",
        ] {
            assert_eq!(Key::parse(path), None, "{path}");
        }
    }
}
