//! CHECK: all that ADD made is there, and the way to the other hosts. STATUS: an ADD could succeed.

use pontoon_bridge::verbs;
use pontoon_conf::{Error, code};
use pontoon_ledger::OverlayRecord;
use pontoon_ledger::overlay::{OverlayMode, device};
use pontoon_netlink::RouteSocket;
use pontoon_plugin::{Context, kernel_error};

use crate::config::Config;
use crate::error::SiteError;
use crate::site::{self, Way};

pub(crate) fn check(context: &Context) -> Result<(), Error> {
    let config = Config::from_context(context)?;
    let (_, network) = site::read(context, &config)?;
    let mut host =
        RouteSocket::open().map_err(|error| kernel_error("cannot open a route socket", error))?;
    let way = Way::look(&mut host, &network)?;
    if !way.is_there {
        let what = match network.mode {
            OverlayMode::Direct => "its routes are gone".to_owned(),
            _ => format!("{} is gone, or down", device(&network.network)),
        };
        return Err(SiteError::NoTunnel {
            network: network.network.clone(),
            what,
        }
        .into());
    }
    let context = config.for_bridge(context, &network, None);
    verbs::check::<OverlayRecord>(&context, &site::beyond(&network, &way))
}

pub(crate) fn status(context: &Context) -> Result<(), Error> {
    let config = Config::from_context(context)?;
    let (_, network) = site::read(context, &config).map_err(|error| match error.code {
        code::INVALID_CONFIG => error,
        _ => error.with_code(code::NOT_AVAILABLE),
    })?;
    verbs::status::<OverlayRecord>(&config.for_bridge(context, &network, None))
}
