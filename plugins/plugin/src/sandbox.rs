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

    /// Whatever namespace a path leads to.
    #[must_use]
    pub fn at_path(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            id: None,
        }
    }

    /// Whether this is the namespace, as far as is known.
    #[must_use]
    pub fn is(&self, netns: &Netns) -> bool {
        let id = self.id.as_ref();
        id.is_none_or(|id| *id == netns.id().to_string())
    }

    /// Opens the namespace, unless it is gone.
    #[must_use]
    pub fn open(&self) -> Option<Netns> {
        let netns = Netns::open(Path::new(&self.path)).ok()?;
        self.is(&netns).then_some(netns)
    }

    /// Whether the namespace does not exist any more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.open().is_none()
    }
}

impl Context {
    /// The namespace of the call, for taking back what a record tells of: none when it is gone, or
    /// is another one than that of the record. A path may lead elsewhere by now.
    #[must_use]
    pub fn netns_of_record(&self, sandbox: Option<&Sandbox>) -> Option<&Netns> {
        let netns = self.netns_if_alive()?;
        sandbox
            .is_none_or(|sandbox| sandbox.is(netns))
            .then_some(netns)
    }

    /// For GC: whether an attachment stays. When the runtime gives no list, all stay whose
    /// namespace is not known to be gone: what may be alive is never removed.
    #[must_use]
    pub fn is_valid(&self, key: &Key, sandbox: Option<&Sandbox>) -> bool {
        match &self.config.valid_attachments {
            Some(_) => self
                .valid_attachments()
                .contains(&(key.container.clone(), key.interface.clone())),
            None => sandbox.is_none_or(|sandbox| !sandbox.is_gone()),
        }
    }
}
