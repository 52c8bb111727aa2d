//! The keys of the plugin, and the configuration that `bridge` gets from it.

use pontoon_conf::{Cidr, Error, Route, keys};
use pontoon_ledger::overlay::{OverlayMode, OverlayNetwork};
use pontoon_plugin::Context;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::error::ConfigError;

/// Keys of `ipam` that say where addresses come from.
const OF_RANGES: [&str; 6] = [
    "ranges",
    "subnet",
    "rangeStart",
    "rangeEnd",
    "gateway",
    "addresses",
];

/// The keys of bridge that matter here, too.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OfBridge {
    internal: bool,
    disable_container_interface: bool,
}

/// The keys as they are meant.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) vni: Option<i64>,
    pub(crate) mode: Option<OverlayMode>,
    /// Containers get what fits into the tunnel.
    pub(crate) auto_mtu: bool,
    internal: bool,
}

impl Config {
    /// Reads and validates everything that can be judged without the network's file. `bridge` judges its own keys.
    pub(crate) fn from_context(context: &Context) -> Result<Self, Error> {
        let keys: keys::Overlay = context.config.keys()?;
        let bridge: OfBridge = context.config.keys()?;
        let mode = match keys.mode.as_deref().unwrap_or_default() {
            "" => None,
            "vxlan" => Some(OverlayMode::Vxlan),
            "direct" => Some(OverlayMode::Direct),
            "auto" => Some(OverlayMode::Auto),
            other => {
                return Err(ConfigError::Mode {
                    mode: other.to_owned(),
                }
                .into());
            }
        };
        if let Some(vni) = keys.vni.filter(|vni| !(1..=0xff_ffff).contains(vni)) {
            return Err(ConfigError::Vni { vni }.into());
        }
        if bridge.disable_container_interface {
            return Err(ConfigError::WithoutInterface.into());
        }
        let ipam = context.config.ipam();
        let ipam = ipam.into_iter().flatten();
        for (key, value) in ipam.filter(|(_, value)| !value.is_null()) {
            let is = |name: &str| key.eq_ignore_ascii_case(name);
            if is("type") && value != "host-local" && value != "" {
                return Err(ConfigError::Ipam {
                    plugin: value.to_string(),
                }
                .into());
            }
            if OF_RANGES.into_iter().any(is) {
                return Err(ConfigError::Ranges { key: key.clone() }.into());
            }
        }
        Ok(Self {
            vni: keys.vni,
            mode,
            auto_mtu: keys.mtu.as_ref().is_none_or(|mtu| mtu == "auto"),
            internal: bridge.internal,
        })
    }

    /// The configuration that `bridge` gets: this host's blocks as ranges, and routes to the whole network.
    pub(crate) fn for_bridge(
        &self,
        context: &Context,
        network: &OverlayNetwork,
        mtu: Option<u32>,
    ) -> Context {
        let family = |v4: bool| {
            let blocks: Vec<Value> = network
                .blocks_of(v4)
                .map(|block| json!({ "subnet": block, "gateway": block.first_host() }))
                .collect();
            (!blocks.is_empty()).then_some(Value::Array(blocks))
        };
        let ranges: Vec<Value> = [true, false].into_iter().filter_map(family).collect();
        let mut routes: Vec<Value> = self.routes(context, network);
        let whole = network.subnets.iter().map(|it| it.subnet.network());
        let wanted = whole.filter(|it| network.blocks_of(it.is_ipv4()).next().is_some());
        routes.extend(wanted.map(|subnet| json!(Route::to(subnet))));
        let mut ipam = ipam(context);
        ipam.insert("ranges".to_owned(), Value::Array(ranges));
        ipam.insert("routes".to_owned(), Value::Array(routes));
        let mut keys = vec![("ipam", Value::Object(ipam))];
        keys.push(("isGateway", json!(true)));
        if self.auto_mtu {
            keys.push(("mtu", mtu.map_or(Value::Null, |mtu| json!(mtu))));
        }
        replaced(context, keys)
    }

    /// The routes of the configuration; default routes where it says nothing and the network has a way out.
    fn routes(&self, context: &Context, network: &OverlayNetwork) -> Vec<Value> {
        let written = context.config.ipam().and_then(|ipam| {
            ipam.iter()
                .find(|(key, _)| key.eq_ignore_ascii_case("routes"))
        });
        if let Some((_, Value::Array(routes))) = written {
            return routes.clone();
        }
        if self.internal {
            return Vec::new();
        }
        let families = [(true, "0.0.0.0/0"), (false, "::/0")].into_iter();
        families
            .filter(|(v4, _)| network.blocks_of(*v4).next().is_some())
            .filter_map(|(_, all)| all.parse::<Cidr>().ok())
            .map(|all| json!(Route::to(all)))
            .collect()
    }
}

/// `ipam` as it is written, less what says where addresses come from.
fn ipam(context: &Context) -> Map<String, Value> {
    let mut ipam = context.config.ipam().cloned().unwrap_or_default();
    ipam.retain(|key, _| {
        let is = |name: &&str| key.eq_ignore_ascii_case(name);
        !is(&"type") && !is(&"routes") && !OF_RANGES.iter().any(is)
    });
    ipam.insert("type".to_owned(), json!("host-local"));
    ipam
}

/// The configuration that `bridge` needs to remove things, and to judge its keys: without the network's file.
pub(crate) fn for_removal(context: &Context) -> Context {
    let mut keys = vec![("ipam", Value::Object(ipam(context)))];
    keys.push(("isGateway", json!(true)));
    replaced(context, keys)
}

fn replaced(context: &Context, keys: Vec<(&str, Value)>) -> Context {
    let mut config = context.config.clone();
    if let Value::Object(object) = &mut config.raw {
        for (key, value) in keys {
            object.retain(|written, _| !written.eq_ignore_ascii_case(key));
            object.insert(key.to_owned(), value);
        }
    }
    context.with_config(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(keys: Value) -> Context {
        let mut config = json!({ "cniVersion": "1.1.0", "name": "lan", "type": "overlay" });
        if let (Value::Object(config), Value::Object(keys)) = (&mut config, keys) {
            config.extend(keys);
        }
        Context::to_judge(config.to_string().as_bytes()).unwrap()
    }

    fn network(blocks: &[&str]) -> OverlayNetwork {
        let blocks: Vec<Value> = blocks.iter().map(|it| json!(it)).collect();
        serde_json::from_value(json!({
            "network": "lan", "vni": 5, "host": "h1", "underlay": { "v4": "198.18.60.1" }, "blocks": blocks,
            "subnets": [
                { "subnet": "10.5.0.0/16", "block_prefix": 24 }, { "subnet": "fd05::/48", "block_prefix": 64 },
            ],
        }))
        .unwrap()
    }

    #[track_caller]
    fn refused(keys: Value, part: &str) {
        let error = Config::from_context(&context(keys)).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }

    #[test]
    fn keys_that_cannot_be_are_refused() {
        refused(json!({ "mode": "geneve" }), "key \"mode\"");
        refused(json!({ "vni": 0 }), "key \"vni\"");
        refused(json!({ "vni": 16_777_216 }), "key \"vni\"");
        refused(json!({ "ipam": { "type": "static" } }), "static");
        refused(json!({ "ipam": { "Ranges": [] } }), "Ranges");
        refused(
            json!({ "ipam": { "type": "host-local", "subnet": "10.1.0.0/24" } }),
            "subnet",
        );
        refused(
            json!({ "disableContainerInterface": true }),
            "disableContainerInterface",
        );
        for fine in [
            json!({}),
            json!({ "mode": "auto", "vni": 5, "ipam": { "dataDir": "/x" } }),
        ] {
            Config::from_context(&context(fine)).unwrap();
        }
    }

    #[track_caller]
    fn ipam_of(keys: Value, blocks: &[&str], expected: Value) {
        let context = context(keys);
        let config = Config::from_context(&context).unwrap();
        let made = config.for_bridge(&context, &network(blocks), Some(1450));
        let mut ipam = made.config.ipam().unwrap().clone();
        let own: Vec<(String, Value)> = expected.as_object().unwrap().clone().into_iter().collect();
        for (key, value) in own {
            assert_eq!(ipam.remove(&key), Some(value), "{key}");
        }
        assert_eq!(made.config.raw["isGateway"], json!(true));
    }

    #[test]
    fn blocks_become_ranges_and_the_network_a_route() {
        ipam_of(
            json!({}),
            &["10.5.1.0/24", "fd05:0:0:1::/64", "10.5.9.0/24"],
            json!({
                "type": "host-local",
                "ranges": [
                    [
                        { "subnet": "10.5.1.0/24", "gateway": "10.5.1.1" },
                        { "subnet": "10.5.9.0/24", "gateway": "10.5.9.1" },
                    ],
                    [{ "subnet": "fd05:0:0:1::/64", "gateway": "fd05:0:0:1::1" }],
                ],
                "routes": [
                    { "dst": "0.0.0.0/0" }, { "dst": "::/0" }, { "dst": "10.5.0.0/16" }, { "dst": "fd05::/48" },
                ],
            }),
        );
        ipam_of(
            json!({ "internal": true, "ipam": { "type": "host-local", "dataDir": "/x" } }),
            &["10.5.1.0/24"],
            json!({ "dataDir": "/x", "routes": [{ "dst": "10.5.0.0/16" }] }),
        );
        let routes = json!([{ "dst": "192.0.2.0/24" }]);
        ipam_of(
            json!({ "ipam": { "routes": routes } }),
            &["10.5.1.0/24"],
            json!({ "routes": [{ "dst": "192.0.2.0/24" }, { "dst": "10.5.0.0/16" }] }),
        );
    }

    #[test]
    fn the_mtu_is_what_fits_unless_one_is_written() {
        for (keys, expected) in [
            (json!({}), json!(1450)),
            (json!({ "mtu": "auto" }), json!(1450)),
            (json!({ "MTU": "auto" }), json!(1450)),
            (json!({ "mtu": 1400 }), json!(1400)),
        ] {
            let context = context(keys);
            let config = Config::from_context(&context).unwrap();
            let made = config.for_bridge(&context, &network(&["10.5.1.0/24"]), Some(1450));
            assert_eq!(made.config.raw["mtu"], expected);
        }
    }
}
