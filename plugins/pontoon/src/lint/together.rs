//! What lies between networks of one host: the same name, bridge or subnet in two files.

use pontoon_ledger::kinds;

use super::ranges::{self, Written};
use super::source::{Member, Node};
use super::{Finding, Level, Place};

/// A configuration among others.
pub(super) struct Network<'n> {
    file: &'n str,
    root: &'n Node,
    first: &'n Node,
    /// The host has the gateway's address: subnets of two such networks cannot overlap.
    routed: bool,
    subnets: Vec<Written<'n>>,
}

impl<'n> Network<'n> {
    pub(super) fn new(file: &'n str, root: &'n Node) -> Option<Self> {
        let first = match root.get("plugins") {
            Some(plugins) => plugins.value.items().first()?,
            None => root,
        };
        let ipam = first.get("ipam").map(|ipam| &ipam.value);
        let is_local = |ipam: &&Node| text(ipam, "type") == Some("host-local");
        Some(Self {
            file,
            root,
            first,
            routed: routed(first),
            subnets: ipam
                .filter(is_local)
                .map(ranges::subnets)
                .unwrap_or_default(),
        })
    }

    /// Its bridge, and where that is written.
    fn bridge(&self) -> Option<(&'n str, Place)> {
        if !text(self.first, "type").is_some_and(kinds::is_bridged) {
            return None;
        }
        let named = |member: &'n Member| Some((member.value.text()?, member.value.place));
        let named = self.first.get("bridge").and_then(named);
        let named = named.filter(|(name, _)| !name.is_empty());
        Some(named.unwrap_or(("cni0", self.first.place)))
    }
}

/// Whether a plugin gives the host the gateway's address.
pub(super) fn routed(plugin: &Node) -> bool {
    let on = |key: &str| plugin.get(key).is_some_and(|member| member.value.is_true());
    match text(plugin, "type") {
        Some("bridge") => on("isGateway") || on("isDefaultGateway"),
        Some("ptp" | "overlay") => true,
        _ => false,
    }
}

fn text<'n>(node: &'n Node, key: &str) -> Option<&'n str> {
    node.get(key).and_then(|member| member.value.text())
}

/// What is wrong with each of the networks beside those before it. In one `folder` they are one host's,
/// and what cannot be at once is an error; files that were named one by one may be meant for several
/// hosts.
pub(super) fn judge(networks: &[Option<Network<'_>>], folder: bool) -> Vec<Vec<Finding>> {
    let mut all = Vec::new();
    for (at, later) in networks.iter().enumerate() {
        let mut findings = Vec::new();
        for earlier in networks[..at].iter().flatten() {
            if let Some(later) = later {
                pair(earlier, later, folder, &mut findings);
            }
        }
        all.push(findings);
    }
    all
}

fn pair(earlier: &Network<'_>, later: &Network<'_>, folder: bool, findings: &mut Vec<Finding>) {
    let file = earlier.file;
    let level = |cannot: bool| match cannot && folder {
        true => Level::Error,
        false => Level::Warning,
    };
    let mut tell = |level, place, text| findings.push(Finding { level, place, text });
    let name = later.root.get("name").map(|name| &name.value);
    if let Some(name) = name
        && name.text().is_some()
        && name.text() == text(earlier.root, "name")
    {
        let name_text = name.text().unwrap_or_default();
        tell(
            level(true),
            name.place,
            format!(
                "key \"name\": {file} has a network {name_text} already: runtimes use the first only"
            ),
        );
        return;
    }
    let bridges = earlier.bridge().zip(later.bridge());
    let shared = bridges.filter(|((one, _), (other, _))| one == other);
    let gateways = earlier.routed && later.routed;
    if let Some((_, (bridge, place))) = shared {
        let vlan = |network: &Network<'_>| {
            let has = |key: &str| network.first.get(key).is_some();
            has("vlan") || has("vlanTrunk")
        };
        if gateways {
            let text = format!(
                "key \"bridge\": {bridge} is the bridge of the network in {file} too, and cannot have the \
                 gateways of both"
            );
            tell(level(true), place, text);
        } else if !vlan(earlier) && !vlan(later) {
            let text = format!(
                "key \"bridge\": {bridge} is the bridge of the network in {file} too: their containers are on \
                 one link"
            );
            tell(Level::Warning, place, text);
        }
    }
    for subnet in &later.subnets {
        let other = earlier.subnets.iter().find(|other| {
            if gateways {
                other.subnet.overlaps(&subnet.subnet)
            } else {
                shared.is_some() && ranges::meet(other, subnet)
            }
        });
        if let Some(other) = other {
            let text = format!(
                "key \"subnet\": {} clashes with {} of the network in {file}",
                subnet.subnet, other.subnet
            );
            tell(level(true), subnet.node.place, text);
        }
    }
}
