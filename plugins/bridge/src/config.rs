//! The keys of the plugin: the reference's, and Pontoon's own `snat`, `snatUnchecked` and
//! `"mtu": "auto"`.

use std::collections::HashMap;
use std::net::IpAddr;

use pontoon_conf::{ConfigError, Dns, Error, IfName, Mac, PluginType, decode, excerpt, keys};
use pontoon_ipam::delegation;
use pontoon_plugin::Context;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MacKey {
    mac: Option<String>,
}

/// The keys as they are meant.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) bridge: IfName,
    pub(crate) is_gateway: bool,
    pub(crate) is_default_gateway: bool,
    pub(crate) force_address: bool,
    pub(crate) ip_masq: bool,
    pub(crate) ip_masq_backend: Option<String>,
    pub(crate) mtu: Mtu,
    pub(crate) hairpin: bool,
    pub(crate) promisc: bool,
    pub(crate) vlan: Option<u16>,
    /// Tagged VLANs, first and last of each range.
    pub(crate) trunk: Vec<(u16, u16)>,
    pub(crate) preserve_default_vlan: bool,
    pub(crate) mac_spoof_check: bool,
    pub(crate) enable_dad: bool,
    pub(crate) disable_container_interface: bool,
    pub(crate) port_isolation: bool,
    /// The container takes router advertisements.
    pub(crate) accept_ra: bool,
    pub(crate) dns: Option<Dns>,
    pub(crate) snat: Vec<Snat>,
    pub(crate) snat_unchecked: bool,
    /// No default route and no masquerade; no published ports either.
    pub(crate) internal: bool,
    /// Addresses are given out on a bridge that has another program's containers.
    pub(crate) shared_bridge: bool,
    pub(crate) mac: Option<Mac>,
    pub(crate) ipam: Option<PluginType>,
}

/// The MTU of the bridge and of both ends of the veth pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mtu {
    /// The kernel's default.
    Default,
    /// That of the interface with the default route.
    Auto,
    Fixed(u32),
}

/// A fixed source address for traffic that leaves the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snat {
    pub(crate) source: IpAddr,
    pub(crate) out: Option<IfName>,
}

impl Config {
    /// Reads and validates everything that can be judged without the kernel.
    pub(crate) fn from_context(context: &Context) -> Result<Self, Error> {
        context
            .invocation
            .args
            .check_known(&["MAC", "IP", "GATEWAY"])?;
        let keys: keys::Bridge = context.config.keys()?;
        let bridge = keys
            .bridge
            .as_deref()
            .filter(|name| !name.is_empty())
            .unwrap_or("cni0");
        let bridge = interface("bridge", bridge)?;
        if keys.hairpin_mode && keys.promisc_mode {
            return Err(ConfigError::refused(
                "cannot set hairpin mode and promiscuous mode at the same time",
            )
            .into());
        }
        let ipam = delegation::configured(&context.config)?;
        if keys.disable_container_interface && ipam.is_some() {
            return Err(ConfigError::refused(
                "cannot use IPAM when the container interface is disabled",
            )
            .into());
        }
        if let Some(backend) = keys.ip_masq_backend.as_deref()
            && !matches!(backend, "" | "iptables" | "nftables")
        {
            return Err(
                ConfigError::unsupported("ipMasqBackend", backend, "iptables or nftables").into(),
            );
        }
        let snat = snat(&keys.snat)?;
        if keys.internal && !snat.is_empty() {
            return Err(ConfigError::refused(
                "an internal network cannot have snat: nothing leaves it",
            )
            .with_next_step("leave one of the keys \"internal\" and \"snat\" out")
            .into());
        }
        Ok(Self {
            bridge,
            is_gateway: keys.is_gateway || keys.is_default_gateway,
            is_default_gateway: keys.is_default_gateway && !keys.internal,
            force_address: keys.force_address,
            ip_masq: (keys.ip_masq || !snat.is_empty()) && !keys.internal,
            ip_masq_backend: keys.ip_masq_backend.filter(|backend| !backend.is_empty()),
            mtu: mtu(keys.mtu.as_ref())?,
            hairpin: keys.hairpin_mode,
            promisc: keys.promisc_mode,
            vlan: vlan(keys.vlan)?,
            trunk: trunk(&keys.vlan_trunk)?,
            preserve_default_vlan: keys.preserve_default_vlan,
            mac_spoof_check: keys.macspoofchk,
            enable_dad: keys.enabledad,
            disable_container_interface: keys.disable_container_interface,
            port_isolation: keys.port_isolation,
            accept_ra: keys.accept_ra,
            dns: context.config.dns.clone(),
            snat,
            snat_unchecked: keys.snat_unchecked,
            internal: keys.internal,
            shared_bridge: keys.shared_bridge,
            mac: mac(context)?,
            ipam,
        })
    }

    /// Whether ports of the bridge belong to VLANs.
    pub(crate) fn wants_vlans(&self) -> bool {
        self.vlan.is_some() || !self.trunk.is_empty()
    }
}

fn interface(key: &str, name: &str) -> Result<IfName, ConfigError> {
    IfName::try_from(name).map_err(|error| {
        ConfigError::key(
            key.to_owned(),
            format!("{:?} is no interface name", excerpt(name)),
        )
        .because(error)
    })
}

fn mtu(value: Option<&Value>) -> Result<Mtu, ConfigError> {
    let Some(value) = value else {
        return Ok(Mtu::Default);
    };
    if value.as_str() == Some("auto") {
        return Ok(Mtu::Auto);
    }
    let number = value.as_f64().filter(|number| number.fract() == 0.0);
    match number {
        Some(0.0) => Ok(Mtu::Default),
        // Bounds of a veth device: drivers/net/veth.c, ETH_MIN_MTU and ETH_MAX_MTU.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Some(number) if (68.0..=65535.0).contains(&number) => Ok(Mtu::Fixed(number as u32)),
        _ => Err(ConfigError::value("mtu", value).with_next_step(
            "it takes a number from 68 to 65535, 0 for the kernel's default, or \"auto\"",
        )),
    }
}

fn vlan_id(key: &str, id: i64, least: i64) -> Result<u16, ConfigError> {
    u16::try_from(id)
        .ok()
        .filter(|_| (least..=4094).contains(&id))
        .ok_or_else(|| {
            ConfigError::key(
                key.to_owned(),
                format!("invalid VLAN ID {id} (must be between {least} and 4094)"),
            )
        })
}

fn vlan(id: i64) -> Result<Option<u16>, ConfigError> {
    Ok(match vlan_id("vlan", id, 0)? {
        0 => None,
        id => Some(id),
    })
}

fn trunk(entries: &[keys::VlanTrunk]) -> Result<Vec<(u16, u16)>, ConfigError> {
    let mut ranges = Vec::new();
    for entry in entries {
        match (entry.min_id, entry.max_id, entry.id) {
            (Some(first), Some(last), id) => {
                let first = vlan_id("vlanTrunk.minID", first, 0)?;
                let last = vlan_id("vlanTrunk.maxID", last, 0)?;
                if first > last {
                    return Err(ConfigError::refused(
                        "minID is greater than maxID in trunk parameter",
                    ));
                }
                ranges.push((first, last));
                if let Some(id) = id {
                    let id = vlan_id("vlanTrunk.id", id, 0)?;
                    ranges.push((id, id));
                }
            }
            (None, None, Some(id)) => {
                let id = vlan_id("vlanTrunk.id", id, 0)?;
                ranges.push((id, id));
            }
            (None, None, None) => {}
            (None, Some(_), _) => {
                return Err(ConfigError::refused(
                    "minID and maxID should be configured simultaneously, minID is missing",
                ));
            }
            (Some(_), None, _) => {
                return Err(ConfigError::refused(
                    "minID and maxID should be configured simultaneously, maxID is missing",
                ));
            }
        }
    }
    // Each VLAN once: a list may be long, and the kernel is told each range.
    ranges.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    Ok(merged)
}

/// `["203.0.113.7"]` or `[{"source": "203.0.113.7", "out": "eth1"}]`. One per family without
/// `out`, and one per family and interface with it: a second could never be reached.
/// Entries of `snat`: each is a rule that every packet out of the network meets.
const MOST_SOURCES: usize = 1024;

fn snat(values: &[Value]) -> Result<Vec<Snat>, ConfigError> {
    if values.len() > MOST_SOURCES {
        return Err(ConfigError::key(
            "snat",
            format!("{} sources, where {MOST_SOURCES} are allowed", values.len()),
        )
        .with_next_step("give one source per family, or one per family and outgoing interface"));
    }
    let mut entries: Vec<Snat> = Vec::new();
    let mut twins: HashMap<(Option<IfName>, bool), IpAddr> = HashMap::new();
    for (position, value) in values.iter().enumerate() {
        let key = format!("snat[{position}]");
        let keys = match value {
            Value::String(source) => keys::Snat {
                source: source.clone(),
                out: None,
            },
            other => decode(other)
                .map_err(|error| ConfigError::key(key.clone(), &error).quoting(error))?,
        };
        let source: IpAddr = pontoon_conf::address(&keys.source).map_err(|error| {
            ConfigError::key(
                key.clone(),
                format!("{:?} is no IP address", excerpt(&keys.source)),
            )
            .quoting(error)
            .with_next_step("an address without prefix length, such as 198.51.100.7")
        })?;
        if source.is_unspecified() || source.is_multicast() || source.is_loopback() {
            return Err(ConfigError::key(
                key.clone(),
                format!("{source} cannot be a source address"),
            ));
        }
        let out = match keys.out.as_deref().filter(|out| !out.is_empty()) {
            Some(name) => Some(interface(&format!("{key}.out"), name)?),
            None => None,
        };
        if let Some(twin) = twins.insert((out.clone(), source.is_ipv4()), source) {
            return Err(ConfigError::key(
                key.clone(),
                format!("{source} can never be used beside {twin}"),
            )
            .with_next_step(
                "give one source per family, or one per family and outgoing interface",
            ));
        }
        entries.push(Snat { source, out });
    }
    // What names an interface is asked first.
    entries.sort_by_key(|entry| entry.out.is_none());
    Ok(entries)
}

/// `CNI_ARGS` `MAC`, then `args.cni.mac`, then `runtimeConfig.mac`: the last one wins.
fn mac(context: &Context) -> Result<Option<Mac>, Error> {
    let from_args: MacKey = context.config.args_cni()?;
    let from_runtime: MacKey = context.config.runtime()?;
    let text = from_runtime
        .mac
        .filter(|mac| !mac.is_empty())
        .or(from_args.mac.filter(|mac| !mac.is_empty()))
        .or(context.invocation.args.get("MAC").map(str::to_owned));
    let Some(text) = text.filter(|mac| !mac.is_empty()) else {
        return Ok(None);
    };
    let mac = text.parse::<Mac>().map_err(|error| {
        ConfigError::refused(format!("MAC address {:?} is malformed", excerpt(&text)))
            .because(error)
    })?;
    Ok(Some(mac))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check_mtu(value: Value, expected: Option<Mtu>) {
        assert_eq!(mtu(Some(&value)).ok(), expected, "{value}");
    }

    #[test]
    fn mtu_is_a_number_or_auto() {
        check_mtu(json!("auto"), Some(Mtu::Auto));
        check_mtu(json!(0), Some(Mtu::Default));
        check_mtu(json!(1450), Some(Mtu::Fixed(1450)));
        check_mtu(json!(1450.0), Some(Mtu::Fixed(1450)));
        check_mtu(json!(67), None);
        check_mtu(json!(70000), None);
        check_mtu(json!(-1), None);
        check_mtu(json!("1500"), None);
        assert_eq!(mtu(None).unwrap(), Mtu::Default);
    }

    #[test]
    fn a_vlan_out_of_range_is_told_by_its_key() {
        for (entry, key) in [
            (json!([{ "minID": 5000, "maxID": 5001 }]), "vlanTrunk.minID"),
            (json!([{ "minID": 1, "maxID": 5001 }]), "vlanTrunk.maxID"),
            (json!([{ "id": 5000 }]), "vlanTrunk.id"),
        ] {
            let entries: Vec<keys::VlanTrunk> = serde_json::from_value(entry).unwrap();
            let error = trunk(&entries).unwrap_err();
            let told = format!("key \"{key}\": invalid VLAN ID");
            assert!(error.to_string().starts_with(&told), "{error}");
        }
    }

    #[track_caller]
    fn check_snat(value: Value, expected: Result<&[(&str, Option<&str>)], &str>) {
        let values: Vec<Value> = serde_json::from_value(value).unwrap();
        match (snat(&values), expected) {
            (Ok(got), Ok(expected)) => {
                let got: Vec<_> = got
                    .iter()
                    .map(|entry| {
                        (
                            entry.source.to_string(),
                            entry.out.as_ref().map(|out| out.to_string()),
                        )
                    })
                    .collect();
                let expected: Vec<_> = expected
                    .iter()
                    .map(|(source, out)| ((*source).to_owned(), out.map(str::to_owned)))
                    .collect();
                assert_eq!(got, expected);
            }
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{error}");
            }
            (got, expected) => panic!("{got:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn snat_sources() {
        check_snat(json!(["198.51.100.7"]), Ok(&[("198.51.100.7", None)]));
        check_snat(
            json!(["198.51.100.7", {"source": "198.51.100.8", "out": "eth1"}, "2001:db8::7"]),
            Ok(&[
                ("198.51.100.8", Some("eth1")),
                ("198.51.100.7", None),
                ("2001:db8::7", None),
            ]),
        );
        check_snat(
            json!(["::ffff:198.51.100.7"]),
            Ok(&[("198.51.100.7", None)]),
        );
        check_snat(json!(["198.51.100.7/24"]), Err("198.51.100.7/24"));
        check_snat(json!(["198.51.100.7", "198.51.100.8"]), Err("198.51.100.8"));
        check_snat(
            json!([{"source": "198.51.100.7", "out": "../../x"}]),
            Err("snat[0].out"),
        );
        check_snat(json!(["0.0.0.0"]), Err("cannot be a source"));
        check_snat(json!([7]), Err("snat[0]"));
    }

    #[track_caller]
    fn check_trunk(value: Value, expected: Option<&[(u16, u16)]>) {
        let entries: Vec<keys::VlanTrunk> = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(trunk(&entries).ok().as_deref(), expected, "{value}");
    }

    #[test]
    fn vlan_trunks() {
        check_trunk(
            json!([{"id": 42}, {"minID": 100, "maxID": 105}]),
            Some(&[(42, 42), (100, 105)]),
        );
        check_trunk(json!([{"minID": 100}]), None);
        check_trunk(json!([{"maxID": 100}]), None);
        check_trunk(json!([{"minID": 9, "maxID": 8}]), None);
        check_trunk(json!([{"id": 4095}]), None);
        assert_eq!(vlan(0).unwrap(), None);
        assert_eq!(vlan(4094).unwrap(), Some(4094));
        assert!(vlan(4095).is_err());
        assert!(vlan(-1).is_err());
    }
}
