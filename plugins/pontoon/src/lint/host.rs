//! What depends on the host: its routes, its uplink, its bridges, the plugins that are installed. Asked
//! for the networks that are configured on it, and by `--host`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pontoon_conf::Cidr;
use pontoon_ledger::kinds;
use pontoon_netlink::{Link, RouteEntry, RouteSocket};

use super::Finding;
use super::ranges;
use super::source::{Member, Node};
use super::together::routed;
use crate::conflist::Places;
use crate::report::Failure;

/// What counts of the host.
pub(super) struct Facts {
    links: Vec<Link>,
    routes: Vec<RouteEntry>,
    uplink: Option<Link>,
    /// Where plugins are looked for.
    path: String,
}

impl Facts {
    pub(super) fn look(places: &Places) -> Result<Self, Failure> {
        let mut socket = RouteSocket::open()?;
        let mut routes = socket.routes(true)?;
        // A kernel without IPv6 has no such routes.
        routes.extend(socket.routes(false).unwrap_or_default());
        Ok(Self {
            links: socket.links()?,
            routes,
            uplink: socket.uplink()?,
            path: places.cni_path(),
        })
    }

    /// Judges a document.
    pub(super) fn judge(&self, root: &Node, findings: &mut Vec<Finding>) {
        let single = std::slice::from_ref(root);
        let plugins = match root.get("plugins") {
            Some(plugins) => plugins.value.items(),
            None => single,
        };
        for plugin in plugins {
            self.installed(plugin, findings);
        }
        if let Some(first) = plugins.first() {
            self.subnets(first, root, findings);
            self.mtu(first, findings);
            self.bridge(first, findings);
        }
    }

    /// The plugin and its address plugin are there, and can be run.
    fn installed(&self, plugin: &Node, findings: &mut Vec<Finding>) {
        let ipam = plugin.get("ipam").map(|ipam| &ipam.value);
        for node in [Some(plugin), ipam].into_iter().flatten() {
            let Some(kind) = node.get("type").map(|kind| &kind.value) else {
                continue;
            };
            let name = kind.text().unwrap_or_default();
            if name.is_empty() || name.contains('/') {
                continue;
            }
            let dirs = self.path.split(':').filter(|dir| !dir.is_empty());
            let found = dirs
                .map(|dir| Path::new(dir).join(name))
                .find(|at| at.is_file());
            let problem = match found {
                None => format!("plugin {name} is not in {}: every ADD fails", self.path),
                Some(at) if !executable(&at) => {
                    format!(
                        "plugin {name}: {} is not executable: every ADD fails",
                        at.display()
                    )
                }
                Some(_) => continue,
            };
            findings.push(Finding::error(kind.place, problem));
        }
    }

    /// As the plugins refuse it: another interface is on the subnet.
    fn subnets(&self, first: &Node, root: &Node, findings: &mut Vec<Finding>) {
        let Some(ipam) = first.get("ipam").filter(|_| routed(first)) else {
            return;
        };
        let network = text(root, "name").unwrap_or_default();
        let own = format!("pontoon {network}");
        let bridge = text(first, "bridge").unwrap_or("cni0");
        for written in ranges::subnets(&ipam.value) {
            let clash = self.routes.iter().find_map(|route| {
                let destination = Cidr::from(route.destination);
                let most = if destination.is_ipv4() { 32 } else { 128 };
                let link = self
                    .links
                    .iter()
                    .find(|link| Some(link.index) == route.interface)?;
                let alias = link.alias.as_deref().unwrap_or_default();
                let is_own =
                    link.name == bridge || alias == own || alias.starts_with(&format!("{own} "));
                let clashes = route.gateway.is_none()
                    && (1..most).contains(&destination.prefix())
                    && destination.overlaps(&written.subnet)
                    && !is_own
                    && (destination.prefix() >= written.subnet.prefix()
                        || alias.starts_with("pontoon "));
                clashes.then_some((destination, &link.name))
            });
            if let Some((destination, link)) = clash {
                findings.push(Finding::error(
                    written.node.place,
                    format!(
                        "key \"subnet\": {} clashes with {destination} on {link} of this host; choose another, or \
                         \"subnet\": \"auto\"",
                        written.subnet
                    ),
                ));
            }
        }
    }

    /// Packets larger than the uplink's are lost or cut on the way out.
    fn mtu(&self, first: &Node, findings: &mut Vec<Finding>) {
        let named =
            text(first, "master").and_then(|name| self.links.iter().find(|link| link.name == name));
        let Some(uplink) = named.or(self.uplink.as_ref()) else {
            return;
        };
        let Some(mtu) = first.get("mtu") else {
            return;
        };
        let number = mtu.value.plain().as_u64().unwrap_or_default();
        if number > u64::from(uplink.mtu) {
            let text = format!(
                "key \"mtu\": {number} is more than {} of this host has, {}: larger packets do not leave; \"auto\" takes \
                 the uplink's",
                uplink.name, uplink.mtu
            );
            findings.push(if text_is(first, "macvlan") {
                Finding::error(mtu.value.place, text)
            } else {
                Finding::warning(mtu.value.place, text)
            });
        }
    }

    /// A bridge on which another program has containers, see `sharedBridge`.
    fn bridge(&self, first: &Node, findings: &mut Vec<Finding>) {
        let local = first
            .get("ipam")
            .is_some_and(|ipam| text_is(&ipam.value, "host-local"));
        let shared = first
            .get("sharedBridge")
            .is_some_and(|shared| shared.value.is_true());
        if !text(first, "type").is_some_and(kinds::is_bridged) || !local || shared {
            return;
        }
        let named: Option<&Member> = first.get("bridge");
        let name = text(first, "bridge").unwrap_or("cni0");
        let Some(link) = self.links.iter().find(|link| link.name == name) else {
            return;
        };
        let ports: Vec<&Link> = self
            .links
            .iter()
            .filter(|port| port.master == Some(link.index))
            .collect();
        let foreign = pontoon_bridge::foreign_ports(link, &ports);
        if let Some(port) = foreign.first() {
            findings.push(Finding::error(
                named.map_or(first.place, |named| named.value.place),
                format!(
                    "key \"bridge\": {name} was not made by Pontoon and has ports of another program ({port}), whose \
                     addresses would be given out again: choose another bridge, or see \"sharedBridge\""
                ),
            ));
        }
    }
}

fn text<'n>(node: &'n Node, key: &str) -> Option<&'n str> {
    let text = node.get(key).and_then(|member| member.value.text());
    text.filter(|text| !text.is_empty())
}

fn text_is(node: &Node, kind: &str) -> bool {
    text(node, "type") == Some(kind)
}

fn executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o111 != 0)
}
