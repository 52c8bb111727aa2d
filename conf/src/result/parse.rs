//! Results of every version, read.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;

use super::error::ResultError;
use super::{
    AddResult, Dns, Interface, IpConfig, Route, address_or_none, blank_is_none, refuse_excess,
    zero_is_none,
};
use crate::{
    Cidr, Error, IfName, Version,
    decode::{decode, field},
};

/// Every version's keys at once: no two versions give one key different meanings, so a result that
/// wears another version's clothes is understood as well.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Wire {
    /// 0.1.0 and 0.2.0.
    ip4: Option<Family>,
    ip6: Option<Family>,
    interfaces: Vec<WireInterface>,
    ips: Vec<WireIp>,
    /// What the text of 0.3.0 called `ips` by a slip.
    ip: Vec<WireIp>,
    routes: Vec<Route>,
    dns: Dns,
}

#[derive(Deserialize)]
struct Family {
    ip: Cidr,
    #[serde(default, deserialize_with = "address_or_none")]
    gateway: Option<IpAddr>,
    #[serde(default)]
    routes: Vec<Route>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireInterface {
    name: String,
    #[serde(deserialize_with = "blank_is_none")]
    mac: Option<String>,
    #[serde(deserialize_with = "zero_is_none")]
    mtu: Option<u32>,
    #[serde(deserialize_with = "blank_is_none")]
    sandbox: Option<String>,
    #[serde(rename = "socketPath", deserialize_with = "blank_is_none")]
    socket_path: Option<String>,
    #[serde(rename = "pciID", deserialize_with = "blank_is_none")]
    pci_id: Option<String>,
}

/// `version` is not read: the address tells its family itself.
#[derive(Deserialize)]
struct WireIp {
    #[serde(default)]
    interface: Option<i64>,
    address: Cidr,
    #[serde(default, deserialize_with = "address_or_none")]
    gateway: Option<IpAddr>,
}

pub(super) fn attached(value: &Value, fallback: Version) -> Result<AddResult, Error> {
    let Some(object) = value.as_object() else {
        return Err(ResultError::NotObject.into());
    };
    version(field(object, "cniVersion"), fallback)?;
    // Before anything is read of a list that is too long.
    let count = |key| {
        field(object, key)
            .and_then(Value::as_array)
            .map_or(0, Vec::len)
    };
    refuse_excess(count("ips").max(count("ip")), count("interfaces"))?;
    let wire: Wire = decode(value).map_err(ResultError::Malformed)?;

    let mut attached = AddResult {
        interfaces: wire
            .interfaces
            .into_iter()
            .map(interface)
            .collect::<Result<_, _>>()?,
        ips: wire.ips.into_iter().chain(wire.ip).map(ip).collect(),
        routes: wire.routes,
        dns: wire.dns,
    };
    for family in [wire.ip4, wire.ip6].into_iter().flatten() {
        attached.ips.push(IpConfig {
            interface: None,
            address: family.ip,
            gateway: family.gateway,
        });
        attached.routes.extend(family.routes);
    }
    attached.refuse_excess()?;
    Ok(attached)
}

/// The version the result names; a version from the future may mean something else by its keys.
fn version(named: Option<&Value>, fallback: Version) -> Result<Version, Error> {
    let Some(named) = named else {
        return Ok(fallback);
    };
    let text = named.as_str().unwrap_or_default();
    if text.is_empty() && named.is_string() {
        return Ok(fallback);
    }
    text.parse().map_err(|_| {
        let named = named.clone();
        ResultError::Version { named }.into()
    })
}

/// A name is looked up in the kernel: it is held to what an interface can be called. An interface of
/// a userspace network may have none.
fn interface(wire: WireInterface) -> Result<Interface, Error> {
    if !wire.name.is_empty()
        && let Err(source) = wire.name.parse::<IfName>()
    {
        return Err(ResultError::Interface(source).into());
    }
    Ok(Interface {
        name: wire.name,
        mac: wire.mac,
        mtu: wire.mtu,
        sandbox: wire.sandbox,
        socket_path: wire.socket_path,
        pci_id: wire.pci_id,
    })
}

fn ip(wire: WireIp) -> IpConfig {
    IpConfig {
        // Plugins of 0.3.0's days wrote -1 for "no interface".
        interface: wire.interface.and_then(|index| usize::try_from(index).ok()),
        address: wire.address,
        gateway: wire.gateway,
    }
}
