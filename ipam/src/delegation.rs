//! The address plugin of a network, whichever it is: ours are called in this process, any other is
//! run as the specification says ("Section 4: Plugin delegation").

use std::path::PathBuf;

use pontoon_conf::{AddResult, ConfigError, Error, NetworkConfig, PluginType, Verb, excerpt};
use pontoon_plugin::{Context, delegate};
use serde::Deserialize;

use crate::config::lease_folder;
use crate::error::NoAddress;
use crate::{host_local, static_addresses};

/// The address plugins that are linked into every plugin of Pontoon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BuiltinPlugin {
    HostLocal,
    Static,
}

fn own(kind: &PluginType) -> Option<BuiltinPlugin> {
    match kind.as_ref() {
        "host-local" => Some(BuiltinPlugin::HostLocal),
        "static" => Some(BuiltinPlugin::Static),
        _ => None,
    }
}

/// `ipam.type`, when the network has an address plugin.
///
/// # Errors
/// Code 7 when it is no name of a plugin.
pub fn configured(config: &NetworkConfig) -> Result<Option<PluginType>, Error> {
    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Ipam {
        r#type: Option<String>,
    }
    let ipam: Ipam = config.ipam_keys()?;
    let Some(kind) = ipam.r#type.filter(|kind| !kind.is_empty()) else {
        return Ok(None);
    };
    PluginType::try_from(kind.as_str())
        .map(Some)
        .map_err(|error| {
            let why = format!("{:?} is no plugin name", excerpt(&kind));
            ConfigError::key("ipam.type", why).because(error).into()
        })
}

/// Refuses what an ADD by one of our own address plugins would refuse in the configuration. Asks
/// nothing of the host, and runs no other address plugin.
///
/// # Errors
/// The address plugin's.
pub fn judge(context: &Context, kind: Option<&PluginType>) -> Result<(), Error> {
    let (invocation, config) = (&context.invocation, &context.config);
    match kind.and_then(own) {
        Some(BuiltinPlugin::HostLocal) => host_local::judge(invocation, config),
        Some(BuiltinPlugin::Static) => static_addresses::add(invocation, config).map(drop),
        None => Ok(()),
    }
}

/// Where the leases of the network lie, when its address plugin is host-local.
///
/// # Errors
/// Code 7 when `ipam` is configured wrongly.
pub fn leases(context: &Context) -> Result<Option<PathBuf>, Error> {
    match configured(&context.config)?.as_ref().and_then(own) {
        Some(BuiltinPlugin::HostLocal) => lease_folder(&context.config).map(Some),
        _ => Ok(None),
    }
}

/// Takes addresses for the attachment. After a failure [`del`] must follow.
///
/// # Errors
/// The address plugin's; code 106 when it gave no address.
pub fn add(context: &Context, kind: &PluginType) -> Result<AddResult, Error> {
    let (invocation, config) = (&context.invocation, &context.config);
    let result = match own(kind) {
        Some(BuiltinPlugin::HostLocal) => host_local::add(invocation, config, context.state.dir())?,
        Some(BuiltinPlugin::Static) => static_addresses::add(invocation, config)?,
        None => delegate::run(kind, Verb::Add, invocation, config)?.unwrap_or_default(),
    };
    if result.ips.is_empty() {
        let kind = kind.clone();
        return Err(NoAddress { kind }.into());
    }
    Ok(result)
}

/// Releases the addresses of the attachment.
///
/// # Errors
/// The address plugin's.
pub fn del(context: &Context, kind: &PluginType) -> Result<(), Error> {
    let (invocation, config) = (&context.invocation, &context.config);
    match own(kind) {
        Some(BuiltinPlugin::HostLocal) => host_local::del(invocation, config, context.state.dir()),
        Some(BuiltinPlugin::Static) => Ok(()),
        None => delegate::run(kind, Verb::Del, invocation, config).map(drop),
    }
}

/// Releases the addresses of the attachment, by whatever can be read of the configuration: one that
/// went wrong since ADD must not keep the rest from being removed.
///
/// # Errors
/// The address plugin's.
pub fn release(context: &Context) -> Result<(), Error> {
    match configured(&context.config) {
        Ok(Some(kind)) => del(context, &kind),
        _ => Ok(()),
    }
}

/// Fails when the attachment does not have its addresses any more.
///
/// # Errors
/// The address plugin's.
pub fn check(context: &Context, kind: &PluginType) -> Result<(), Error> {
    let (invocation, config) = (&context.invocation, &context.config);
    match own(kind) {
        Some(BuiltinPlugin::HostLocal) => {
            host_local::check(invocation, config, context.state.dir())
        }
        Some(BuiltinPlugin::Static) => static_addresses::check(invocation, config),
        None => delegate::run(kind, Verb::Check, invocation, config).map(drop),
    }
}

/// Fails when an ADD would get no address.
///
/// # Errors
/// The address plugin's.
pub fn status(context: &Context, kind: &PluginType) -> Result<(), Error> {
    let (invocation, config) = (&context.invocation, &context.config);
    match own(kind) {
        Some(BuiltinPlugin::HostLocal) => {
            host_local::status(invocation, config, context.state.dir())
        }
        Some(BuiltinPlugin::Static) => static_addresses::status(invocation, config),
        None => delegate::run(kind, Verb::Status, invocation, config).map(drop),
    }
}

/// Releases the addresses of attachments that are not valid any more.
///
/// # Errors
/// The address plugin's.
pub fn gc(context: &Context, kind: &PluginType) -> Result<(), Error> {
    let (invocation, config) = (&context.invocation, &context.config);
    match own(kind) {
        Some(BuiltinPlugin::HostLocal) => host_local::gc(invocation, config, context.state.dir()),
        Some(BuiltinPlugin::Static) => Ok(()),
        None => delegate::run(kind, Verb::Gc, invocation, config).map(drop),
    }
}
