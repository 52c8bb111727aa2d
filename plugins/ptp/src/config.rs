//! The keys of the plugin, all of them the reference's.

use pontoon_conf::{ConfigError, Dns, Error, PluginType, keys};
use pontoon_ipam::delegation;
use pontoon_plugin::Context;

#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) ip_masq: bool,
    pub(crate) ip_masq_backend: Option<String>,
    pub(crate) mtu: Option<u32>,
    pub(crate) dns: Option<Dns>,
    pub(crate) ipam: PluginType,
}

impl Config {
    /// Reads and validates everything that can be judged without the kernel.
    pub(crate) fn from_context(context: &Context) -> Result<Self, Error> {
        let keys: keys::Ptp = context.config.keys()?;
        let backend = keys.ip_masq_backend.filter(|backend| !backend.is_empty());
        if let Some(backend) = backend.as_deref()
            && !matches!(backend, "iptables" | "nftables")
        {
            let takes = "iptables or nftables";
            return Err(ConfigError::unsupported("ipMasqBackend", backend, takes).into());
        }
        // Bounds of a veth device: drivers/net/veth.c, ETH_MIN_MTU and ETH_MAX_MTU.
        let mtu = match keys.mtu {
            0 => None,
            mtu => Some(
                u32::try_from(mtu)
                    .ok()
                    .filter(|mtu| (68..=65535).contains(mtu))
                    .ok_or_else(|| {
                        ConfigError::value("mtu", mtu).with_next_step(
                            "it takes a number from 68 to 65535, or 0 for the kernel's default",
                        )
                    })?,
            ),
        };
        let ipam = delegation::configured(&context.config)?.ok_or_else(|| {
            ConfigError::missing("ipam").with_next_step(
                "a point-to-point network needs addresses; name an IPAM plugin such as host-local",
            )
        })?;
        Ok(Self {
            ip_masq: keys.ip_masq,
            ip_masq_backend: backend,
            mtu,
            dns: context.config.dns.clone(),
            ipam,
        })
    }
}
