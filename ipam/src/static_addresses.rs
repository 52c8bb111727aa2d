//! The verbs of static: the addresses stand in the configuration, or come from the runtime. Keeps
//! nothing on this host.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use pontoon_conf::{
    AddResult, Cidr, ConfigError, Error, Invocation, IpConfig, NetworkConfig, Version, excerpt,
    keys,
};
use serde::Deserialize;

use crate::error::CheckError;

/// `args.cni` and `runtimeConfig` have the same key.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ips {
    ips: Vec<String>,
}

/// `source` says where the text stands.
fn parse(text: &str, source: &str) -> Result<Cidr, ConfigError> {
    text.trim()
        .parse()
        .map_err(|error: pontoon_conf::CidrError| {
            let shown = excerpt(text);
            ConfigError::refused(format!("{source}: invalid CIDR {shown}: {error}"))
                .quoting(error)
                .with_next_step("write the address with the prefix length of its subnet")
        })
}

fn bare(address: Cidr) -> IpConfig {
    IpConfig {
        interface: None,
        address,
        gateway: None,
    }
}

/// What ADD answers: the list of the configuration and `IP` in `CNI_ARGS`, unless `args.cni.ips`
/// or, before these, the runtime's `ips` take its place.
fn settings(invocation: &Invocation, config: &NetworkConfig) -> Result<AddResult, Error> {
    if config.ipam().is_none() {
        return Err(ConfigError::refused("IPAM config missing 'ipam' key").into());
    }
    // MAC is for the plugin that called us with its own environment.
    invocation.args.check_known(&["IP", "GATEWAY", "MAC"])?;
    let keys: keys::Static = config.ipam_keys()?;
    let args: Ips = config.args_cni()?;
    let runtime: Ips = config.runtime()?;
    let mut ips = Vec::new();
    for (number, entry) in keys.addresses.iter().enumerate() {
        let address = parse(&entry.address, &format!("ipam.addresses[{number}].address"))?;
        if let Some(gateway) = entry.gateway
            && gateway.is_ipv4() != address.is_ipv4()
        {
            return Err(ConfigError::refused(format!(
                "ipam.addresses[{number}].gateway: gateway {gateway} is of another family than address {address}"
            ))
            .with_next_step("give each address a gateway of its own family, or none")
            .into());
        }
        ips.push(IpConfig {
            gateway: entry.gateway,
            ..bare(address)
        });
    }
    let list = |key| {
        let value = invocation.args.get(key).unwrap_or_default();
        value
            .split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty())
    };
    for text in list("IP") {
        ips.push(bare(parse(text, "IP in CNI_ARGS")?));
    }
    let mut gateways = Vec::new();
    for text in list("GATEWAY") {
        let gateway: IpAddr = pontoon_conf::address(text).map_err(|error| {
            let shown = excerpt(text);
            ConfigError::refused(format!(
                "GATEWAY in CNI_ARGS: invalid gateway address: {shown}"
            ))
            .quoting(error)
        })?;
        gateways.push(gateway);
    }
    give_gateways(&mut ips, &gateways);
    for (asked, source) in [
        (&args.ips, "args.cni.ips"),
        (&runtime.ips, "capability ips (runtimeConfig.ips)"),
    ] {
        if !asked.is_empty() {
            ips = asked
                .iter()
                .map(|text| parse(text, source).map(bare))
                .collect::<Result<_, _>>()?;
        }
    }
    let of_family = |v4| ips.iter().filter(|ip| ip.address.is_ipv4() == v4).count();
    if config.version < Version::V0_3_0 && (of_family(true) > 1 || of_family(false) > 1) {
        return Err(ConfigError::refused(format!(
            "CNI version {} does not support more than 1 address per family",
            config.version
        ))
        .into());
    }
    let attached = AddResult {
        interfaces: Vec::new(),
        ips,
        routes: keys.routes,
        dns: keys.dns,
    };
    attached.refuse_excess()?;
    Ok(attached)
}

/// Gives each address the last gateway that its subnet holds, if one does. Subnets are looked up, so
/// that many addresses and many gateways cost no more than their sum.
fn give_gateways(ips: &mut [IpConfig], gateways: &[IpAddr]) {
    let mut subnets: HashMap<Cidr, Vec<usize>> = HashMap::new();
    let mut lengths = BTreeSet::new();
    for (number, ip) in ips.iter().enumerate().filter(|_| !gateways.is_empty()) {
        lengths.insert(ip.address.prefix());
        let subnet = ip.address.network();
        subnets.entry(subnet).or_default().push(number);
    }
    let mut found: HashMap<Cidr, IpAddr> = HashMap::new();
    for gateway in gateways {
        let of_length = |length: &u8| Cidr::new(*gateway, *length).ok();
        let nets = lengths.iter().filter_map(of_length);
        found.extend(nets.map(|net| (net.network(), *gateway)));
    }
    for (subnet, numbers) in &subnets {
        if let Some(gateway) = found.get(subnet) {
            for number in numbers {
                ips[*number].gateway = Some(*gateway);
            }
        }
    }
}

/// The addresses.
///
/// # Errors
/// Code 7 when one cannot be understood; code 4 for `CNI_ARGS` that no plugin knows.
pub fn add(invocation: &Invocation, config: &NetworkConfig) -> Result<AddResult, Error> {
    settings(invocation, config)
}

/// Fails unless the previous result has every address.
///
/// # Errors
/// Code 104 with the missing address; code 7 without a previous result.
pub fn check(invocation: &Invocation, config: &NetworkConfig) -> Result<(), Error> {
    let previous = config
        .prev_result
        .as_ref()
        .ok_or_else(|| ConfigError::refused("Required prevResult missing"))?;
    let wanted = settings(invocation, config)?;
    let (container, _) = invocation.attachment()?;
    let got: HashSet<Cidr> = previous.ips.iter().map(|got| got.address).collect();
    for ip in &wanted.ips {
        if !got.contains(&ip.address) {
            return Err(CheckError::NotInResult {
                container: container.clone(),
                address: ip.address,
            }
            .into());
        }
    }
    Ok(())
}

/// Fails when the configuration is wrong.
///
/// # Errors
/// As [`add`].
pub fn status(invocation: &Invocation, config: &NetworkConfig) -> Result<(), Error> {
    settings(invocation, config).map(drop)
}

#[cfg(test)]
#[path = "static_addresses_tests.rs"]
mod tests;
