//! The keys.

use std::net::IpAddr;

use pontoon_conf::{ConfigError, Error, IpConfig, excerpt, keys};
use pontoon_netlink::IpNetwork;
use pontoon_plugin::Context;

/// `RT_TABLE_COMPAT`, `_DEFAULT`, `_MAIN` and `_LOCAL`: the kernel's.
const RESERVED: std::ops::RangeInclusive<u32> = 252..=255;

/// The keys as they are meant.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) table: Option<u32>,
    pub(crate) gateways: Vec<IpAddr>,
    pub(crate) source_hints: bool,
}

impl Config {
    pub(crate) fn from_context(context: &Context) -> Result<Self, Error> {
        let keys: keys::Sbr = context.config.keys()?;
        let table = match keys.table {
            None => None,
            Some(table) => Some(
                u32::try_from(table)
                    .ok()
                    .filter(|table| *table > 0 && !RESERVED.contains(table))
                    .ok_or_else(|| {
                        ConfigError::key("table", format!("{table} cannot be a routing table"))
                            .with_next_step("choose a number from 1 to 4294967295, but 252 to 255")
                    })?,
            ),
        };
        let mut gateways: Vec<IpAddr> = Vec::new();
        for text in &keys.gateways {
            let gateway: IpAddr = pontoon_conf::address(text.trim()).map_err(|error| {
                ConfigError::key(
                    "gateways",
                    format!("\"{}\" is no IP address", excerpt(text)),
                )
                .quoting(error)
            })?;
            if gateways
                .iter()
                .any(|other| other.is_ipv4() == gateway.is_ipv4())
            {
                return Err(ConfigError::key(
                    "gateways",
                    format!("{gateway} is the second of its family"),
                )
                .with_next_step("give one gateway for each family")
                .into());
            }
            gateways.push(gateway);
        }
        Ok(Self {
            table,
            gateways,
            source_hints: keys.add_source_hints,
        })
    }

    /// Where packets from an address go that no other route takes.
    pub(crate) fn gateway(&self, ip: &IpConfig) -> Option<IpAddr> {
        let v4 = ip.address.is_ipv4();
        let own = self.gateways.iter().find(|gateway| gateway.is_ipv4() == v4);
        own.copied().or(ip.gateway)
    }
}

pub(crate) fn holds(ip: &IpConfig, gateway: IpAddr) -> bool {
    IpNetwork::from(ip.address).contains(gateway)
}

/// Whether a table is the kernel's own.
pub(crate) fn is_reserved(table: u32) -> bool {
    RESERVED.contains(&table)
}
