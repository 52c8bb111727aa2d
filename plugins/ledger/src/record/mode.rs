//! Records of the plugins that put a container into a namespace that is there already, or into none.

use std::path::{Path, PathBuf};

use pontoon_conf::{Dns, Error, KnownAs};
use pontoon_netlink::Netns;
use serde::{Deserialize, Serialize};

use super::{AttachmentRecord, Record};
use crate::{AttachmentSummary, Key, Sandbox, State};

/// One path that a mount makes lead to a namespace which is not its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebind {
    /// Where the container's own namespace is mounted.
    pub path: String,
    /// The container's own namespace, by inode number: alive as long as it is mounted there.
    pub own: u64,
    /// The namespace that it shares, by inode number.
    pub shared: u64,
}

impl Rebind {
    /// Whether neither namespace is at the path any more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match Netns::open(Path::new(&self.path)) {
            Ok(netns) => ![self.own, self.shared].contains(&netns.id().ino),
            Err(_) => true,
        }
    }
}

/// A symbolic link by which one container reads the files of names of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileLink {
    /// The link.
    pub path: PathBuf,
    /// The name beside it that it leads to.
    pub to: String,
}

/// container's record of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// The other container's namespace, where it was found.
    pub sandbox: Sandbox,
    /// Id of the other container; `None` when it was named by path.
    pub container: Option<String>,
    /// The mount over `CNI_NETNS`; `None` when the path led there before.
    pub rebind: Option<Rebind>,
    /// The other container's DNS settings.
    #[serde(default)]
    pub dns: Dns,
    /// The container's names, without its id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<KnownAs>,
    /// Links to the other container's files of names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileLink>,
}

/// host's record of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    /// The host's namespace, at the container's path.
    pub sandbox: Sandbox,
    /// The mount over `CNI_NETNS`; `None` when the path was the host's before.
    pub rebind: Option<Rebind>,
    /// The container's names, without its id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<KnownAs>,
}

/// none's record of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoneRecord {
    /// The container's namespace.
    pub sandbox: Sandbox,
    /// The loopback interface was up before ADD.
    pub was_up: bool,
    /// The container's names, without its id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<KnownAs>,
}

fn named(sandbox: &Sandbox, names: &[KnownAs]) -> AttachmentSummary {
    AttachmentSummary {
        names: names.iter().map(ToString::to_string).collect(),
        ..AttachmentSummary::of(sandbox)
    }
}

/// The container is alive as long as one of its namespaces is at the path that was re-bound.
fn may_be_alive(
    state: &State,
    key: &Key,
    rebind: Option<&Rebind>,
    sandbox: &Sandbox,
) -> Result<bool, Error> {
    match rebind {
        Some(rebind) => Ok(!rebind.is_gone()),
        None => Ok(!state.is_gone_for_good(key, sandbox)?),
    }
}

impl Record for ContainerRecord {
    const WHAT: &'static str = "record of plugin container";
}

impl AttachmentRecord for ContainerRecord {
    const PLUGIN: &'static str = "container";

    fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    fn may_be_alive(&self, state: &State, key: &Key) -> Result<bool, Error> {
        may_be_alive(state, key, self.rebind.as_ref(), &self.sandbox)
    }

    fn about(&self) -> AttachmentSummary {
        AttachmentSummary {
            dns: Some(self.dns.clone()),
            container: self.container.clone(),
            ..named(&self.sandbox, &self.names)
        }
    }
}

impl Record for HostRecord {
    const WHAT: &'static str = "record of plugin host";
}

impl AttachmentRecord for HostRecord {
    const PLUGIN: &'static str = "host";

    fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    fn may_be_alive(&self, state: &State, key: &Key) -> Result<bool, Error> {
        may_be_alive(state, key, self.rebind.as_ref(), &self.sandbox)
    }

    fn about(&self) -> AttachmentSummary {
        named(&self.sandbox, &self.names)
    }
}

impl Record for NoneRecord {
    const WHAT: &'static str = "record of plugin none";
}

impl AttachmentRecord for NoneRecord {
    const PLUGIN: &'static str = "none";

    fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    fn about(&self) -> AttachmentSummary {
        named(&self.sandbox, &self.names)
    }
}
