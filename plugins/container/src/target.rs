//! Facts: the namespace that is to be shared, and who is in it.

use std::path::{Path, PathBuf};

use pontoon_conf::{Dns, Error, OperationError};
use pontoon_ledger::{Attachment, AttachmentSummary, Sandbox};
use pontoon_netlink::{Netns, NetnsMount};
use pontoon_plugin::{Context, netns_error, warn};

use crate::config::JoinTarget;
use crate::error::TargetError;
use crate::plan;

/// The namespace that is to be shared.
pub(crate) struct Target {
    pub(crate) netns: Netns,
    /// Where it is found.
    pub(crate) sandbox: Sandbox,
    /// Id of its container; `None` when it was named by path.
    pub(crate) container: Option<String>,
    pub(crate) dns: Dns,
}

impl Target {
    /// For messages.
    pub(crate) fn label(&self) -> String {
        match &self.container {
            Some(id) => format!("container {id}"),
            None => self.sandbox.path.clone(),
        }
    }

    pub(crate) fn find(context: &Context, wanted: &JoinTarget) -> Result<Self, Error> {
        let target = match wanted {
            JoinTarget::Path(path) => by_path(context, path)?,
            JoinTarget::Container(wanted) => by_container(context, wanted)?,
        };
        let host = Netns::current().map_err(netns_error)?;
        if target.netns.same_as(&host) {
            return Err(TargetError::HostNamespace {
                label: target.label(),
            }
            .into());
        }
        Ok(target)
    }
}

fn by_path(context: &Context, path: &str) -> Result<Target, Error> {
    let opened = Netns::open(Path::new(path));
    let netns = opened.map_err(|reason| TargetError::NoNamespace { reason })?;
    let own = context.invocation.required_netns()?;
    let point = |path: &str| -> Result<Option<PathBuf>, Error> {
        let mount = NetnsMount::at(Path::new(path)).map_err(netns_error)?;
        Ok(mount.map(|mount| mount.point))
    };
    let point_of_target = point(path)?;
    if path == own || point_of_target.is_some() && point(own)? == point_of_target {
        return Err(TargetError::OwnNamespace {
            path: path.to_owned(),
        }
        .into());
    }
    Ok(Target {
        sandbox: Sandbox::at(path, &netns),
        netns,
        container: None,
        dns: Dns::default(),
    })
}

fn by_container(context: &Context, wanted: &str) -> Result<Target, Error> {
    let state = &context.state;
    let key = context.key()?;
    let attachments = state.attachments()?;
    let mut known: Vec<(&Attachment, Option<AttachmentSummary>)> = Vec::new();
    for attachment in &attachments {
        let about = state.about(attachment).unwrap_or_else(|error| {
            // It may be a container that has nothing to do with this one.
            warn(format_args!(
                "container: warning: {error}; {}",
                error.next_step()
            ));
            None
        });
        known.push((attachment, about));
    }
    let about = |attachment: &Attachment| {
        let found = known.iter().find(|(one, _)| *one == attachment);
        found.and_then(|(_, about)| about.as_ref())
    };
    let found = plan::choose(&attachments, wanted, &key, |attachment| {
        about(attachment).map_or_else(Vec::new, |about| about.names.clone())
    })?;
    let id = found
        .first()
        .map(|attachment| attachment.key.container.clone())
        .unwrap_or_default();
    plan::refuse_cycle(&key.container, &id, |container| {
        attachments
            .iter()
            .filter(|one| one.mode == "container" && one.key.container == container)
            .find_map(|one| about(one)?.container.clone())
    })?;
    let mut dead = None;
    for attachment in found {
        let Some(about) = state.about(attachment)? else {
            continue;
        };
        match about.sandbox.open()? {
            Some(netns) => {
                return Ok(Target {
                    netns,
                    sandbox: about.sandbox,
                    container: Some(id),
                    dns: about.dns.unwrap_or_default(),
                });
            }
            None => dead = Some(about.sandbox.path),
        }
    }
    Err(match dead {
        Some(path) => TargetError::Gone {
            container: id,
            path,
        },
        None => TargetError::NoRecord { container: id },
    }
    .into())
}
