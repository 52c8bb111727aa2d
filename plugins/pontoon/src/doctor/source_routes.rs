//! Uplinks with rules by source address: what a container answers has the container's address while
//! it is routed, so that no such rule sees it.

use pontoon_ledger::PortmapRecord;
use pontoon_netlink::RouteEntry;

use super::{CheckInput, Finding};
use crate::report::Failure;

/// `RTN_UNICAST`.
const UNICAST: u8 = 1;
/// Tables that the kernel knows by name: default, main, local.
const NAMED: [u32; 3] = [253, 254, 255];

pub(super) fn check(ground: &mut CheckInput, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let published: Vec<PortmapRecord> = ground.host.records()?;
    for v4 in [true, false] {
        let family = |record: &&PortmapRecord| {
            let address = if v4 {
                record.published.v4
            } else {
                record.published.v6
            };
            address.is_some()
        };
        let ports: Vec<_> = published
            .iter()
            .filter(family)
            .flat_map(|record| &record.published.ports)
            .collect();
        if ports.is_empty() {
            continue;
        }
        let socket = &mut ground.host.socket;
        let rules = socket.source_rules(v4)?;
        if rules.iter().all(|rule| rule.source.is_none()) {
            continue;
        }
        let way_out = |routes: Vec<RouteEntry>| {
            let mut defaults = routes
                .into_iter()
                .filter(|route| route.destination.prefix() == 0 && route.kind == UNICAST);
            defaults.next()
        };
        let main = way_out(socket.routes(v4)?).and_then(|route| route.interface);
        let addresses = socket.all_addresses(v4)?;
        for rule in &rules {
            let Some(source) = rule.source else { continue };
            // A rule that leads there by another mark sees the answers.
            let others = |table| {
                let mut all = rules.iter();
                all.any(|other| other.table == table && other.source.is_none())
            };
            let own = addresses.iter().any(|address| address.cidr.ip() == source);
            let meets = ports.iter().any(|port| {
                port.host_ip
                    .is_none_or(|at| at == source || (at.is_unspecified() && at.is_ipv4() == v4))
            });
            if !own || !meets || NAMED.contains(&rule.table) || others(rule.table) {
                continue;
            }
            let Some(route) = way_out(socket.routes_of_table(v4, rule.table)?) else {
                continue;
            };
            if route.interface == main {
                continue;
            }
            let Some(uplink) = route.interface else {
                continue;
            };
            let Some(link) = socket.link_by_index(uplink)? else {
                continue;
            };
            let (name, table) = (&link.name, rule.table);
            let (version, of_family) = if v4 { ("ip", "-4") } else { ("ip6", "-6") };
            findings.push(
                Finding::new("uplink-by-source", name)
                    .means(format!(
                        "clients behind the router of {name} get no answer from published ports at \
                         {source}: an answer has the container's address while it is routed, and \
                         leaves by the default route of the main table"
                    ))
                    .seen(format!("ip rule: from {source} lookup {table}, and no rule by mark that leads there"))
                    .mend(format!(
                        "nft 'add table {version} uplink-{table}; add chain {version} uplink-{table} \
                         prerouting {{ type filter hook prerouting priority mangle; }}; \
                         add rule {version} uplink-{table} prerouting iifname \"{name}\" ct state new \
                         ct mark set {table}; add rule {version} uplink-{table} prerouting \
                         iifname != \"{name}\" ct mark {table} meta mark set ct mark' && \
                         ip {of_family} rule add fwmark {table} lookup {table}"
                    )),
            );
        }
    }
    Ok(())
}
