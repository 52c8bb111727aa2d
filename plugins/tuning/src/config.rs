//! The keys of the plugin, all of them the reference's. Those of `args.cni` win over those of the
//! configuration.

use std::collections::HashSet;
use std::path::PathBuf;

use pontoon_conf::keys::Tuning;
use pontoon_conf::{ConfigError, Error, Mac, excerpt, field};
use pontoon_plugin::Context;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

/// The list of parameters that networks may set, as the reference plugin has it. Without the file every parameter
/// below `net` is allowed.
pub(crate) const ALLOWLIST: &str = "/etc/cni/tuning/allowlist.conf";

/// Where the reference plugin keeps what was before.
const DATA_DIR: &str = "/run/cni/tuning";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MacKey {
    mac: String,
}

/// The keys as they are meant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) sysctls: Vec<Sysctl>,
    pub(crate) mac: Option<Mac>,
    pub(crate) promisc: Option<bool>,
    pub(crate) mtu: Option<u32>,
    pub(crate) allmulti: Option<bool>,
    pub(crate) tx_queue_length: Option<u32>,
    pub(crate) data_dir: PathBuf,
}

/// A kernel parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sysctl {
    /// As the administrator wrote it: what the allow-list is asked about.
    pub(crate) key: String,
    /// Below `/proc/sys`.
    pub(crate) path: String,
    pub(crate) value: String,
}

impl Config {
    /// Whether something of the interface is to be set, and not kernel parameters alone.
    pub(crate) fn needs_link(&self) -> bool {
        let Self {
            mac,
            promisc,
            mtu,
            allmulti,
            tx_queue_length,
            ..
        } = self;
        let modes = promisc.is_some() || allmulti.is_some();
        modes || mac.is_some() || mtu.is_some() || tx_queue_length.is_some()
    }

    /// Leaves the kernel parameters alone.
    pub(crate) fn forget_link(&mut self) {
        (self.mac, self.mtu, self.tx_queue_length) = (None, None, None);
        (self.promisc, self.allmulti) = (None, None);
    }

    /// Reads and validates everything that can be judged without the kernel.
    pub(crate) fn from_context(context: &Context) -> Result<Self, Error> {
        context
            .invocation
            .args
            .check_known(&["MAC", "IP", "GATEWAY"])?;
        refuse_duplicates(context.config.bytes())?;
        let (_, interface) = context.attachment()?;
        Self::read(context, interface.as_ref())
    }

    /// For a verb that is about no attachment: `IFNAME` stays as it is.
    pub(crate) fn of_network(context: &Context) -> Result<Self, Error> {
        refuse_duplicates(context.config.bytes())?;
        Self::read(context, "IFNAME")
    }

    fn read(context: &Context, interface: &str) -> Result<Self, Error> {
        let runtime: MacKey = context.config.runtime()?;
        let mac = Some(runtime.mac).filter(|mac| !mac.is_empty()).or(context
            .invocation
            .args
            .get("MAC")
            .map(str::to_owned));
        Ok(merge(
            context.config.keys()?,
            context.config.args_cni()?,
            mac.unwrap_or_default(),
            interface,
        )?)
    }
}

/// Where what was before lies, for a DEL that must not fail on the rest of the configuration.
pub(crate) fn data_dir(context: &Context) -> PathBuf {
    let written = context.config.raw.as_object();
    let written = written.and_then(|object| field(object, "dataDir")?.as_str());
    PathBuf::from(written.filter(|text| !text.is_empty()).unwrap_or(DATA_DIR))
}

/// `asked` is the MAC address of the runtime or of `CNI_ARGS`.
fn merge(
    keys: Tuning,
    args: Tuning,
    asked: String,
    interface: &str,
) -> Result<Config, ConfigError> {
    let mut written = keys.sysctl;
    written.extend(args.sysctl);
    let mut sysctls: Vec<Sysctl> = Vec::new();
    let mut paths = HashSet::new();
    for (key, value) in written {
        let value = match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Null => continue,
            other => {
                return Err(ConfigError::value(format!("sysctl.{key}"), other)
                    .with_next_step("it takes a string"));
            }
        };
        let path = path(&key, interface)?;
        if !paths.insert(path.clone()) {
            return Err(
                ConfigError::refused("duplicated sysctl keys are not allowed")
                    .with_next_step(format!("{key} is /proc/sys/{path}, which is set already")),
            );
        }
        sysctls.push(Sysctl { key, path, value });
    }
    let mac = [args.mac, asked, keys.mac]
        .into_iter()
        .find(|mac| !mac.is_empty());
    let mac = mac.map(|text| {
        text.parse::<Mac>().map_err(|error| {
            let what = format!("invalid args {} for MAC addr: {error}", excerpt(&text));
            ConfigError::refused(what)
                .quoting(error)
                .with_next_step("write it like 02:42:ac:11:00:02")
        })
    });
    let mtu = if args.mtu == 0 { keys.mtu } else { args.mtu };
    let number = |key: &'static str, number: i64| {
        u32::try_from(number).map_err(|_| ConfigError::value(key, number))
    };
    let queue = args.tx_q_len.or(keys.tx_q_len);
    Ok(Config {
        sysctls,
        mac: mac.transpose()?,
        promisc: args.promisc.or(keys.promisc),
        mtu: Some(number("mtu", mtu)?).filter(|mtu| *mtu != 0),
        allmulti: args.allmulti.or(keys.allmulti),
        tx_queue_length: queue.map(|packets| number("txQLen", packets)).transpose()?,
        data_dir: PathBuf::from(if keys.data_dir.is_empty() {
            DATA_DIR.to_owned()
        } else {
            keys.data_dir
        }),
    })
}

/// The path below `/proc/sys` of a key, by the rule of sysctl(8): the first separator tells how the
/// rest is written, so that `net/ipv4/conf/eth0.100/rp_filter` is possible. `IFNAME` is the
/// container's interface, whatever characters its name has.
fn path(key: &str, interface: &str) -> Result<String, ConfigError> {
    let wrong = || {
        let shown: String = key.chars().take(120).collect();
        ConfigError::refused(format!("invalid net sysctl key: {shown:?}"))
            .with_next_step("only parameters below net. can be set")
    };
    let dots = key
        .find(['.', '/'])
        .is_some_and(|at| key.as_bytes()[at] == b'.');
    let turned: String = key
        .chars()
        .map(|character| match character {
            '.' if dots => '/',
            '/' if dots => '.',
            other => other,
        })
        .collect();
    let parts: Vec<String> = turned
        .split('/')
        .filter(|part| !part.is_empty())
        .map(|part| part.replace("IFNAME", interface))
        .collect();
    let plain = parts.iter().all(|part| part != "." && part != "..");
    if !plain || parts.len() < 2 || parts[0] != "net" {
        return Err(wrong());
    }
    Ok(parts.join("/"))
}

/// JSON allows one key twice and most readers take the last; which one was meant cannot be known.
fn refuse_duplicates(document: &[u8]) -> Result<(), ConfigError> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Document {
        sysctl: Option<Distinct>,
    }
    struct Distinct(Option<String>);
    impl<'de> Deserialize<'de> for Distinct {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Keys;
            impl<'de> Visitor<'de> for Keys {
                type Value = Distinct;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Distinct, A::Error> {
                    let mut seen = HashSet::new();
                    let mut twice = None;
                    while let Some((key, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                        if let Some(again) = seen.replace(key) {
                            twice = Some(again);
                        }
                    }
                    Ok(Distinct(twice))
                }
            }
            deserializer.deserialize_map(Keys)
        }
    }
    // Another shape is told by who reads the keys for good.
    match serde_json::from_slice(document) {
        Ok(Document {
            sysctl: Some(Distinct(Some(key))),
        }) => Err(
            ConfigError::refused("duplicated sysctl keys are not allowed")
                .with_next_step(format!("{key} stands twice")),
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
