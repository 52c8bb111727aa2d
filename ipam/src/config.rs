//! The keys of host-local, read and checked.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use pontoon_conf::{
    ConfigError, Error, Invocation, NetworkConfig, Route, Version, excerpt, keys,
    keys::AddressRange,
};
use serde::Deserialize;

use crate::allocator::Pool;
use crate::exclude::Exclusions;
use crate::range::{self, RangeSet};
use crate::span::Family;

/// Where the reference keeps leases when `dataDir` says nothing.
const DATA_DIR: &str = "/var/lib/cni/networks";
/// Docker's first network, used when nothing is said about addresses.
const DEFAULT_SUBNET: &str = "172.17.0.0/16";
/// The `subnet` that is chosen for the network.
const AUTO: &str = "auto";
/// Addresses of one attachment, a range set for each.
const MOST_SETS: usize = 256;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DataDir {
    data_dir: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Runtime {
    ip_ranges: Vec<Vec<AddressRange>>,
    ips: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CniArgs {
    ips: Vec<String>,
}

/// What ADD and STATUS need to know.
#[derive(Debug)]
pub(crate) struct Settings {
    version: Version,
    sets: Vec<Vec<AddressRange>>,
    exclude: Exclusions,
    pub(crate) routes: Vec<Route>,
    pub(crate) resolv_conf: Option<PathBuf>,
    /// Addresses asked for by name, each once.
    pub(crate) requested: Vec<IpAddr>,
    pub(crate) data_dir: PathBuf,
}

/// The lease directory of the network; all that DEL needs to know, so that it
/// goes on when the rest of the configuration is broken.
pub(crate) fn lease_folder(config: &NetworkConfig) -> Result<PathBuf, Error> {
    let keys: DataDir = config.ipam_keys()?;
    Ok(data_dir(&keys.data_dir).join(config.name.as_str()))
}

fn data_dir(written: &str) -> &Path {
    Path::new(if written.is_empty() {
        DATA_DIR
    } else {
        written
    })
}

impl Settings {
    pub(crate) fn read(invocation: &Invocation, config: &NetworkConfig) -> Result<Settings, Error> {
        let mut settings = Settings::of_network(config)?;
        let runtime: Runtime = config.runtime()?;
        let args: CniArgs = config.args_cni()?;
        settings.requested = requested(invocation, &args.ips, &runtime.ips)?;
        Ok(settings)
    }

    /// Without the addresses that an attachment asks for.
    pub(crate) fn of_network(config: &NetworkConfig) -> Result<Settings, Error> {
        if config.ipam().is_none() {
            return Err(ConfigError::refused("IPAM config missing 'ipam' key").into());
        }
        let keys: keys::HostLocal = config.ipam_keys()?;
        let runtime: Runtime = config.runtime()?;
        let exclude = Exclusions::parse(&keys.exclude).map_err(|error| {
            ConfigError::refused(error.to_string())
                .quoting(error)
                .with_next_step("correct the entry in \"exclude\" of the network's ipam section")
        })?;
        let data_dir = data_dir(&keys.data_dir).to_owned();
        let resolv_conf = (!keys.resolv_conf.is_empty()).then(|| PathBuf::from(&keys.resolv_conf));
        Ok(Settings {
            version: config.version,
            routes: keys.routes.clone(),
            sets: effective(keys, runtime.ip_ranges)?,
            exclude,
            resolv_conf,
            requested: Vec::new(),
            data_dir,
        })
    }

    /// Whether a subnet has to be chosen for the network.
    pub(crate) fn is_auto(&self) -> bool {
        self.sets.iter().flatten().any(is_auto)
    }

    /// The pool, with the chosen subnet in the place of `auto`.
    pub(crate) fn pool(&self, chosen: Option<&str>) -> Result<Pool, ConfigError> {
        let mut sets = Vec::new();
        for (number, texts) in self.sets.iter().enumerate() {
            let set = match texts.iter().any(is_auto) {
                false => RangeSet::parse(texts),
                true => {
                    let mut texts = texts.clone();
                    for text in texts.iter_mut().filter(|text| is_auto(text)) {
                        text.subnet = chosen.map(str::to_owned);
                    }
                    RangeSet::parse(&texts)
                }
            };
            let set = set.map_err(|error| {
                ConfigError::refused(format!("invalid range set {number}: {error}")).quoting(error)
            })?;
            sets.push(set);
        }
        self.one_address_per_family(&sets)?;
        let all: Vec<&RangeSet> = sets.iter().collect();
        if let Some((i, j)) = range::first_overlap(&all) {
            return Err(ConfigError::refused(format!(
                "range set {i} overlaps with {j}"
            )));
        }
        Ok(Pool::new(sets, self.exclude.clone()))
    }

    /// Results before 0.3.0 have room for one address of each family.
    fn one_address_per_family(&self, sets: &[RangeSet]) -> Result<(), ConfigError> {
        let count = |family| sets.iter().filter(|set| set.family() == family).count();
        if self.version >= Version::V0_3_0 || (count(Family::V4) <= 1 && count(Family::V6) <= 1) {
            return Ok(());
        }
        Err(ConfigError::refused(format!(
            "CNI version {} does not support more than 1 address per family",
            self.version
        )))
    }
}

fn is_auto(text: &AddressRange) -> bool {
    text.subnet.as_deref() == Some(AUTO)
}

/// The range sets in the order that numbers them: those of the runtime, the
/// one in the old flat form, those of `ranges`.
fn effective(
    keys: keys::HostLocal,
    ip_ranges: Vec<Vec<AddressRange>>,
) -> Result<Vec<Vec<AddressRange>>, ConfigError> {
    let mut flat = AddressRange {
        subnet: keys.subnet.filter(|subnet| !subnet.is_empty()),
        range_start: keys.range_start,
        range_end: keys.range_end,
        gateway: keys.gateway,
    };
    if flat.subnet.is_none() && ip_ranges.is_empty() && keys.ranges.is_empty() {
        flat.subnet = Some(DEFAULT_SUBNET.to_owned());
    }
    let flat = flat.subnet.is_some().then(|| vec![flat]);
    let sets: Vec<_> = ip_ranges
        .into_iter()
        .chain(flat)
        .chain(keys.ranges)
        .collect();
    if sets.len() > MOST_SETS {
        return Err(ConfigError::refused(format!(
            "{} range sets are more than {MOST_SETS}",
            sets.len()
        ))
        .with_next_step(
            "an attachment gets one address of each set: write ranges that serve one address as one set",
        ));
    }
    let autos: Vec<_> = sets.iter().flatten().filter(|text| is_auto(text)).collect();
    if autos.len() > 1 {
        return Err(
            ConfigError::refused("\"subnet\": \"auto\" stands more than once")
                .with_next_step("one subnet is chosen for a network; write the others out"),
        );
    }
    if autos.iter().any(|text| {
        text.range_start.is_some() || text.range_end.is_some() || text.gateway.is_some()
    }) {
        return Err(ConfigError::refused(
            "\"subnet\": \"auto\" cannot go with rangeStart, rangeEnd or gateway",
        )
        .with_next_step("leave these out, or write the subnet out"));
    }
    Ok(sets)
}

/// `IP` in CNI_ARGS, then `args.cni.ips`, then the runtime's `ips`; with or
/// without a prefix length.
fn requested(
    invocation: &Invocation,
    args: &[String],
    runtime: &[String],
) -> Result<Vec<IpAddr>, Error> {
    // MAC is for the plugin that called us with its own environment.
    invocation.args.check_known(&["IP", "MAC"])?;
    let environment = invocation.args.get("IP").unwrap_or_default();
    let (mut found, mut known) = (Vec::new(), HashSet::new());
    let all = environment
        .split(',')
        .filter(|text| !text.trim().is_empty())
        .map(|text| (text, "IP in CNI_ARGS"))
        .chain(args.iter().map(|text| (text.as_str(), "args.cni.ips")))
        .chain(runtime.iter().map(|text| (text.as_str(), "capability ips")));
    for (text, source) in all {
        let address = match text.contains('/') {
            true => range::parse_mapped_network(text.trim()).map(|(address, _)| address),
            false => range::parse_address(text.trim()),
        }
        .map_err(|error| {
            let shown = excerpt(text);
            ConfigError::refused(format!(
                "cannot understand the requested ip {shown:?} ({source}): {error}"
            ))
            .quoting(error)
        })?;
        if known.insert(address) {
            found.push(address);
        }
    }
    Ok(found)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
