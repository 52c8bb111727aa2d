//! The pool of a network: which addresses an ADD may give out, and how many of them are free.

use std::net::IpAddr;

use pontoon_conf::keys::AddressRange;
use pontoon_conf::{NetworkConfig, Verb};
use pontoon_ipam::{Exclusions, Pool, Range, RangeSet, Span, host_local};
use pontoon_ledger::overlay::OverlayFiles;
use pontoon_netlink::IpNetwork;
use serde_json::{Value, json};

use super::{Lease, Subnet};
use crate::conflist::Places;
use crate::facts::{Host, Network};

/// Where the pool of a network is looked for.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) host: &'a Host,
    pub(crate) networks: &'a [Network],
    pub(crate) places: &'a Places,
    pub(crate) network: &'a str,
}

impl Source<'_> {
    /// The plugins of the configuration.
    fn plugins(&self) -> Vec<Value> {
        let configured = self.places.network(self.network).ok();
        let plugins = configured.and_then(|list| list["plugins"].as_array().cloned());
        let mut plugins = plugins.unwrap_or_default();
        for plugin in plugins.iter_mut().filter(|it| it["type"] == "overlay") {
            plugin["ipam"] = self.of_blocks(&plugin["ipam"]).unwrap_or_default();
        }
        plugins
    }

    /// The ranges of a network of several hosts: this host's blocks. `None` when its file cannot be read.
    fn of_blocks(&self, written: &Value) -> Option<Value> {
        let files = OverlayFiles::locate().ok()?;
        let network = files.read_network(self.network).ok()??;
        let family = |v4: bool| {
            let blocks = network.blocks_of(v4);
            let ranges: Vec<Value> = blocks.map(|block| json!({ "subnet": block })).collect();
            (!ranges.is_empty()).then_some(ranges)
        };
        let ranges: Vec<Vec<Value>> = [true, false].into_iter().filter_map(family).collect();
        let mut ipam = written.as_object().cloned().unwrap_or_default();
        ipam.insert("type".to_owned(), json!("host-local"));
        ipam.insert("ranges".to_owned(), json!(ranges));
        Some(Value::Object(ipam))
    }

    /// The subnets of a network whose note is lost: as it is configured, else as its bridge and its
    /// containers have them.
    pub(super) fn subnets(&self) -> Vec<String> {
        let plugins = self.plugins();
        let mut found: Vec<String> = plugins
            .iter()
            .map(|plugin| &plugin["ipam"])
            .flat_map(|ipam| {
                let sets = ipam["ranges"].as_array().into_iter().flatten();
                let ranges = sets.flat_map(|set| set.as_array().into_iter().flatten());
                let subnets = std::iter::once(ipam).chain(ranges);
                subnets.filter_map(|range| range["subnet"].as_str().map(str::to_owned))
            })
            .filter(|text| text.parse::<IpNetwork>().is_ok())
            .collect();
        if found.is_empty() {
            let own = self.networks.iter().filter(|one| one.name == self.network);
            let gateways = own.flat_map(|one| one.gateways.clone());
            let attachments = self.host.attachments();
            let addresses = attachments.iter().filter(|one| one.network == self.network);
            let addresses = addresses.flat_map(|one| one.addresses.clone());
            let subnets = gateways.chain(addresses).filter_map(|cidr| {
                let subnet: IpNetwork = cidr.parse().ok()?;
                Some(format!("{}/{}", subnet.network(), subnet.prefix()))
            });
            found.extend(subnets);
        }
        found.sort();
        found.dedup();
        found
    }

    /// The pool as host-local reads it from the configuration; its subnets are added to those that are
    /// noted. `auto` is the subnet that was chosen for the network.
    fn configured(&self, auto: Option<&str>) -> Option<Pool> {
        let mut plugins = self.plugins().into_iter();
        let mut plugin = plugins.find(|plugin| plugin["ipam"]["type"] == "host-local")?;
        plugin["name"] = self.network.into();
        // A list gives each of its plugins its version. The addresses do not depend on it.
        plugin["cniVersion"] = "1.1.0".into();
        let text = plugin.to_string();
        let config = NetworkConfig::parse(text.as_bytes(), Verb::Status).ok()?;
        host_local::pool(&config, auto).ok()
    }

    /// The pool as configured, else all of each subnet.
    pub(super) fn pool(&self, auto: Option<&str>, subnets: &mut Vec<String>) -> Pool {
        let Some(pool) = self.configured(auto) else {
            return whole(subnets);
        };
        for range in pool.sets().iter().flat_map(RangeSet::ranges) {
            let subnet = subnet_of(range);
            if !subnets.contains(&subnet) {
                subnets.push(subnet);
            }
        }
        pool
    }
}

fn subnet_of(range: &Range) -> String {
    format!("{}/{}", range.subnet(), range.prefix())
}

/// A pool that gives out all of each subnet, without its first address, which is the gateway by default.
pub(super) fn whole(subnets: &[String]) -> Pool {
    let set = |subnet: &String| {
        let range = AddressRange {
            subnet: Some(subnet.clone()),
            ..AddressRange::default()
        };
        RangeSet::parse(&[range]).ok()
    };
    Pool::new(
        subnets.iter().filter_map(set).collect(),
        Exclusions::default(),
    )
}

/// Counts a subnet, and finds the address after the last one given out that no lease has.
pub(super) fn count(text: &str, pool: &Pool, leases: &[Lease], last: &[IpAddr]) -> Option<Subnet> {
    let network: IpNetwork = text.parse().ok()?;
    let subnet = Span::network(network.ip(), network.prefix());
    let used: Vec<IpAddr> = leases
        .iter()
        .filter(|lease| !lease.earlier_boot)
        .map(|lease| lease.address)
        .filter(|address| subnet.contains(*address))
        .collect();
    let within = |span: &Span| subnet.contains(span.first());
    let usable: Vec<Span> = pool.usable().into_iter().filter(within).collect();
    let all = usable.iter().map(Span::size).fold(0, u128::saturating_add);
    let taken = |address: &&IpAddr| usable.iter().any(|span| span.contains(**address));
    let taken = used.iter().filter(taken).count();
    let last = last.iter().copied().find(|last| subnet.contains(*last));
    let turns = pool
        .sets()
        .iter()
        .flat_map(|set| pool.candidates(set, last));
    let next = turns
        .filter(within)
        .find_map(|span| span.lowest_but(|address| used.contains(&address)));
    Some(Subnet {
        subnet: text.to_owned(),
        used: used.len() as u64,
        free: all.saturating_sub(taken as u128),
        next,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn taken(addresses: &[&str]) -> Vec<Lease> {
        let lease = |address: &&str| Lease {
            address: address.parse().unwrap(),
            container: "c".into(),
            interface: None,
            name: None,
            attached: true,
            earlier_boot: false,
        };
        addresses.iter().map(lease).collect()
    }

    #[track_caller]
    fn check_of(
        pool: &Pool,
        text: &str,
        used: &[&str],
        last: &[&str],
        free: u128,
        next: Option<&str>,
    ) {
        let last: Vec<IpAddr> = last.iter().map(|last| last.parse().unwrap()).collect();
        let found = count(text, pool, &taken(used), &last).unwrap();
        assert_eq!(found.free, free);
        assert_eq!(found.next, next.map(|next| next.parse().unwrap()));
    }

    #[track_caller]
    fn check(text: &str, used: &[&str], last: &[&str], free: u128, next: Option<&str>) {
        check_of(&whole(&[text.to_owned()]), text, used, last, free, next);
    }

    #[test]
    fn subnets_are_counted() {
        check("10.1.0.0/24", &[], &[], 253, Some("10.1.0.2"));
        check(
            "10.1.0.0/24",
            &["10.1.0.2"],
            &["10.1.0.2"],
            252,
            Some("10.1.0.3"),
        );
        check("10.1.0.0/24", &["10.2.0.2"], &[], 253, Some("10.1.0.2"));
        check(
            "10.1.0.0/29",
            &["10.1.0.6"],
            &["10.1.0.6"],
            4,
            Some("10.1.0.2"),
        );
        let all = ["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6"];
        check("10.1.0.0/29", &all, &["10.1.0.3"], 0, None);
        // IPv6 has no broadcast address.
        check("fd00::/64", &[], &[], (1 << 64) - 2, Some("fd00::2"));
    }

    #[test]
    fn ranges_gateways_and_exclusions_are_kept_to() {
        let ipam = json!({
            "type": "host-local",
            "exclude": ["10.1.0.18", "10.1.0.64/28"],
            "ranges": [
                [
                    { "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.16", "rangeEnd": "10.1.0.19" },
                    { "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.250", "gateway": "10.1.0.254" }
                ],
                [{ "subnet": "fd00::/64", "rangeEnd": "fd00::5" }]
            ]
        });
        let plugin = json!({ "cniVersion": "1.1.0", "name": "n", "type": "bridge", "ipam": ipam });
        let text = plugin.to_string();
        let config = NetworkConfig::parse(text.as_bytes(), Verb::Status).unwrap();
        let pool = host_local::pool(&config, None).unwrap();
        let v4 = |used: &[&str], last: &[&str], free, next| {
            check_of(&pool, "10.1.0.0/24", used, last, free, next);
        };
        // .16, .17, .19 and .250 to .253: not the gateways, the broadcast address and the excluded.
        v4(&[], &[], 7, Some("10.1.0.16"));
        // A lease outside the ranges, of a configuration before, takes nothing from them.
        v4(&["10.1.0.99"], &[], 7, Some("10.1.0.16"));
        v4(&["10.1.0.17"], &["10.1.0.17"], 6, Some("10.1.0.19"));
        v4(&["10.1.0.19"], &["10.1.0.19"], 6, Some("10.1.0.250"));
        v4(&["10.1.0.253"], &["10.1.0.253"], 6, Some("10.1.0.16"));
        check_of(&pool, "fd00::/64", &[], &[], 4, Some("fd00::2"));
        // A subnet that the configuration does not have any more gives nothing.
        check_of(&pool, "10.2.0.0/24", &["10.2.0.2"], &[], 0, None);
    }
}
