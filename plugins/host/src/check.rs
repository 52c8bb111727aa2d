//! CHECK: the container's path still leads to the host's namespace.

use pontoon_conf::Error;
use pontoon_netlink::Netns;
use pontoon_plugin::{Context, netns_error};

use crate::plan;

pub(crate) fn check(context: &Context) -> Result<(), Error> {
    let host = Netns::current().map_err(netns_error)?;
    let path = context.invocation.required_netns()?;
    match plan::difference(path, context.netns()?.id(), host.id()) {
        None => Ok(()),
        Some(difference) => Err(difference.into()),
    }
}
