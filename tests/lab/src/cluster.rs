//! Several hosts on one switch.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;

use pontoon_netlink::Netns;

use super::failure::{Failure, Outcome};
use super::host::Host;
use super::programs::{find, missing};

/// Hosts whose uplinks are ports of one switch. The switch has addresses too, and is the hosts' default route: what is
/// outside of the hosts lives there.
pub struct Cluster {
    /// The hosts; that of number 1 is the first one.
    pub hosts: Vec<Host>,
    switch: Netns,
}

impl Cluster {
    /// So many hosts.
    pub fn new(count: u8) -> Outcome<Self> {
        let switch = Netns::create_unnamed().map_err(Failure::act("make a namespace"))?;
        ip(&switch, "link add br0 type bridge")?;
        ip(&switch, "link set br0 up")?;
        ip(
            &switch,
            &format!("addr add {}/24 dev br0", Self::address(100)),
        )?;
        ip(
            &switch,
            &format!("addr add {}/64 dev br0 nodad", Self::address_v6(100)),
        )?;
        let mut hosts = Vec::new();
        for number in 1..=count {
            let port = Self::port(number);
            let host = Host::at_a_switch(&switch, &port, [2, 0, 0, 60, 0, number])?;
            ip(&switch, &format!("link set {port} master br0 up"))?;
            for arguments in [
                "link set lo up".to_owned(),
                "link set eth0 up".to_owned(),
                format!("addr add {}/24 dev eth0", Self::address(number)),
                format!("addr add {}/64 dev eth0 nodad", Self::address_v6(number)),
                format!("route add default via {}", Self::address(100)),
                format!("route add default via {}", Self::address_v6(100)),
            ] {
                ip(host.netns(), &arguments)?;
            }
            hosts.push(host);
        }
        Ok(Self { hosts, switch })
    }

    /// The switch, and what is outside of the hosts.
    #[must_use]
    pub fn switch(&self) -> &Netns {
        &self.switch
    }

    /// The IPv4 address of a host by its number.
    #[must_use]
    pub fn address(number: u8) -> IpAddr {
        Ipv4Addr::new(198, 18, 60, number).into()
    }

    /// The IPv6 address of a host by its number.
    #[must_use]
    pub fn address_v6(number: u8) -> IpAddr {
        Ipv6Addr::new(0x2001, 0xdb8, 0x60, 0, 0, 0, 0, number.into()).into()
    }

    /// Takes a host off the switch, or puts it back.
    pub fn connect(&self, number: u8, connected: bool) -> Outcome {
        let state = if connected { "up" } else { "down" };
        ip(
            &self.switch,
            &format!("link set {} {state}", Self::port(number)),
        )
    }

    fn port(number: u8) -> String {
        format!("h{number}")
    }
}

/// Runs `ip` in a namespace.
fn ip(netns: &Netns, arguments: &str) -> Outcome {
    let program = find("ip").ok_or_else(|| missing("ip"))?;
    let act = format!("ip {arguments}");
    let output = netns
        .run(|| Command::new(program).args(arguments.split(' ')).output())
        .map_err(Failure::act(&act))?
        .map_err(Failure::act(&act))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(Failure::new(format!("{act}: {}", words.trim())))
        }
    }
}
