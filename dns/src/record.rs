//! The record of one attachment: what the `dns` plugin tells the resolver about a container on a
//! network. One JSON file each, written whole by rename; the daemon reads them all at its start and
//! follows them from then on.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use pontoon_netlink::IpNetwork;
use serde::{Deserialize, Serialize};

/// The version of the format. A file of another one is passed over with a warning.
pub const VERSION: u32 = 1;
/// Largest file that is read, in bytes.
pub const LARGEST: u64 = 256 * 1024;

/// What the resolver knows of one container on one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// [`VERSION`].
    pub version: u32,
    /// Network name.
    pub network: String,
    /// Container id.
    pub container: String,
    /// Interface name in the container.
    pub interface: String,
    /// The container's own names; the first one is what its addresses are called (PTR).
    pub names: Vec<String>,
    /// Names that several containers may share.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Names that this container alone has for others.
    #[serde(default)]
    pub links: Vec<Link>,
    /// The container's addresses on this network.
    pub addresses: Vec<IpAddr>,
    /// Where the container reaches the resolver: addresses of the network's bridge.
    #[serde(default)]
    pub gateways: Vec<IpAddr>,
    /// The network's domain.
    pub domain: String,
    /// For how long answers may be kept, in seconds.
    pub ttl: u32,
    /// Servers of the container's own, asked instead of all others, from its namespace.
    #[serde(default)]
    pub servers: Vec<IpAddr>,
    /// Servers of the network, asked instead of the host's.
    #[serde(default)]
    pub upstreams: Vec<IpAddr>,
    /// Servers of the network for names below a domain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<Domain>,
    /// The host's file that names servers for everybody else.
    pub resolv_conf: PathBuf,
    /// Path of the container's network namespace.
    #[serde(default)]
    pub netns: Option<PathBuf>,
    /// The network has no way to the outside, so that its names must not have one either.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub internal: bool,
    /// Subnets of the addresses: servers in them may be asked even where names of the outside may not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<IpNetwork>,
}

/// A name that one container has for another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// A name of the other container.
    pub target: String,
    /// What the linking container calls it.
    pub alias: String,
}

/// Servers that answer for a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    /// Its name.
    pub name: String,
    /// Its servers.
    pub servers: Vec<IpAddr>,
}

/// Why a file is no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It is larger than any record.
    #[error("{path} has {bytes} bytes; a record has at most {LARGEST}")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        bytes: u64,
    },
    /// It is not JSON of a record's shape.
    #[error("{path} is no record: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Another version wrote it.
    #[error("{path} is a record of version {version}; this resolver reads version {VERSION}")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
}

impl Record {
    /// Reads a record from the bytes of its file.
    ///
    /// # Errors
    /// When they are no record of this version. `path` is only named.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, RecordError> {
        let record: Self = serde_json::from_slice(bytes).map_err(|source| RecordError::Parse {
            path: path.to_owned(),
            source,
        })?;
        if record.version != VERSION {
            return Err(RecordError::Version {
                path: path.to_owned(),
                version: record.version,
            });
        }
        Ok(record)
    }

    /// Reads a record; `None` when there is no such file.
    ///
    /// # Errors
    /// When there is one and it is no record.
    pub fn read(path: &Path) -> Result<Option<Self>, RecordError> {
        let failed = |source| RecordError::Read {
            path: path.to_owned(),
            source,
        };
        let bytes = match std::fs::metadata(path) {
            Ok(data) if data.len() > LARGEST => {
                return Err(RecordError::TooLarge {
                    path: path.to_owned(),
                    bytes: data.len(),
                });
            }
            Ok(_) => match std::fs::read(path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(failed(error)),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        Self::parse(&bytes, path).map(Some)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn record(network: &str, container: &str, address: &str) -> Record {
        Record {
            version: VERSION,
            network: network.into(),
            container: container.into(),
            interface: "eth0".into(),
            names: vec![container.into()],
            aliases: Vec::new(),
            links: Vec::new(),
            addresses: vec![address.parse().unwrap()],
            gateways: Vec::new(),
            domain: "dns.pontoon".into(),
            ttl: 5,
            servers: Vec::new(),
            upstreams: Vec::new(),
            domains: Vec::new(),
            resolv_conf: "/etc/resolv.conf".into(),
            netns: None,
            internal: false,
            subnets: Vec::new(),
        }
    }

    #[test]
    fn a_record_survives_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c:eth0");
        assert!(Record::read(&path).unwrap().is_none());
        let mut wanted = record("net", "c", "10.0.0.2");
        wanted.internal = true;
        wanted.subnets = vec!["10.0.0.0/24".parse().unwrap()];
        wanted.links.push(Link {
            target: "db".into(),
            alias: "database".into(),
        });
        std::fs::write(&path, serde_json::to_vec(&wanted).unwrap()).unwrap();
        assert_eq!(Record::read(&path).unwrap(), Some(wanted));
    }

    #[test]
    fn what_is_no_record_is_told_apart() {
        let path = Path::new("x");
        let good = serde_json::to_value(record("net", "c", "10.0.0.2")).unwrap();
        let mut newer = good.clone();
        newer["version"] = 2.into();
        let newer = serde_json::to_vec(&newer).unwrap();
        assert!(matches!(
            Record::parse(&newer, path),
            Err(RecordError::Version { version: 2, .. })
        ));
        let mut more = good;
        more["somethingNew"] = 1.into();
        assert!(Record::parse(&serde_json::to_vec(&more).unwrap(), path).is_ok());
        for bytes in [&b""[..], b"{", b"[]", b"{\"version\":1}"] {
            assert!(matches!(
                Record::parse(bytes, path),
                Err(RecordError::Parse { .. })
            ));
        }
    }
}
