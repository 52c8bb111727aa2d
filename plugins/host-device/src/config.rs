//! The keys of the plugin, all of them the reference's.

use std::path::PathBuf;

use pontoon_conf::{ConfigError, Dns, Error, IfName, Mac, PluginType, keys};
use pontoon_ipam::delegation;
use pontoon_plugin::Context;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Runtime {
    #[serde(rename = "deviceID")]
    device_id: String,
}

#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) device: Selector,
    pub(crate) accept_ra: bool,
    pub(crate) dns: Option<Dns>,
    pub(crate) ipam: Option<PluginType>,
}

/// The devices of the PCI bus.
pub(crate) const PCI: &str = "/sys/bus/pci/devices";
/// The bus of parts of a device, such as subfunctions (`mlx5_core.sf.4`).
pub(crate) const AUXILIARY: &str = "/sys/bus/auxiliary/devices";

/// How the device is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selector {
    Name(IfName),
    Mac(Mac),
    /// Below `/sys/devices`.
    KernelPath(PathBuf),
    /// Address of a PCI device, or name of a device of the auxiliary bus.
    Pci(String),
}

impl Config {
    pub(crate) fn from_context(context: &Context) -> Result<Self, Error> {
        let runtime: Runtime = context.config.runtime()?;
        let keys: keys::HostDevice = context.config.keys()?;
        Ok(Self {
            accept_ra: keys.accept_ra,
            device: select(keys, runtime.device_id)?,
            dns: context.config.dns.clone(),
            ipam: delegation::configured(&context.config)?,
        })
    }
}

/// The order of the reference plugin, in which the runtime's device takes the place of `pciBusID`.
fn select(keys: keys::HostDevice, device_id: String) -> Result<Selector, ConfigError> {
    let pci = if device_id.is_empty() {
        keys.pci_bus_id
    } else {
        device_id
    };
    if !keys.device.is_empty() {
        return IfName::try_from(keys.device.as_str())
            .map(Selector::Name)
            .map_err(|error| {
                ConfigError::refused("key \"device\" is no interface name").because(error)
            });
    }
    if !keys.hwaddr.is_empty() {
        return keys
            .hwaddr
            .parse()
            .map(Selector::Mac)
            .map_err(|error: pontoon_conf::MacError| {
                ConfigError::refused("key \"hwaddr\" is no MAC address").because(error)
            });
    }
    if !keys.kernelpath.is_empty() {
        let path = PathBuf::from(&keys.kernelpath);
        let plain = !path
            .components()
            .any(|part| part == std::path::Component::ParentDir);
        return if path.starts_with("/sys/devices/") && plain {
            Ok(Selector::KernelPath(path))
        } else {
            Err(ConfigError::refused(format!(
                "kernel device path {:?} must be absolute and begin with /sys/devices/",
                keys.kernelpath.chars().take(120).collect::<String>()
            )))
        };
    }
    if pci.is_empty() {
        return Err(ConfigError::refused(
            "specify either \"device\", \"hwaddr\", \"kernelpath\" or \"pciBusID\"",
        ));
    }
    if pci.contains('/') || pci.starts_with('.') {
        return Err(
            ConfigError::refused("key \"pciBusID\" is no address of a device")
                .with_next_step("write it like 0000:00:1f.6"),
        );
    }
    Ok(Selector::Pci(pci))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(device: &str, hwaddr: &str, kernelpath: &str, pci: &str) -> keys::HostDevice {
        keys::HostDevice {
            device: device.into(),
            hwaddr: hwaddr.into(),
            kernelpath: kernelpath.into(),
            pci_bus_id: pci.into(),
            accept_ra: false,
        }
    }

    #[test]
    fn one_way_to_find_it() {
        let found = |keys, id: &str| select(keys, id.to_owned()).unwrap();
        let name = Selector::Name("eth1".parse().unwrap());
        assert_eq!(found(keys("eth1", "02:00:00:00:00:01", "", "x"), ""), name);
        let mac = Selector::Mac("02:00:00:00:00:01".parse().unwrap());
        assert_eq!(found(keys("", "02:00:00:00:00:01", "", ""), ""), mac);
        let pci = |text: &str| Selector::Pci(text.into());
        assert_eq!(
            found(keys("", "", "", "0000:00:01.0"), ""),
            pci("0000:00:01.0")
        );
        assert_eq!(
            found(keys("", "", "", "0000:00:01.0"), "0000:00:02.0"),
            pci("0000:00:02.0")
        );
        let path = "/sys/devices/pci0000:00/0000:00:19.0";
        assert_eq!(
            found(keys("", "", path, ""), ""),
            Selector::KernelPath(path.into())
        );
    }

    #[test]
    fn anything_else_is_refused() {
        let refused = |keys, part: &str| {
            let error = select(keys, String::new()).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        };
        refused(keys("", "", "", ""), "specify either");
        refused(keys("a/b", "", "", ""), "device");
        refused(keys("", "02:00", "", ""), "hwaddr");
        refused(keys("", "", "/etc", ""), "must be absolute");
        refused(
            keys("", "", "/sys/devices/../../etc", ""),
            "must be absolute",
        );
        refused(keys("", "", "", "../x"), "pciBusID");
    }
}
