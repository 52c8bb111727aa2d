//! Results of every version, written. The order of keys is that of the reference plugins.

use std::net::IpAddr;

use serde::Serialize;

use super::error::ResultError;
use super::{AddResult, Dns, Interface, IpConfig, Route};
use crate::{Cidr, Error, Version, error::pretty};

pub(super) fn attached(attached: &AddResult, version: Version) -> Result<String, Error> {
    if version <= Version::V0_2_0 {
        return by_family(attached, version);
    }
    // 1.1.0 brought attributes that older readers need not understand.
    let attributes = version >= Version::V1_1_0;
    Ok(pretty(&List {
        cni_version: version,
        interfaces: attached
            .interfaces
            .iter()
            .map(|interface| ListInterface::new(interface, attributes))
            .collect(),
        ips: attached
            .ips
            .iter()
            .map(|ip| ListIp::new(ip, version < Version::V1_0_0))
            .collect(),
        // The reference plugins print a route's attributes in these versions too: an address plugin's
        // `priority`, `table` and `mtu` come to a main plugin of theirs by no other way.
        routes: &attached.routes,
        // Before 1.0.0 the reference plugins always print it.
        dns: Some(&attached.dns).filter(|dns| version < Version::V1_0_0 || !dns.is_empty()),
    }))
}

/// 0.3.0 to 1.1.0.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    cni_version: Version,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    interfaces: Vec<ListInterface<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ips: Vec<ListIp<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    routes: &'a [Route],
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<&'a Dns>,
}

#[derive(Serialize)]
struct ListInterface<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox: Option<&'a str>,
    #[serde(rename = "socketPath", skip_serializing_if = "Option::is_none")]
    socket_path: Option<&'a str>,
    #[serde(rename = "pciID", skip_serializing_if = "Option::is_none")]
    pci_id: Option<&'a str>,
}

impl<'a> ListInterface<'a> {
    fn new(interface: &'a Interface, attributes: bool) -> ListInterface<'a> {
        ListInterface {
            name: &interface.name,
            mac: interface.mac.as_deref(),
            mtu: interface.mtu.filter(|_| attributes),
            sandbox: interface.sandbox.as_deref(),
            socket_path: interface.socket_path.as_deref().filter(|_| attributes),
            pci_id: interface.pci_id.as_deref().filter(|_| attributes),
        }
    }
}

#[derive(Serialize)]
struct ListIp<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<usize>,
    address: &'a Cidr,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
}

impl<'a> ListIp<'a> {
    fn new(ip: &'a IpConfig, with_version: bool) -> ListIp<'a> {
        let version = if ip.address.is_ipv4() { "4" } else { "6" };
        ListIp {
            version: with_version.then_some(version),
            interface: ip.interface,
            address: &ip.address,
            gateway: ip.gateway,
        }
    }
}

fn bare(route: &Route) -> Route {
    Route {
        gw: route.gw,
        ..Route::to(route.dst)
    }
}

/// 0.1.0 and 0.2.0: one address of each family, with the routes of that family.
fn by_family(attached: &AddResult, version: Version) -> Result<String, Error> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ByFamily<'a> {
        cni_version: Version,
        #[serde(skip_serializing_if = "Option::is_none")]
        ip4: Option<Family<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        ip6: Option<Family<'a>>,
        dns: &'a Dns,
    }
    let ip4 = Family::of(attached, true);
    let ip6 = Family::of(attached, false);
    if ip4.is_none() && ip6.is_none() {
        return Err(ResultError::NoAddress { version }.into());
    }
    Ok(pretty(&ByFamily {
        cni_version: version,
        ip4,
        ip6,
        dns: &attached.dns,
    }))
}

#[derive(Serialize)]
struct Family<'a> {
    ip: &'a Cidr,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
}

impl<'a> Family<'a> {
    /// The first address of the family; there is no place for more.
    fn of(attached: &'a AddResult, ipv4: bool) -> Option<Family<'a>> {
        let first = attached
            .ips
            .iter()
            .find(|ip| ip.address.is_ipv4() == ipv4)?;
        let routes = attached.routes.iter();
        Some(Family {
            ip: &first.address,
            gateway: first.gateway,
            routes: routes
                .filter(|route| route.dst.is_ipv4() == ipv4)
                .map(bare)
                .collect(),
        })
    }
}
