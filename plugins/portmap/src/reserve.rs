//! Host ports belong to one attachment at a time.
//!
//! A reservation is a symbolic link in the state directory whose target names the owner: made,
//! read and refused by one system call each, however many there are.
//!
//! ```text
//! ports/tcp4/8080            -> NETWORK/CONTAINER:IFNAME     every address of the host
//! ports/tcp4/8443/10.0.0.1   -> NETWORK/CONTAINER:IFNAME     one address (8443 is a directory)
//! ```

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use pontoon_netfilter::{Port, Published};
use pontoon_plugin::Key;

/// The reservations of a host. All calls need the lock of the caller.
pub(crate) struct Reservations {
    dir: PathBuf,
}

/// Why a port could not be reserved.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It belongs to another attachment.
    Taken(Port, Key),
    Io(PathBuf, io::Error),
}

impl Reservations {
    pub(crate) fn at(state: &Path) -> Self {
        Self {
            dir: state.join("ports"),
        }
    }

    /// Reserves all ports of an attachment; those it has already are fine.
    pub(crate) fn take(&self, published: &Published) -> Result<(), Refusal> {
        let owner = name(published);
        for port in &published.ports {
            for v4 in families(published, port) {
                self.take_one(port, v4, &owner)?;
            }
        }
        Ok(())
    }

    /// Gives back what of these ports belongs to this attachment.
    pub(crate) fn give_back(&self, published: &Published) -> io::Result<()> {
        let owner = name(published);
        for port in &published.ports {
            for v4 in families(published, port) {
                let path = self.path(port, v4);
                if fs::read_link(&path).is_ok_and(|held| held.as_os_str() == owner.as_str()) {
                    fs::remove_file(&path)?;
                    if specific(port).is_some() {
                        // Fails while other addresses have the port.
                        let _ = path.parent().map(fs::remove_dir);
                    }
                }
            }
        }
        // Each fails while it is not empty.
        for dir in ["tcp4", "udp4", "sctp4", "tcp6", "udp6", "sctp6", ""] {
            let _ = fs::remove_dir(self.dir.join(dir));
        }
        Ok(())
    }

    /// Ports of these that do not belong to the attachment any more.
    pub(crate) fn missing(&self, published: &Published) -> Vec<Port> {
        let owner = name(published);
        let held = |port: &Port, v4| {
            fs::read_link(self.path(port, v4)).is_ok_and(|held| held.as_os_str() == owner.as_str())
        };
        published
            .ports
            .iter()
            .filter(|port| !families(published, port).all(|v4| held(port, v4)))
            .copied()
            .collect()
    }

    fn take_one(&self, port: &Port, v4: bool, owner: &str) -> Result<(), Refusal> {
        let path = self.path(port, v4);
        loop {
            let error = match symlink(owner, &path) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            match error.kind() {
                io::ErrorKind::NotFound => {
                    let dir = path.parent().unwrap_or(&self.dir);
                    if let Err(error) = fs::create_dir_all(dir) {
                        // Where the directory of a port should be, its reservation for every
                        // address stands.
                        return Err(self.holder(dir, port).unwrap_or(Refusal::Io(path, error)));
                    }
                }
                io::ErrorKind::NotADirectory => {
                    let dir = path.parent().unwrap_or(&self.dir);
                    return Err(self
                        .holder(dir, port)
                        .unwrap_or(Refusal::Io(path.clone(), error)));
                }
                io::ErrorKind::AlreadyExists => {
                    return match self.holder(&path, port) {
                        Some(Refusal::Taken(_, key)) if file_name(&key) == owner => Ok(()),
                        Some(refusal) => Err(refusal),
                        None => Err(Refusal::Io(path, error)),
                    };
                }
                _ => return Err(Refusal::Io(path, error)),
            }
        }
    }

    /// Who holds a path: itself a reservation, or a directory of reservations for single addresses.
    fn holder(&self, path: &Path, port: &Port) -> Option<Refusal> {
        let link = fs::read_link(path).ok().or_else(|| {
            let first = fs::read_dir(path).ok()?.flatten().next()?;
            fs::read_link(first.path()).ok()
        })?;
        Some(Refusal::Taken(*port, parse(link.to_str()?)?))
    }

    fn protocol_dir(&self, port: &Port, v4: bool) -> PathBuf {
        self.dir
            .join(format!("{}{}", port.protocol, if v4 { 4 } else { 6 }))
    }

    fn path(&self, port: &Port, v4: bool) -> PathBuf {
        let path = self.protocol_dir(port, v4).join(port.host_port.to_string());
        match specific(port) {
            Some(ip) => path.join(ip.to_string()),
            None => path,
        }
    }
}

/// The one address that a port is published at, if it is only one.
fn specific(port: &Port) -> Option<IpAddr> {
    port.host_ip.filter(|ip| !ip.is_unspecified())
}

/// The families that a port is published in: IPv4 is true.
fn families(published: &Published, port: &Port) -> impl Iterator<Item = bool> + use<> {
    let wanted = |v4: bool| port.host_ip.is_none_or(|ip| ip.is_ipv4() == v4);
    let v4 = (published.v4.is_some() && wanted(true)).then_some(true);
    let v6 = (published.v6.is_some() && wanted(false)).then_some(false);
    v4.into_iter().chain(v6)
}

fn name(published: &Published) -> String {
    file_name(&Key {
        network: published.owner.network.clone(),
        container: published.owner.container.clone(),
        interface: published.owner.interface.clone(),
    })
}

fn file_name(key: &Key) -> String {
    format!("{}/{}:{}", key.network, key.container, key.interface)
}

fn parse(name: &str) -> Option<Key> {
    let (network, rest) = name.split_once('/')?;
    let (container, interface) = rest.split_once(':')?;
    Some(Key {
        network: network.to_owned(),
        container: container.to_owned(),
        interface: interface.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use pontoon_netfilter::{Mark, Owner, Protocol};

    use super::*;

    fn published(container: &str, host_ip: Option<&str>, host_port: u16) -> Published {
        Published {
            owner: Owner {
                network: "net".into(),
                container: container.into(),
                interface: "eth0".into(),
            },
            v4: Some("10.1.0.2/24".parse().unwrap()),
            v6: Some("fd00::2/64".parse().unwrap()),
            ports: vec![Port {
                protocol: Protocol::Tcp,
                host_ip: host_ip.map(|ip| ip.parse().unwrap()),
                host_port,
                container_port: 80,
            }],
            snat: true,
            masquerade_all: false,
            mark: Mark::Bit(13),
            conditions_v4: Vec::new(),
            conditions_v6: Vec::new(),
        }
    }

    #[track_caller]
    fn taken_by(result: Result<(), Refusal>, container: &str) {
        match result {
            Err(Refusal::Taken(_, key)) => assert_eq!(key.container, container),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_owner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let ports = Reservations::at(dir.path());
        let (a, b) = (published("a", None, 8080), published("b", None, 8080));
        ports.take(&a).unwrap();
        ports.take(&a).unwrap();
        assert!(ports.missing(&a).is_empty());
        taken_by(ports.take(&b), "a");
        ports.give_back(&b).unwrap();
        assert!(
            ports.missing(&a).is_empty(),
            "only one's own ports are given back"
        );
        ports.give_back(&a).unwrap();
        ports.take(&b).unwrap();
        ports.give_back(&b).unwrap();
        assert!(!dir.path().join("ports").exists());
    }

    #[test]
    fn every_address_excludes_each_single_one() {
        let dir = tempfile::tempdir().unwrap();
        let ports = Reservations::at(dir.path());
        let all = published("all", None, 80);
        let (one, two) = (
            published("one", Some("10.0.0.1"), 80),
            published("two", Some("10.0.0.2"), 80),
        );
        ports.take(&all).unwrap();
        taken_by(ports.take(&one), "all");
        ports.give_back(&all).unwrap();
        ports.take(&one).unwrap();
        ports.take(&two).unwrap();
        assert!(matches!(ports.take(&all), Err(Refusal::Taken(..))));
        taken_by(ports.take(&published("three", Some("10.0.0.1"), 80)), "one");
        // 0.0.0.0 is every IPv4 address.
        assert!(matches!(
            ports.take(&published("four", Some("0.0.0.0"), 80)),
            Err(Refusal::Taken(..))
        ));
        ports.take(&published("five", Some("::"), 80)).unwrap();
        for owner in [&all, &one, &two, &published("five", Some("::"), 80)] {
            ports.give_back(owner).unwrap();
        }
        assert!(!dir.path().join("ports").exists());
    }
}
