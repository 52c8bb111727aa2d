//! CHECK: the buckets are there, of the size that was ordered, and traffic is led into them.

use pontoon_attach::container_link::differs;
use pontoon_attach::sockets;
use pontoon_conf::Error;
use pontoon_netlink::{Link, RouteSocket};
use pontoon_plugin::{Context, kernel_error};

use crate::config::{self, Limit, Limits};
use crate::error::CheckedAlone;
use crate::{add, plan};

pub(crate) fn check(context: &Context) -> Result<(), Error> {
    let limits = config::limits(&context.config)?;
    if context.config.prev_result.is_none() {
        return Err(CheckedAlone.into());
    }
    if limits == Limits::default() {
        return Ok(());
    }
    let key = context.key()?;
    let mut host = sockets::of_host()?;
    let port = add::port(context, &mut host, &key)?;
    if let Some(ingress) = limits.ingress {
        compare(&mut host, &port, ingress, port.mtu, "into")?;
    }
    let Some(egress) = limits.egress else {
        return Ok(());
    };
    let redirected = host.ingress_redirection(port.index).map_err(|error| {
        kernel_error(format!("cannot list the filters of {}", port.name), error)
    })?;
    let names = plan::ifb_names(&key);
    let ifb = match redirected {
        None => None,
        Some(index) => host
            .link_by_index(index)
            .map_err(|error| kernel_error(format!("cannot look up {}", names[0]), error))?,
    };
    let ifb = ifb.filter(|ifb| names.contains(&ifb.name)).ok_or_else(|| {
        differs(format!(
            "what comes out of the container by {} is not redirected to {}",
            port.name, names[0]
        ))
    })?;
    if !ifb.up {
        return Err(differs(format!("{} is down", ifb.name)));
    }
    compare(&mut host, &ifb, egress, port.mtu, "out of")
}

fn compare(
    host: &mut RouteSocket,
    link: &Link,
    limit: Limit,
    mtu: u32,
    direction: &str,
) -> Result<(), Error> {
    let wanted = plan::bucket(limit, mtu);
    let found = host.root_qdisc(link.index).map_err(|error| {
        kernel_error(format!("cannot look up the qdisc of {}", link.name), error)
    })?;
    if plan::is(found.as_ref(), &wanted) {
        return Ok(());
    }
    let shown = match &found {
        Some(qdisc) => match (qdisc.rate, qdisc.limit) {
            (Some(rate), Some(limit)) => {
                format!("{} of {rate} bytes a second, limit {limit}", qdisc.kind)
            }
            _ => qdisc.kind.clone(),
        },
        None => "none".to_owned(),
    };
    Err(differs(format!(
        "the limit of traffic {direction} the container on {} is not tbf of {} bytes a second, \
         limit {}, but {shown}",
        link.name, wanted.rate, wanted.limit
    )))
}
