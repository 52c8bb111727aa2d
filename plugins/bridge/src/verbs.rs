//! What bridge does on each verb, with records of the type `R`.

use pontoon_attach::ports;
use pontoon_conf::{AddResult, Cidr, Error};
use pontoon_ipam::delegation;
use pontoon_ledger::BridgeBased;
use pontoon_netfilter::Reach;
use pontoon_plugin::Context;

use crate::{add, check, config, del};

/// What there is of a network beside its bridge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beyond {
    /// The subnets of the whole network, where a container's address is in a part of one: what goes from part to part
    /// keeps its source address.
    pub subnets: Vec<Cidr>,
    /// Addresses that the bridge may have beside those of the container's subnets: the gateways of other parts.
    pub gateways: Vec<Cidr>,
    /// The way to the network's other hosts, for the plugins that follow.
    pub reach: Option<Reach>,
}

/// ADD.
///
/// # Errors
/// What failed first; nothing of the attachment is left then.
pub fn add<R: BridgeBased>(context: &Context, beyond: &Beyond) -> Result<AddResult, Error> {
    add::add::<R>(context, beyond)
}

/// DEL.
///
/// # Errors
/// What a second DEL could mend.
pub fn del<R: BridgeBased>(context: &Context) -> Result<(), Error> {
    del::del::<R>(context)
}

/// CHECK.
///
/// # Errors
/// The first difference, by name.
pub fn check<R: BridgeBased>(context: &Context, beyond: &Beyond) -> Result<(), Error> {
    check::check::<R>(context, beyond)
}

/// STATUS.
///
/// # Errors
/// Code 50 or 51 with the reason.
pub fn status<R: BridgeBased>(context: &Context) -> Result<(), Error> {
    check::status::<R>(context)
}

/// GC.
///
/// # Errors
/// What could not be removed.
pub fn gc<R: BridgeBased>(context: &Context) -> Result<(), Error> {
    del::gc::<R>(context)
}

/// Refuses what ADD would refuse in the configuration.
///
/// # Errors
/// The error of ADD.
pub fn judge(context: &Context) -> Result<(), Error> {
    config::Config::from_context(context)
        .and_then(|config| delegation::judge(context, config.ipam.as_ref()))
}

/// After ADD and DEL: the container may answer by other networks than before.
pub fn changed<R: BridgeBased>(context: &Context) {
    ports::follow(context, R::PLUGIN);
}
