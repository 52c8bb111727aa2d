//! Whether the kernel passes packets on: forwarding, reverse-path filter.

use pontoon_netlink::sysctl;

use super::{CheckInput, Finding};
use crate::findings::Setting;
use crate::report::Failure;

fn setting(path: &str) -> Setting {
    Setting::from_text(sysctl::read(path).ok().as_deref())
}

pub(crate) fn check(ground: &mut CheckInput, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    // A network whose containers have no way beyond their bridge needs nothing forwarded.
    let forwarded = |bridge: &str| {
        ground.attachments.iter().any(|one| {
            let inside = ground.insides.get(&one.key());
            one.bridge.as_deref() == Some(bridge)
                && inside.is_some_and(|inside| inside.is_forwarded(one))
        })
    };
    let bridges: Vec<(String, bool)> = ground
        .networks
        .iter()
        .filter(|network| !network.internal)
        .filter_map(|network| {
            let v6 = network.gateways.iter().any(|gateway| gateway.contains(':'));
            let bridge = network.bridge.clone().filter(|bridge| forwarded(bridge))?;
            Some((bridge, v6))
        })
        .collect();
    if bridges.is_empty() {
        return Ok(());
    }
    let v6 = bridges.iter().any(|(_, v6)| *v6);
    let mut wanted = vec![("net/ipv4/ip_forward".to_owned(), None)];
    if v6 {
        wanted.push(("net/ipv6/conf/all/forwarding".to_owned(), None));
    }
    for (bridge, v6) in &bridges {
        wanted.push((format!("net/ipv4/conf/{bridge}/forwarding"), Some(bridge)));
        if *v6 {
            wanted.push((format!("net/ipv6/conf/{bridge}/forwarding"), Some(bridge)));
        }
    }
    for (path, bridge) in wanted {
        // Switching a whole family off switches it off for each interface: told once.
        let all = match path.contains("ipv4") {
            true => "net/ipv4/ip_forward",
            false => "net/ipv6/conf/all/forwarding",
        };
        let told = bridge.is_some() && setting(all) == Setting::Off;
        if told || setting(&path) != Setting::Off {
            continue;
        }
        let finding = Finding::new("forwarding-off", path.replace('/', "."))
            .means("containers cannot reach the outside, and no client their published ports")
            .seen(format!("/proc/sys/{path} is 0"))
            .mend("pontoon ip-forward --fix")
            .safe();
        findings.push(match bridge {
            Some(bridge) => finding.of_bridge(bridge),
            None => finding,
        });
    }
    Ok(())
}

/// Strict reverse-path filtering is a trap where there is more than one way to the outside.
pub(super) fn reverse_path(
    ground: &mut CheckInput,
    findings: &mut Vec<Finding>,
) -> Result<(), Failure> {
    let routes = ground.host.socket.routes(true)?;
    let mut uplinks: Vec<u32> = routes
        .iter()
        .filter(|route| route.destination.prefix() == 0)
        .filter_map(|route| route.interface)
        .collect();
    uplinks.sort_unstable();
    uplinks.dedup();
    if uplinks.len() < 2 {
        return Ok(());
    }
    let read = |name: &str| {
        let text = sysctl::read(&format!("net/ipv4/conf/{name}/rp_filter"));
        text.ok()
            .and_then(|text| text.parse::<u8>().ok())
            .unwrap_or(0)
    };
    for index in uplinks {
        let Some(link) = ground.host.link(index) else {
            continue;
        };
        // The larger of both counts (ip-sysctl.rst).
        if read(&link.name).max(read("all")) == 1 {
            let path = format!("net/ipv4/conf/{}/rp_filter", link.name);
            findings.push(
                Finding::new("rp-filter-strict", &link.name)
                    .means("packets that come in by the one uplink while the route back is by the other are dropped: published ports do not answer there")
                    .seen(format!("{} and all: strict (1), with default routes by several interfaces", link.name))
                    .mend(format!("sysctl -q -w {path}=2"))
                    .safe(),
            );
        }
    }
    Ok(())
}
