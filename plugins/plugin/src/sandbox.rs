//! The namespace of an attachment, as records keep it.

use std::path::Path;

use pontoon_netlink::Netns;
use serde::{Deserialize, Serialize};

use crate::{Context, Key};

/// Which network namespace an attachment is in. The path alone does not tell: a new container may
/// have it by now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// `CNI_NETNS` of the ADD.
    pub path: String,
    /// Identity of the namespace; `None` when the path led to none.
    id: Option<String>,
}

impl Sandbox {
    /// The namespace that the verb is about.
    #[must_use]
    pub fn of(context: &Context) -> Self {
        Self {
            path: context.invocation.netns.clone().unwrap_or_default(),
            id: context.netns_if_alive().map(|netns| netns.id().to_string()),
        }
    }

    /// A namespace at a path.
    #[must_use]
    pub fn at(path: &str, netns: &Netns) -> Self {
        Self {
            path: path.to_owned(),
            id: Some(netns.id().to_string()),
        }
    }

    /// Opens the namespace, unless it is gone.
    #[must_use]
    pub fn open(&self) -> Option<Netns> {
        let netns = Netns::open(Path::new(&self.path)).ok()?;
        let same = self
            .id
            .as_ref()
            .is_none_or(|id| *id == netns.id().to_string());
        same.then_some(netns)
    }

    /// Whether the namespace does not exist any more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.open().is_none()
    }
}

impl Context {
    /// For GC: whether an attachment stays. When the runtime gives no list, all stay whose
    /// namespace is not known to be gone: what may be alive is never removed.
    #[must_use]
    pub fn is_valid(&self, key: &Key, sandbox: Option<&Sandbox>) -> bool {
        match &self.config.valid_attachments {
            Some(valid) => valid.iter().any(|attachment| {
                attachment.container_id.as_ref() == key.container
                    && attachment.ifname.as_ref() == key.interface
            }),
            None => sandbox.is_none_or(|sandbox| !sandbox.is_gone()),
        }
    }
}
