//! The container's side: its interface by netlink, its parameters on a thread that enters.

use std::io;

use pontoon_attach::{container_link, sockets};
use pontoon_conf::{Cidr, Error, Mac};
use pontoon_netlink::{Errno, Link, LinkChange, Netns, RouteSocket, RouteSpec, sysctl};
use pontoon_plugin::{fault, kernel_error, netns_error};

use crate::backup::Backup;
use crate::config::Sysctl;
use crate::error::{Parameter, SettingError};
use crate::plan;

/// `RTPROT_KERNEL`: comes by itself with an address.
const KERNEL: u8 = 2;

pub(crate) struct ContainerAccess<'a> {
    netns: &'a Netns,
    socket: RouteSocket,
}

impl<'a> ContainerAccess<'a> {
    pub(crate) fn open(netns: &'a Netns) -> Result<Self, Error> {
        let socket = sockets::of_container(netns)?;
        Ok(Self { netns, socket })
    }

    pub(crate) fn link(&mut self, name: &str) -> Result<Option<Link>, Error> {
        self.socket
            .link_by_name(name)
            .map_err(|error| kernel_error(format!("cannot look up {name}"), error))
    }

    /// The value of each parameter, or none for one that can only be written.
    pub(crate) fn read(&self, sysctls: &[Sysctl]) -> Result<Vec<Option<String>>, Error> {
        if sysctls.is_empty() {
            return Ok(Vec::new());
        }
        self.netns
            .run(|| {
                sysctls
                    .iter()
                    .map(|wanted| match sysctl::read(&wanted.path) {
                        Ok(value) => Ok(Some(value)),
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {
                            Err(SettingError::Unknown {
                                key: wanted.key.clone(),
                                path: wanted.path.clone(),
                            }
                            .into())
                        }
                        Err(error) if has_no_value(&wanted.path, &error) => Ok(None),
                        Err(error) => Err(SettingError::Unread {
                            key: wanted.key.clone(),
                            source: refusal(wanted, error),
                        }
                        .into()),
                    })
                    .collect()
            })
            .map_err(netns_error)?
    }

    /// Sets the parameters, in the order in which they were written down.
    pub(crate) fn write(&self, sysctls: &[Sysctl]) -> Result<(), Error> {
        if sysctls.is_empty() {
            return Ok(());
        }
        self.netns
            .run(|| {
                for wanted in sysctls {
                    sysctl::write_if_different(&wanted.path, &wanted.value).map_err(|error| {
                        SettingError::NotSet {
                            key: wanted.key.clone(),
                            value: wanted.value.clone(),
                            source: refusal(wanted, error),
                        }
                    })?;
                    fault::point("tuning.sysctl")?;
                }
                Ok(())
            })
            .map_err(netns_error)?
    }

    pub(crate) fn change(&mut self, link: &Link, change: &LinkChange) -> Result<(), Error> {
        if *change == LinkChange::default() {
            return Ok(());
        }
        self.socket.set_link(link.index, change).map_err(|error| {
            kernel_error(
                format!("cannot change {} in the container", link.name),
                error,
            )
        })
    }

    /// Changes the address of the link, if it can be as it is. Some drivers want the link down for
    /// it (`IFF_LIVE_ADDR_CHANGE` is missing), which costs its routes and IPv6 addresses; they are
    /// put back.
    ///
    /// Neighbours remember the former one for up to a minute: they are told.
    pub(crate) fn set_mac(&mut self, link: &Link, mac: [u8; 6]) -> Result<(), Error> {
        // The kernel announces a change where these are on. Without IPv6 there is nothing to announce by the second.
        let notify = LinkChange {
            arp_notify: Some(true),
            ..LinkChange::default()
        };
        self.change(link, &notify)?;
        let path = format!("net/ipv6/conf/{}/ndisc_notify", link.name);
        let told = sysctl::write_in(self.netns, &[(path, "1")]);
        told.map_err(netns_error)?;
        if link.up {
            // What is announced before the link sends is lost.
            self.socket
                .wait_operational(link.index)
                .map_err(|error| kernel_error(format!("cannot look up {}", link.name), error))?;
        }
        let new = LinkChange {
            mac: Some(mac),
            ..LinkChange::default()
        };
        match self.socket.set_link(link.index, &new) {
            Err(error) if error.errno() == Some(Errno::EBUSY) && link.up => {
                let done = self.set_mac_down(link, &new);
                container_link::announce(&mut self.socket, link.index, &link.name);
                done
            }
            other => other,
        }
        .map_err(|error| {
            kernel_error(
                format!(
                    "cannot set the MAC address of {} to {}",
                    link.name,
                    Mac(mac)
                ),
                error,
            )
        })
    }

    fn set_mac_down(
        &mut self,
        link: &Link,
        new: &LinkChange,
    ) -> Result<(), pontoon_netlink::Error> {
        let mut routes = Vec::new();
        for v4 in [true, false] {
            routes.extend(
                self.socket.routes(v4)?.into_iter().filter(|route| {
                    route.interface == Some(link.index) && route.protocol != KERNEL
                }),
            );
        }
        let addresses = self.socket.addresses(link.index)?;
        let state = |up| LinkChange {
            up: Some(up),
            ..LinkChange::default()
        };
        self.socket.set_link(link.index, &state(false))?;
        let done = self.socket.set_link(link.index, new);
        self.socket.set_link(link.index, &state(true))?;
        for address in addresses.iter().filter(|address| address.scope == 0) {
            self.socket.add_address(link.index, address.cidr, true)?;
        }
        // Those on the link first: the others' gateways are found through them.
        routes.sort_by_key(|route| route.gateway.is_some());
        for route in &routes {
            self.socket.add_route(&RouteSpec {
                gateway: route.gateway,
                interface: route.interface,
                mtu: route.mtu,
                advmss: route.advmss,
                priority: route.priority,
                scope: Cidr::from(route.destination)
                    .is_ipv4()
                    .then_some(route.scope),
                ..RouteSpec::to(route.destination)
            })?;
        }
        done
    }

    /// Puts back what was before. Goes on after a failure; all of them are told.
    pub(crate) fn restore(&mut self, name: &str, backup: &Backup) -> Vec<Error> {
        let mut failures = Vec::new();
        match self.link(name) {
            Err(error) => failures.push(error),
            // Its settings went with it.
            Ok(None) => {}
            Ok(Some(link)) => {
                let change = LinkChange {
                    mtu: Some(backup.mtu).filter(|mtu| *mtu != 0),
                    promisc: backup.promisc,
                    allmulti: backup.allmulti,
                    tx_queue_length: backup.tx_q_len,
                    ..LinkChange::default()
                };
                failures.extend(self.change(&link, &change).err());
                if let Ok(mac) = backup.mac.parse::<Mac>() {
                    failures.extend(self.set_mac(&link, mac.0).err());
                }
            }
        }
        if backup.sysctl.is_empty() {
            return failures;
        }
        let sysctls = self.netns.run(|| {
            let mut failures = Vec::new();
            for (path, value) in &backup.sysctl {
                match sysctl::read(path) {
                    Ok(current) if plan::same(&current, &value.set) => {}
                    // Set by another program since.
                    Ok(_) => continue,
                    // Of an interface that is gone.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    // What it is now is not known; what it was before is right.
                    Err(_) => {}
                }
                if let Err(source) = sysctl::write_if_different(path, &value.before) {
                    let path = path.clone();
                    failures.push(SettingError::NotRestored { path, source }.into());
                }
            }
            failures
        });
        match sysctls {
            Ok(more) => failures.extend(more),
            Err(error) => failures.push(netns_error(error)),
        }
        failures
    }
}

/// Whether a parameter that exists has nothing to be read: it is an order rather than a value (mode 0200,
/// which the kernel holds root to as well), or an IPv6 secret that has not been set, which reads as EIO.
fn has_no_value(path: &str, error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
        || (path.ends_with("/stable_secret") && error.raw_os_error() == Some(Errno::EIO as i32))
}

fn refusal(sysctl: &Sysctl, source: io::Error) -> Parameter {
    Parameter {
        path: sysctl.path.clone(),
        source,
    }
}
