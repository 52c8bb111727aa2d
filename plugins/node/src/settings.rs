//! The agent's configuration: `/etc/pontoon/node.toml`.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use pontoon_conf::ContainerId;
use serde::Deserialize;

/// Where the configuration is when nothing else is said.
pub(crate) const FILE: &str = "/etc/pontoon/node.toml";
/// Where runtimes read network configurations.
const CONFLISTS: &str = "/etc/cni/net.d";
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}; plugins/node/README.md has an example")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is no TOML, has a key that is not known, or lacks one.
    #[error("{path} is no configuration of pontoon-node: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// The values contradict each other or are not possible.
    #[error("{path}: {problem}")]
    Value {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the next step.
        problem: String,
    },
}

/// The keys of the file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The id of this host. It must differ from the ids of all other hosts, and must not change.
    #[serde(default)]
    pub(crate) host: String,
    /// Folder of the network configurations.
    #[serde(default = "default_conflists")]
    pub(crate) conflists: PathBuf,
    /// The key-value store.
    pub(crate) etcd: Etcd,
    /// This host's end of the tunnels.
    #[serde(default)]
    pub(crate) underlay: UnderlaySettings,
}

/// How etcd is reached.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Etcd {
    /// `http://` or `https://` and address and port of each member; the first one is asked first.
    pub(crate) endpoints: Vec<String>,
    /// File of the certificate authorities that members are checked against.
    #[serde(default)]
    pub(crate) ca: Option<PathBuf>,
    /// File of this host's certificate.
    #[serde(default)]
    pub(crate) certificate: Option<PathBuf>,
    /// File of the certificate's private key.
    #[serde(default)]
    pub(crate) key: Option<PathBuf>,
    /// The members' `--quota-backend-bytes`, which they tell from etcd 3.6 on only: `pontoon doctor` compares with it.
    #[serde(default)]
    pub(crate) quota: Option<i64>,
}

/// Where the other hosts reach this one: the interface of the default route when nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UnderlaySettings {
    /// The interface whose first global address of each family it is.
    #[serde(default)]
    pub(crate) interface: Option<String>,
    /// The addresses, at most one of each family.
    #[serde(default)]
    pub(crate) addresses: Vec<IpAddr>,
}

fn default_conflists() -> PathBuf {
    CONFLISTS.into()
}

impl Settings {
    /// Reads a file.
    ///
    /// # Errors
    /// When the file cannot be read or is no configuration.
    pub(crate) fn read(path: &Path) -> Result<Self, SettingsError> {
        let text = fs::read_to_string(path).map_err(|source| SettingsError::Read {
            path: path.to_owned(),
            source,
        })?;
        let hostname = fs::read_to_string(HOSTNAME).unwrap_or_default();
        Self::parse(&text, path, hostname.trim())
    }

    /// Reads the text of a file. `path` is only named; `hostname` is the host's id where the text has none.
    pub(crate) fn parse(text: &str, path: &Path, hostname: &str) -> Result<Self, SettingsError> {
        let mut settings: Self = toml::from_str(text).map_err(|source| SettingsError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        if settings.host.is_empty() {
            hostname.clone_into(&mut settings.host);
        }
        match settings.problem() {
            None => Ok(settings),
            Some(problem) => Err(SettingsError::Value {
                path: path.to_owned(),
                problem,
            }),
        }
    }

    fn problem(&self) -> Option<String> {
        // An id is part of etcd's keys and of messages: the characters of a container's id do for it.
        if let Err(error) = self.host.parse::<ContainerId>() {
            let error = error.to_string().replace("container id", "host id");
            return Some(format!("{error}: write another one at `host`"));
        }
        let endpoints = &self.etcd.endpoints;
        if endpoints.is_empty() {
            return Some("`etcd.endpoints` is empty: name the members of etcd".to_owned());
        }
        let plain = |endpoint: &&String| {
            !endpoint.starts_with("http://") && !endpoint.starts_with("https://")
        };
        if let Some(wrong) = endpoints.iter().find(plain) {
            return Some(format!(
                "the endpoint {wrong:?} begins with neither http:// nor https://"
            ));
        }
        let tls = endpoints
            .iter()
            .filter(|it| it.starts_with("https://"))
            .count();
        if tls != 0 && tls != endpoints.len() {
            return Some("some of `etcd.endpoints` are https:// and some are not".to_owned());
        }
        let files = [&self.etcd.ca, &self.etcd.certificate, &self.etcd.key];
        if tls == 0 && files.iter().any(|file| file.is_some()) {
            return Some(
                "there are TLS files, and the endpoints are http://: write https://".to_owned(),
            );
        }
        if self.etcd.certificate.is_some() != self.etcd.key.is_some() {
            return Some("`etcd.certificate` and `etcd.key` go together".to_owned());
        }
        let underlay = &self.underlay;
        if underlay.interface.is_some() && !underlay.addresses.is_empty() {
            return Some("`underlay` has both an interface and addresses: keep one".to_owned());
        }
        let count = |v4: bool| {
            underlay
                .addresses
                .iter()
                .filter(|it| it.is_ipv4() == v4)
                .count()
        };
        if count(true) > 1 || count(false) > 1 {
            return Some("`underlay.addresses` has two of one family: keep one".to_owned());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "[etcd]\nendpoints = [\"http://192.0.2.1:2379\"]\n";

    fn parse(text: &str) -> Result<Settings, String> {
        Settings::parse(text, Path::new("/x/node.toml"), "h1").map_err(|error| error.to_string())
    }

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let error = parse(text).unwrap_err();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("/x/node.toml"), "{error}");
    }

    #[test]
    fn the_least_that_a_file_may_say() {
        let settings = parse(LEAST).unwrap();
        assert_eq!(settings.host, "h1");
        assert_eq!(settings.conflists, Path::new("/etc/cni/net.d"));
        assert_eq!(settings.underlay, UnderlaySettings::default());
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        refused(&format!("hots = \"a\"\n{LEAST}"), "unknown field `hots`");
        refused(
            &format!("{LEAST}endpoint = 1\n"),
            "unknown field `endpoint`",
        );
        refused(
            &format!("{LEAST}[underlay]\ninterfaces = 1\n"),
            "unknown field `interfaces`",
        );
        refused("host = \"h\"\n", "missing field `etcd`");
    }

    #[test]
    fn values_that_cannot_be_are_told() {
        refused("[etcd]\nendpoints = []\n", "etcd.endpoints");
        refused(
            "[etcd]\nendpoints = [\"192.0.2.1:2379\"]\n",
            "192.0.2.1:2379",
        );
        refused(&format!("host = \"a/b\"\n{LEAST}"), "the host id");
        refused(&format!("{LEAST}ca = \"/x\"\n"), "https://");
        let tls = "[etcd]\nendpoints = [\"https://192.0.2.1:2379\"]\n";
        refused(&format!("{tls}key = \"/x\"\n"), "go together");
        refused(
            "[etcd]\nendpoints = [\"https://192.0.2.1:1\", \"http://192.0.2.2:1\"]\n",
            "some are not",
        );
        let both = "[underlay]\ninterface = \"eth0\"\naddresses = [\"192.0.2.1\"]\n";
        refused(&format!("{LEAST}{both}"), "keep one");
        let twice = "[underlay]\naddresses = [\"192.0.2.1\", \"192.0.2.2\"]\n";
        refused(&format!("{LEAST}{twice}"), "two of one family");
    }
}
