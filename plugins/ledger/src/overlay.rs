//! What a host knows of the networks that it shares with other hosts. The agent writes these files, `overlay` reads
//! them on ADD, and both bring them into the kernel by `pontoon-overlay`.
//!
//! ```text
//! /var/lib/pontoon/overlay/             of the initial network namespace
//! /var/lib/pontoon/netns-COOKIE/overlay/  of any other namespace that plugins run in
//!     NETWORK.json                      the network and this host's part of it, `OverlayNetwork`
//!     NETWORK.peers.json                the other hosts, `OverlayPeers`
//!     .draft/PID-NUMBER                 a file that is being written, until it has its name
//! ```
//!
//! They survive a reboot: a host that comes back uses the blocks that it had. What is written is therefore on the
//! disk when a write returns.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use pontoon_conf::{Cidr, Error, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{FileError, OverlayError};
use crate::record::Record;
use crate::{RecordError, directory, draft, file, state};

/// Where files lie that survive a reboot.
const ROOT: &str = "/var/lib/pontoon";
const FOLDER: &str = "overlay";
const DRAFTS: &str = ".draft";
const NETWORK: &str = ".json";
const PEERS: &str = ".peers.json";
/// The UDP port of VXLAN (RFC 7348, section 5).
const PORT: u16 = 4789;
/// A VNI has 24 bits (RFC 7348, section 5).
const LARGEST_VNI: u32 = 0xff_ffff;
/// Bytes of an interface name (`IFNAMSIZ` less its closing zero), less those of [`PREFIX`].
const NAME_ROOM: usize = 15 - PREFIX.len();
const PREFIX: &str = "vx-";

/// A network of several hosts, and what this host has of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayNetwork {
    /// Network name.
    pub network: String,
    /// The subnets of the whole network, at most one of each family.
    pub subnets: Vec<OverlaySubnet>,
    /// The network's number in the tunnel, 1 to 16,777,215.
    pub vni: u32,
    /// UDP port of the tunnel.
    #[serde(default = "default_port")]
    pub port: u16,
    /// How packets get to the other hosts.
    #[serde(default)]
    pub mode: OverlayMode,
    /// The id of this host.
    pub host: String,
    /// Where this host's end of the tunnel is.
    pub underlay: Underlay,
    /// The parts of the subnets that belong to this host. Containers get their addresses from the first ones first.
    pub blocks: Vec<Cidr>,
    /// The parts of the subnets that services have their addresses of: no host's blocks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Cidr>,
}

/// A subnet of a network, which is cut into blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlaySubnet {
    /// The whole subnet.
    pub subnet: Cidr,
    /// The prefix length of each block.
    pub block_prefix: u8,
}

/// How packets get to the other hosts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OverlayMode {
    /// In UDP packets (RFC 7348).
    Vxlan,
    /// As they are, with the other host as the next hop: it must be on the same link.
    Direct,
    /// Each host that is on the same link as `direct` says, any other as `vxlan` says.
    #[default]
    Auto,
}

/// Addresses of a host in the network below. All hosts of a network have one of the same family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Underlay {
    /// IPv4. The tunnel uses it when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v4: Option<Ipv4Addr>,
    /// IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v6: Option<Ipv6Addr>,
}

/// The other hosts of a network, as a whole: a host that is not listed is no host of the network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayPeers {
    /// One entry a host.
    pub peers: Vec<OverlayPeer>,
}

/// Another host of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayPeer {
    /// Its id.
    pub host: String,
    /// Where its end of the tunnel is.
    pub underlay: Underlay,
    /// The hardware address of its tunnel device, [`tunnel_mac`].
    pub mac: Mac,
    /// The parts of the subnets that belong to it.
    pub blocks: Vec<Cidr>,
    /// Whether it is on the same link; `None`: it is when its address is in the subnet of this host's tunnel address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct: Option<bool>,
    /// Key for encrypted packets, when there will be such: nothing reads it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
}

const fn default_port() -> u16 {
    PORT
}

impl Record for OverlayNetwork {
    const WHAT: &'static str = "record of an overlay network";
}

impl Record for OverlayPeers {
    const WHAT: &'static str = "list of the hosts of an overlay network";
}

impl fmt::Display for OverlayMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vxlan => "vxlan",
            Self::Direct => "direct",
            Self::Auto => "auto",
        })
    }
}

impl Underlay {
    /// An address of one family.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self {
                v4: Some(v4),
                v6: None,
            },
            IpAddr::V6(v6) => Self {
                v4: None,
                v6: Some(v6),
            },
        }
    }

    /// The address of this family.
    #[must_use]
    pub fn family(&self, v4: bool) -> Option<IpAddr> {
        if v4 {
            self.v4.map(IpAddr::from)
        } else {
            self.v6.map(IpAddr::from)
        }
    }

    /// The address that the tunnel of this host uses: IPv4 when there is one.
    #[must_use]
    pub fn tunnel(&self) -> Option<IpAddr> {
        self.family(true).or_else(|| self.family(false))
    }
}

impl OverlayNetwork {
    /// Whether some subnet of the network has addresses of this family.
    #[must_use]
    pub fn has_family(&self, v4: bool) -> bool {
        self.subnets.iter().any(|it| it.subnet.is_ipv4() == v4)
    }

    /// This host's blocks of one family, in their order.
    pub fn blocks_of(&self, v4: bool) -> impl Iterator<Item = Cidr> + '_ {
        self.blocks
            .iter()
            .copied()
            .filter(move |block| block.is_ipv4() == v4)
    }

    /// What is wrong with the values: a sentence without subject, for behind the name of the file.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let Self { vni, port, .. } = self;
        if *vni == 0 || *vni > LARGEST_VNI {
            return Some(format!(
                "has the VNI {vni}; 1 to {LARGEST_VNI} are possible"
            ));
        }
        if *port == 0 {
            return Some("has port 0 for its tunnel".to_owned());
        }
        if self.host.is_empty() {
            return Some("has no id of this host".to_owned());
        }
        if self.underlay.tunnel().is_none() {
            return Some("has no address of this host's end of the tunnel".to_owned());
        }
        for v4 in [true, false] {
            let same = |it: &&OverlaySubnet| it.subnet.is_ipv4() == v4;
            if self.subnets.iter().filter(same).count() > 1 {
                let family = if v4 { "IPv4" } else { "IPv6" };
                return Some(format!("has more than one {family} subnet"));
            }
        }
        let foreign = |block: &&Cidr| {
            let inside = |it: &OverlaySubnet| {
                it.subnet.contains(block.addr()) && it.subnet.prefix() <= block.prefix()
            };
            !self.subnets.iter().any(inside) || block.network() != **block
        };
        if let Some(block) = self.blocks.iter().find(foreign) {
            return Some(format!(
                "has the block {block}, which is no part of the network's subnets"
            ));
        }
        self.services.iter().find(foreign).map(|range| {
            format!("has the range {range} for services, which is no part of the network's subnets")
        })
    }
}

/// Name of the tunnel device of a network: a function of the network, so that it is found without any record.
///
/// `vx-NETWORK`, or `vx-` and 12 hexadecimal digits of the network's digest when the name is longer than 12 bytes.
#[must_use]
pub fn device(network: &str) -> String {
    if network.len() <= NAME_ROOM {
        return format!("{PREFIX}{network}");
    }
    let mut name = PREFIX.to_owned();
    for byte in Sha256::digest(network.as_bytes())
        .iter()
        .take(NAME_ROOM / 2)
    {
        name.push_str(&format!("{byte:02x}"));
    }
    name
}

/// Hardware address of a host's tunnel devices: `02:70` and four bytes of the host id's digest. A function of the
/// host, so that a host which comes back has the address that the others know.
#[must_use]
pub fn tunnel_mac(host: &str) -> Mac {
    let digest = Sha256::digest(host.as_bytes());
    Mac([0x02, 0x70, digest[0], digest[1], digest[2], digest[3]])
}

/// The directory of these files.
#[derive(Debug, Clone)]
pub struct OverlayFiles {
    dir: PathBuf,
}

impl OverlayFiles {
    /// Finds the directory of the network namespace that the program runs in, as
    /// [`State::locate`](crate::State::locate) does.
    ///
    /// # Errors
    /// As [`State::locate`](crate::State::locate).
    pub fn locate() -> Result<Self, Error> {
        let root = Path::new(ROOT);
        directory::check(root)?;
        Ok(Self::at(&state::of_this_namespace(root)?.join(FOLDER)))
    }

    /// The files in a directory of the caller's choice.
    #[must_use]
    pub fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file of [`OverlayNetwork`].
    #[must_use]
    pub fn network_path(&self, network: &str) -> PathBuf {
        self.dir.join(format!("{network}{NETWORK}"))
    }

    /// The file of [`OverlayPeers`].
    #[must_use]
    pub fn peers_path(&self, network: &str) -> PathBuf {
        self.dir.join(format!("{network}{PEERS}"))
    }

    /// Reads a network; `None` when there is no file.
    ///
    /// # Errors
    /// When there is one and it cannot be read, or another version wrote it.
    pub fn read_network(&self, network: &str) -> Result<Option<OverlayNetwork>, RecordError> {
        file::read(&self.network_path(network))
    }

    /// Reads the other hosts of a network; `None` when there is no file.
    ///
    /// # Errors
    /// When there is one and it cannot be read, or another version wrote it.
    pub fn read_peers(&self, network: &str) -> Result<Option<OverlayPeers>, RecordError> {
        file::read(&self.peers_path(network))
    }

    /// Writes a network. It is on the disk then, complete.
    ///
    /// # Errors
    /// Code 5 with the path; code 7 when no file can be called so, or the values contradict each other.
    pub fn write_network(&self, network: &OverlayNetwork) -> Result<(), Error> {
        let path = self.network_path(named(&network.network)?);
        if let Some(problem) = network.problem() {
            return Err(OverlayError::Values { path, problem }.into());
        }
        Ok(self.write(&path, network)?)
    }

    /// Writes the other hosts of a network. The list is on the disk then, complete.
    ///
    /// # Errors
    /// Code 5 with the path; code 7 when no file can be called so.
    pub fn write_peers(&self, network: &str, peers: &OverlayPeers) -> Result<(), Error> {
        Ok(self.write(&self.peers_path(named(network)?), peers)?)
    }

    /// Removes both files of a network; success when there are none.
    ///
    /// # Errors
    /// Code 5 with the path.
    pub fn remove(&self, network: &str) -> Result<(), Error> {
        let peers = file::remove(&self.peers_path(network));
        file::remove(&self.network_path(network)).and(peers)?;
        Ok(())
    }

    /// The networks that have a file of [`OverlayNetwork`], by name.
    ///
    /// # Errors
    /// Code 5 with the directory that cannot be listed.
    pub fn networks(&self) -> Result<Vec<String>, Error> {
        let names = file::list(&self.dir)?;
        let network = |name: &String| {
            let name = name.strip_suffix(NETWORK)?;
            named(name).is_ok().then(|| name.to_owned())
        };
        let mut networks: Vec<String> = names.iter().filter_map(network).collect();
        networks.sort_unstable();
        Ok(networks)
    }

    fn write<R: Record>(&self, path: &Path, record: &R) -> Result<(), FileError> {
        let drafts = self.dir.join(DRAFTS);
        draft::sweep(&drafts);
        file::write_to_disk(&drafts, path, record)
    }
}

/// A network whose files have names of their own: those of network `x.peers` would be the lists of network `x`.
fn named(network: &str) -> Result<&str, OverlayError> {
    let plain = !network.is_empty() && !network.contains('/') && !network.starts_with('.');
    if plain && !network.ends_with(".peers") {
        return Ok(network);
    }
    let network = network.to_owned();
    Err(OverlayError::Name { network })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn network(name: &str) -> OverlayNetwork {
        OverlayNetwork {
            network: name.to_owned(),
            subnets: vec![
                OverlaySubnet {
                    subnet: cidr("10.5.0.0/16"),
                    block_prefix: 24,
                },
                OverlaySubnet {
                    subnet: cidr("fd00:5::/48"),
                    block_prefix: 64,
                },
            ],
            vni: 5,
            port: 4789,
            mode: OverlayMode::Auto,
            host: "h1".to_owned(),
            underlay: Underlay::of("198.18.60.1".parse().unwrap()),
            blocks: vec![cidr("10.5.1.0/24"), cidr("fd00:5:0:1::/64")],
            services: Vec::new(),
        }
    }

    #[test]
    fn what_is_written_is_read_and_only_root_sees_it() {
        let dir = tempfile::tempdir().unwrap();
        let files = OverlayFiles::at(&dir.path().join("overlay"));
        assert_eq!(files.networks().unwrap(), Vec::<String>::new());
        assert!(files.read_network("lan").unwrap().is_none());
        files.write_network(&network("lan")).unwrap();
        assert_eq!(files.read_network("lan").unwrap(), Some(network("lan")));
        let peers = OverlayPeers {
            peers: vec![OverlayPeer {
                host: "h2".to_owned(),
                underlay: Underlay::of("2001:db8::2".parse().unwrap()),
                mac: tunnel_mac("h2"),
                blocks: vec![cidr("10.5.2.0/24")],
                direct: Some(true),
                public_key: None,
            }],
        };
        files.write_peers("lan", &peers).unwrap();
        assert_eq!(files.read_peers("lan").unwrap(), Some(peers));
        assert_eq!(files.networks().unwrap(), ["lan"]);
        let path = files.network_path("lan");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(files.dir()).unwrap().mode() & 0o777, 0o700);
        assert!(
            fs::read_to_string(path)
                .unwrap()
                .starts_with("{\"version\":1,")
        );
        files.remove("lan").unwrap();
        files.remove("lan").unwrap();
        assert_eq!(files.networks().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn the_least_that_a_file_may_say() {
        let text = br#"{"version":1,"network":"lan","subnets":[{"subnet":"10.5.0.0/16","block_prefix":24}],
            "vni":7,"host":"h1","underlay":{"v4":"198.18.60.1"},"blocks":[]}"#;
        let read = OverlayNetwork::parse(text, Path::new("/x")).unwrap();
        assert_eq!((read.port, read.mode), (4789, OverlayMode::Auto));
        assert_eq!(read.problem(), None);
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut OverlayNetwork), expected: &str) {
        let mut network = network("lan");
        change(&mut network);
        let problem = network.problem().unwrap_or_default();
        assert!(problem.contains(expected), "{problem:?}");
    }

    #[test]
    fn values_that_cannot_be_are_told() {
        check(|it| it.vni = 0, "VNI 0");
        check(|it| it.vni = 1 << 24, "VNI 16777216");
        check(|it| it.port = 0, "port 0");
        check(|it| it.host.clear(), "no id");
        check(|it| it.underlay = Underlay::default(), "no address");
        check(|it| it.blocks.push(cidr("10.6.1.0/24")), "10.6.1.0/24");
        check(|it| it.blocks.push(cidr("10.5.1.7/24")), "10.5.1.7/24");
        check(|it| it.blocks.push(cidr("10.0.0.0/8")), "10.0.0.0/8");
        let twice = |it: &mut OverlayNetwork| it.subnets.push(it.subnets[0]);
        check(twice, "more than one IPv4 subnet");
    }

    #[test]
    fn two_networks_never_share_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let files = OverlayFiles::at(dir.path());
        for name in ["lan.peers", "", "../lan", ".lan"] {
            let error = files.write_network(&network(name)).unwrap_err();
            assert!(error.msg.contains("cannot be the name"), "{error:?}");
            files
                .write_peers(name, &OverlayPeers::default())
                .unwrap_err();
        }
    }

    #[test]
    fn devices_and_their_addresses_are_functions_of_network_and_host() {
        assert_eq!(device("lan"), "vx-lan");
        assert_eq!(device("twelve-bytes").len(), 15);
        let long = device("a-network-with-a-long-name");
        assert_eq!(long.len(), 15);
        assert_ne!(long, device("a-network-with-a-long-nam"));
        let mac = tunnel_mac("h1");
        assert_eq!(mac.0[..2], [0x02, 0x70]);
        assert!(mac.is_unicast());
        assert_eq!(mac, tunnel_mac("h1"));
        assert_ne!(mac, tunnel_mac("h2"));
    }
}
