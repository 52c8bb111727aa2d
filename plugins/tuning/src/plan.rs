//! Decisions: configuration and what is there in, what to change and what to remember out.

use std::collections::BTreeMap;

use pontoon_conf::{AddResult, Mac};
use pontoon_netlink::{Link, LinkChange};

use crate::backup::{Backup, SavedParameter};
use crate::config::{Config, Sysctl};

/// What ADD does.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Everything of the link but its address.
    pub(crate) link: LinkChange,
    /// The link's address, which some drivers change only while the link is down.
    pub(crate) mac: Option<[u8; 6]>,
    pub(crate) sysctls: Vec<Sysctl>,
    /// What DEL puts back.
    pub(crate) backup: Backup,
}

/// `before` has a value for each parameter that can be read.
pub(crate) fn plan(config: &Config, link: &Link, before: &[Option<String>]) -> Plan {
    let mut plan = Plan::default();
    if let Some(on) = config.promisc.filter(|on| *on != link.promisc) {
        plan.link.promisc = Some(on);
        plan.backup.promisc = Some(link.promisc);
    }
    if let Some(on) = config.allmulti.filter(|on| *on != link.allmulti) {
        plan.link.allmulti = Some(on);
        plan.backup.allmulti = Some(link.allmulti);
    }
    if let Some(mtu) = config.mtu.filter(|mtu| *mtu != link.mtu) {
        plan.link.mtu = Some(mtu);
        plan.backup.mtu = link.mtu;
    }
    let queue = config.tx_queue_length;
    if let Some(packets) = queue.filter(|packets| *packets != link.tx_queue_length) {
        plan.link.tx_queue_length = Some(packets);
        plan.backup.tx_q_len = Some(link.tx_queue_length);
    }
    if let Some(mac) = config.mac.filter(|mac| link.mac != Some(mac.0)) {
        plan.mac = Some(mac.0);
        plan.backup.mac = link.mac.map(|mac| Mac(mac).to_string()).unwrap_or_default();
    }
    let mut sysctls = BTreeMap::new();
    for (sysctl, before) in config.sysctls.iter().zip(before) {
        match before {
            Some(before) if same(before, &sysctl.value) => continue,
            Some(before) => {
                let restored = SavedParameter {
                    before: before.clone(),
                    set: sysctl.value.clone(),
                };
                sysctls.insert(sysctl.path.clone(), restored);
            }
            // Some parameters are orders rather than values, and cannot be read.
            None => {}
        }
        plan.sysctls.push(sysctl.clone());
    }
    plan.backup.sysctl = sysctls;
    plan
}

/// Whether two values are one: the kernel prints a tab where a person writes a blank.
pub(crate) fn same(one: &str, other: &str) -> bool {
    one.split_whitespace().eq(other.split_whitespace())
}

/// The result with what has changed on the interface.
pub(crate) fn result(previous: &AddResult, config: &Config, name: &str) -> AddResult {
    let mut result = previous.clone();
    for interface in result.interfaces.iter_mut().filter(|it| it.name == name) {
        if let Some(mac) = config.mac {
            interface.mac = Some(mac.to_string());
        }
        if let Some(mtu) = config.mtu {
            interface.mtu = Some(mtu);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use pontoon_conf::Interface;

    use super::*;

    fn sysctl(value: &str) -> Sysctl {
        Sysctl {
            key: "net.x".into(),
            path: "net/x".into(),
            value: value.into(),
        }
    }

    fn config() -> Config {
        Config {
            sysctls: Vec::new(),
            mac: None,
            promisc: None,
            mtu: None,
            allmulti: None,
            tx_queue_length: None,
            data_dir: PathBuf::new(),
        }
    }

    fn link() -> Link {
        Link {
            mac: Some([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            tx_queue_length: 1000,
            ..Link::default()
        }
    }

    #[test]
    fn what_is_so_already_is_neither_changed_nor_remembered() {
        let wanted = Config {
            sysctls: vec![sysctl("1024 65535")],
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            promisc: Some(false),
            mtu: Some(1500),
            allmulti: Some(false),
            tx_queue_length: Some(1000),
            ..config()
        };
        let plan = plan(&wanted, &link(), &[Some("1024\t65535".into())]);
        assert_eq!(plan, Plan::default());
    }

    #[test]
    fn what_changes_is_remembered() {
        let wanted = Config {
            sysctls: vec![sysctl("7")],
            mac: Some(Mac([2, 0, 0, 0, 0, 9])),
            promisc: Some(true),
            mtu: Some(1400),
            allmulti: Some(true),
            tx_queue_length: Some(5),
            ..config()
        };
        let made = plan(&wanted, &link(), &[Some("1".into())]);
        let json = serde_json::to_string(&made.backup).unwrap();
        assert_eq!(
            json,
            "{\"mac\":\"02:00:00:00:00:01\",\"promisc\":false,\"mtu\":1500,\"allmulti\":false,\
             \"txQLen\":1000,\"sysctl\":{\"net/x\":{\"before\":\"1\",\"set\":\"7\"}}}"
        );
        // What cannot be read is set, and cannot be put back.
        let blind = plan(
            &Config {
                sysctls: vec![sysctl("7")],
                ..config()
            },
            &link(),
            &[None],
        );
        assert_eq!((blind.sysctls.len(), blind.backup), (1, Backup::default()));
    }

    #[test]
    fn the_result_tells_the_new_mac_and_mtu() {
        let previous = AddResult {
            interfaces: ["br0", "eth0"]
                .map(|name| Interface {
                    name: name.into(),
                    ..Interface::default()
                })
                .into(),
            ..AddResult::default()
        };
        let wanted = Config {
            mac: Some(Mac([2, 0, 0, 0, 0, 9])),
            mtu: Some(1400),
            ..config()
        };
        let result = result(&previous, &wanted, "eth0");
        assert_eq!(result.interfaces[0], previous.interfaces[0]);
        assert_eq!(
            result.interfaces[1].mac.as_deref(),
            Some("02:00:00:00:00:09")
        );
        assert_eq!(result.interfaces[1].mtu, Some(1400));
    }
}
