//! The keys of the plugin, all of them the reference's.

use pontoon_attach::container_link;
use pontoon_conf::{ConfigError, Dns, Error, IfName, Mac, PluginType, excerpt, keys};
use pontoon_ipam::delegation;
use pontoon_plugin::Context;

#[derive(Debug)]
pub(crate) struct Config {
    /// The device to share; without one, that of the default route.
    pub(crate) master: Option<IfName>,
    pub(crate) mode: Mode,
    pub(crate) mtu: i64,
    pub(crate) mac: Option<Mac>,
    /// The master is in the container's namespace.
    pub(crate) link_in_container: bool,
    pub(crate) broadcast_queue: Option<u32>,
    pub(crate) accept_ra: bool,
    pub(crate) dns: Option<Dns>,
    pub(crate) ipam: Option<PluginType>,
}

/// Who may talk to whom (`MACVLAN_MODE_*`, linux/if_link.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Private = 1,
    Vepa = 2,
    Bridge = 4,
    Passthru = 8,
}

impl Mode {
    const ALL: [(&'static str, Mode); 4] = [
        ("bridge", Mode::Bridge),
        ("private", Mode::Private),
        ("vepa", Mode::Vepa),
        ("passthru", Mode::Passthru),
    ];

    fn parse(text: &str) -> Result<Mode, ConfigError> {
        let wanted = if text.is_empty() { "bridge" } else { text };
        let found = Self::ALL.into_iter().find(|(name, _)| *name == wanted);
        found.map(|(_, mode)| mode).ok_or_else(|| {
            let shown = excerpt(text);
            ConfigError::refused(format!("unknown macvlan mode: {shown:?}"))
                .with_next_step("key \"mode\" takes bridge, private, vepa or passthru")
        })
    }

    /// The name of a mode as the kernel numbers it.
    pub(crate) fn name(number: u32) -> &'static str {
        Self::ALL
            .into_iter()
            .find(|(_, mode)| *mode as u32 == number)
            .map_or("unknown", |(name, _)| name)
    }
}

impl Config {
    /// Reads and validates everything that can be judged without the kernel.
    pub(crate) fn from_context(context: &Context) -> Result<Self, Error> {
        context
            .invocation
            .args
            .check_known(&["MAC", "IP", "GATEWAY"])?;
        let keys: keys::Macvlan = context.config.keys()?;
        let master = Some(keys.master.as_str()).filter(|name| !name.is_empty());
        let master = master.map(|name| {
            IfName::try_from(name).map_err(|error| {
                ConfigError::refused("key \"master\" is no interface name").because(error)
            })
        });
        Ok(Self {
            master: master.transpose()?,
            mode: Mode::parse(&keys.mode)?,
            mtu: keys.mtu,
            mac: container_link::requested_mac(context, &keys.mac)?,
            link_in_container: keys.link_in_container,
            broadcast_queue: Some(keys.broadcast_queue).filter(|packets| *packets != 0),
            accept_ra: keys.accept_ra,
            dns: context.config.dns.clone(),
            ipam: delegation::configured(&context.config)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_by_name() {
        for (text, expected) in [
            ("", 4),
            ("bridge", 4),
            ("private", 1),
            ("vepa", 2),
            ("passthru", 8),
        ] {
            let mode = Mode::parse(text).unwrap() as u32;
            assert_eq!(mode, expected);
            assert!(text.is_empty() || Mode::name(mode) == text);
        }
        assert_eq!(
            Mode::parse("tree").unwrap_err().to_string(),
            "unknown macvlan mode: \"tree\""
        );
    }
}
