//! The key `container`, in the configuration or in `args.cni`, and what must not be asked for.

use pontoon_conf::{ConfigError, Error, keys};
use pontoon_plugin::Context;

/// Whose network namespace the container is to be in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JoinTarget {
    /// The one at a path.
    Path(String),
    /// That of the container with this id, or with an id that begins so.
    Container(String),
}

impl JoinTarget {
    /// `args.cni` counts before the configuration: it speaks of one container, the configuration
    /// of a network.
    pub(crate) fn from_context(context: &Context) -> Result<Self, Error> {
        let said = |keys: keys::Container| keys.container.filter(|text| !text.is_empty());
        let wanted = match said(context.config.args_cni()?) {
            Some(wanted) => Some(wanted),
            None => said(context.config.keys()?),
        };
        let wanted = wanted.ok_or_else(|| {
            ConfigError::refused(
                "key \"container\" is missing: whose network namespace is to be shared?",
            )
            .with_next_step(
                "give the id of a container, or the path of a network namespace, in the \
                 configuration or in args.cni",
            )
        })?;
        if context.port_mappings()? > 0 {
            return Err(ConfigError::refused(format!(
                "ports cannot be published of a container that shares the network of {wanted}"
            ))
            .with_next_step(format!("publish them when {wanted} is attached"))
            .into());
        }
        Ok(if wanted.starts_with('/') {
            Self::Path(wanted)
        } else {
            Self::Container(wanted)
        })
    }
}
