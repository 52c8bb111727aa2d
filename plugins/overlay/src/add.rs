//! ADD: what cannot be is refused, the way to the other hosts is made when it is missing, and the rest is `bridge`'s.

use pontoon_bridge::verbs;
use pontoon_conf::{AddResult, Error};
use pontoon_ledger::OverlayRecord;
use pontoon_netlink::RouteSocket;
use pontoon_plugin::{Context, fault, kernel_error};

use crate::config::Config;
use crate::site;

pub(crate) fn add(context: &Context) -> Result<AddResult, Error> {
    let config = Config::from_context(context)?;
    let (files, network) = site::read(context, &config)?;
    let mut host =
        RouteSocket::open().map_err(|error| kernel_error("cannot open a route socket", error))?;
    let way = site::connect(&mut host, &files, &network)?;
    fault::point("overlay.connected")?;
    let context = config.for_bridge(context, &network, way.mtu);
    verbs::add::<OverlayRecord>(&context, &site::beyond(&network, &way))
}
