//! A host with an uplink, and the outside at its other end.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::{fs, str};

use ipnetwork::IpNetwork;
use pontoon_netlink::{Netns, RouteSocket, RouteSpec, Setup, VethSpec};

use super::failure::{Failure, Outcome};
use super::probe::Echo;

/// The host's address on the uplink. Every host is alone in its namespaces, so all have the same.
pub const HOST_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 7, 1));
/// The host's IPv6 address on the uplink.
pub const HOST_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xfe, 0, 0, 0, 0, 1));
/// The outside client's address.
pub const OUTSIDE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 7, 2));
/// The outside client's IPv6 address.
pub const OUTSIDE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xfe, 0, 0, 0, 0, 2));

/// The host's address on the second uplink, where there is one.
pub const SECOND_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 8, 1));
/// The host's IPv6 address on the second uplink.
pub const SECOND_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xfd, 0, 0, 0, 0, 1));
const NEIGHBOUR_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 8, 2));
const NEIGHBOUR_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xfd, 0, 0, 0, 0, 2));

/// A host: a namespace with a loopback, an uplink `eth0`, and default routes to the outside, where
/// one client lives. The kernel takes both away when they are dropped.
pub struct Host {
    netns: Netns,
    outside: Netns,
    cookie: u64,
}

impl Host {
    /// Makes a host and its outside. The outside's loopback stays down: so a packet to 127.0.0.1
    /// can be made to leave it (see the matrix test).
    pub fn new() -> Outcome<Self> {
        let make = || Netns::create_unnamed().map_err(Failure::act("make a namespace"));
        let (netns, outside) = (make()?, make()?);
        let act = "read the namespace's cookie";
        let cookie = netns
            .run(Netns::cookie)
            .map_err(Failure::act(act))?
            .map_err(Failure::act(act))?;
        let host = Self {
            netns,
            outside,
            cookie,
        };
        host.run(|| host.cable())??;
        Ok(host)
    }

    /// The host's namespace.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The outside's namespace.
    #[must_use]
    pub fn outside(&self) -> &Netns {
        &self.outside
    }

    /// Runs `f` on a thread on the host.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Outcome<T> {
        self.netns.run(f).map_err(Failure::act("enter the host"))
    }

    /// Runs `f` on a thread outside.
    pub fn run_outside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Outcome<T> {
        self.outside
            .run(f)
            .map_err(Failure::act("enter the outside"))
    }

    /// Starts an echo server in the outside.
    pub fn serve_outside(&self, port: u16) -> Outcome<Echo> {
        Echo::start(&self.outside, "outside", port)
    }

    /// Runs a command on the host and wants it to succeed; its standard output.
    pub fn command(&self, command: &mut Command) -> Outcome<String> {
        let shown = format!("{command:?}");
        let output: io::Result<Output> = self.run(|| command.output())?;
        let output = output.map_err(Failure::act(&shown))?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            return Err(Failure::new(format!(
                "{shown}: {}: {}",
                output.status,
                words.trim()
            )));
        }
        String::from_utf8(output.stdout).map_err(Failure::act(shown))
    }

    /// Sets whether bridged packets pass iptables and nftables hooks of the IP families. Kept per
    /// namespace by the kernel since 5.3; there once a bridge or the module was.
    pub fn bridge_nf_call(&self, on: bool) -> Outcome {
        for family in ["iptables", "ip6tables"] {
            self.set(
                &format!("net/bridge/bridge-nf-call-{family}"),
                if on { "1" } else { "0" },
            )?;
        }
        Ok(())
    }

    /// Writes a sysctl on the host.
    pub fn set(&self, key: &str, value: &str) -> Outcome {
        let file = format!("/proc/sys/{key}");
        self.run(|| fs::write(&file, value))?
            .map_err(Failure::act(format!("write {file}")))
    }

    /// Reads a sysctl on the host; `None` when the kernel has no such key.
    pub fn get(&self, key: &str) -> Outcome<Option<String>> {
        let file = format!("/proc/sys/{key}");
        Ok(self
            .run(|| fs::read_to_string(&file))?
            .ok()
            .map(|text| text.trim().to_owned()))
    }

    /// Where the plugins keep the state of this host.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        PathBuf::from(format!("/run/pontoon/netns-{}", self.cookie))
    }

    /// Where the host's files of overlay networks are.
    #[must_use]
    pub fn overlay_dir(&self) -> PathBuf {
        self.lasting_dir().join("overlay")
    }

    /// A host whose uplink is a port of a switch, which stands for its outside. `equip` is left to the caller.
    pub(crate) fn at_a_switch(switch: &Netns, port: &str, mac: [u8; 6]) -> Outcome<Self> {
        let netns = Netns::create_unnamed().map_err(Failure::act("make a namespace"))?;
        let act = "lay the cable between host and switch";
        let path = format!("/proc/self/fd/{}", switch.as_fd().as_raw_fd());
        let outside = Netns::open(path.as_ref()).map_err(Failure::act(act))?;
        let cookie = netns.run(Netns::cookie).map_err(Failure::act(act))?;
        let host = Self {
            netns,
            outside,
            cookie: cookie.map_err(Failure::act(act))?,
        };
        let mut socket = host.run(RouteSocket::open)?.map_err(Failure::act(act))?;
        let spec = VethSpec {
            peer_mac: Some(mac),
            ..VethSpec::new("eth0", port, &host.outside)
        };
        socket.create_veth(&spec).map_err(Failure::act(act))?;
        Ok(host)
    }

    /// Where the plugins and the agent keep what survives a boot.
    #[must_use]
    pub fn lasting_dir(&self) -> PathBuf {
        PathBuf::from(format!("/var/lib/pontoon/netns-{}", self.cookie))
    }

    // On the host: the cable, and both its ends.
    fn cable(&self) -> Outcome {
        let act = "lay the cable between host and outside";
        let mut socket = RouteSocket::open().map_err(Failure::act(act))?;
        let veth = socket
            .create_veth(&cable("eth0", &self.outside, [2, 0, 0, 0, 7, 2]))
            .map_err(Failure::act(act))?;
        equip(
            &mut socket,
            veth.index,
            true,
            [HOST_V4, HOST_V6],
            &[OUTSIDE_V4, OUTSIDE_V6],
        )?;
        let mut beyond = self
            .run_outside(RouteSocket::open)?
            .map_err(Failure::act(act))?;
        equip(
            &mut beyond,
            veth.peer_index,
            false,
            [OUTSIDE_V4, OUTSIDE_V6],
            &[HOST_V4, HOST_V6],
        )
    }

    /// Tells the outside that the way to these subnets is by this host, as a neighbour on its link
    /// may know.
    pub fn teach_outside(&self, subnets: &[&str]) -> Outcome {
        let act = "route to containers from outside";
        let mut socket = self
            .run_outside(RouteSocket::open)?
            .map_err(Failure::act(act))?;
        for subnet in subnets {
            let destination: IpNetwork = subnet.parse().map_err(Failure::act(act))?;
            let via = if destination.is_ipv4() {
                HOST_V4
            } else {
                HOST_V6
            };
            let route = RouteSpec {
                gateway: Some(via),
                ..RouteSpec::to(destination)
            };
            socket.add_route(&route).map_err(Failure::act(act))?;
        }
        Ok(())
    }

    /// Lays a second uplink, `eth1`, to a neighbour whose default routes lead to this host.
    pub fn neighbour(&self) -> Outcome<Netns> {
        let act = "lay the cable between host and neighbour";
        let neighbour = Netns::create_unnamed().map_err(Failure::act("make a namespace"))?;
        let mut socket = self.run(RouteSocket::open)?.map_err(Failure::act(act))?;
        let veth = socket
            .create_veth(&cable("eth1", &neighbour, [2, 0, 0, 0, 8, 2]))
            .map_err(Failure::act(act))?;
        equip(&mut socket, veth.index, true, [SECOND_V4, SECOND_V6], &[])?;
        let mut beyond = RouteSocket::open_in(&neighbour).map_err(Failure::act(act))?;
        equip(
            &mut beyond,
            veth.peer_index,
            false,
            [NEIGHBOUR_V4, NEIGHBOUR_V6],
            &[SECOND_V4, SECOND_V6],
        )?;
        Ok(neighbour)
    }
}

/// A bare pair of interfaces of one name, the other end in another namespace.
#[must_use]
pub fn cable<'a>(name: &'a str, other: &'a Netns, other_mac: [u8; 6]) -> VethSpec<'a> {
    VethSpec {
        peer_mac: Some(other_mac),
        ..VethSpec::new(name, name, other)
    }
}

/// Gives an end of the cable its addresses, and default routes to these gateways.
fn equip(
    socket: &mut RouteSocket,
    index: u32,
    lo_up: bool,
    own: [IpAddr; 2],
    gateways: &[IpAddr],
) -> Outcome {
    let network = |address: IpAddr, v4, v6| {
        IpNetwork::new(address, if address.is_ipv4() { v4 } else { v6 })
            .map_err(Failure::act("form an address"))
    };
    let mut addresses = Vec::new();
    for own in own {
        addresses.push(network(own, 24, 64)?);
    }
    let mut routes = Vec::new();
    for gateway in gateways {
        let everything = if gateway.is_ipv4() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        } else {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        };
        routes.push(RouteSpec {
            gateway: Some(*gateway),
            interface: Some(index),
            ..RouteSpec::to(network(everything, 0, 0)?)
        });
    }
    socket
        .configure(&Setup {
            lo_up,
            index,
            addresses: &addresses,
            up: true,
            routes: &routes,
            ..Setup::default()
        })
        .map_err(Failure::act("configure an end of the cable"))
}

impl Drop for Host {
    fn drop(&mut self) {
        // The namespaces go with their descriptors; state is a directory like any other.
        let _ = fs::remove_dir_all(self.state_dir());
        let _ = fs::remove_dir_all(self.lasting_dir());
    }
}
