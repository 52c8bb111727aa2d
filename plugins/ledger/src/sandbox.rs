//! The namespace of an attachment, as records keep it.

use std::path::Path;

use pontoon_conf::Error;
use pontoon_netlink::{Netns, NetnsError};
use serde::{Deserialize, Serialize};

use crate::error::LivenessError;

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
    /// The namespace at a path, with its identity; `None` when the path leads to none.
    #[must_use]
    pub fn new(path: &str, netns: Option<&Netns>) -> Self {
        Self {
            path: path.to_owned(),
            id: netns.map(|netns| netns.id().to_string()),
        }
    }

    /// A namespace at a path.
    #[must_use]
    pub fn at(path: &str, netns: &Netns) -> Self {
        Self::new(path, Some(netns))
    }

    /// Whether this is the namespace, as far as is known.
    #[must_use]
    pub fn is(&self, netns: &Netns) -> bool {
        let id = self.id.as_ref();
        id.is_none_or(|id| *id == netns.id().to_string())
    }

    /// Opens the namespace. `None` when it is not at its path: it is gone, or another mount namespace has
    /// it there.
    ///
    /// # Errors
    /// Code 5 when the system does not tell what is there.
    pub fn open(&self) -> Result<Option<Netns>, Error> {
        match Netns::open(Path::new(&self.path)) {
            Ok(netns) => Ok(Some(netns).filter(|netns| self.is(netns))),
            Err(NetnsError::NotFound { .. } | NetnsError::NotNamespace { .. }) => Ok(None),
            Err(source) => Err(LivenessError::Sandbox { source }.into()),
        }
    }

    /// Whether this is known to be the namespace.
    pub(crate) fn is_known(&self, netns: &Netns) -> bool {
        self.id
            .as_ref()
            .is_some_and(|id| *id == netns.id().to_string())
    }
}
