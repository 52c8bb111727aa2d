//! ADD: the container's veth pair is found, then the buckets put on it.

use pontoon_attach::sockets;
use pontoon_conf::{AddResult, Error, Interface, Mac};
use pontoon_ledger::{BandwidthRecord, Key};
use pontoon_netlink::{Errno, Link, RouteSocket};
use pontoon_plugin::{Context, Undo, fault, kernel_error};

use crate::config::{self, Limits};
use crate::error::LimitError;
use crate::{plan, undo};

pub(crate) fn add(context: &Context) -> Result<AddResult, Error> {
    let limits = config::limits(&context.config)?;
    let mut result = context.config.prev_result.clone().unwrap_or_default();
    if limits == Limits::default() {
        return Ok(result);
    }
    if context.config.prev_result.is_none() {
        return Err(LimitError::NotChained.into());
    }
    let key = context.key()?;
    let mut host = sockets::of_host()?;
    let port = port(context, &mut host, &key)?;
    let record = BandwidthRecord {
        sandbox: context.sandbox(),
        port: (port.name.clone(), port.index),
    };
    let mut steps = Undo::default();
    match limit(
        context, &mut host, &key, &port, &record, &limits, &mut steps,
    ) {
        Ok(ifb) => {
            steps.commit();
            result.interfaces.extend(ifb.map(|ifb| Interface {
                name: ifb.name,
                mac: ifb.mac.map(|mac| Mac(mac).to_string()),
                ..Interface::default()
            }));
            Ok(result)
        }
        Err(error) => Err(steps.unwind(error, |()| {
            undo::give_back(context, &mut host, &key, Some(&record))
        })),
    }
}

/// The host's end of the container's veth pair.
pub(crate) fn port(context: &Context, host: &mut RouteSocket, key: &Key) -> Result<Link, Error> {
    let name = &key.interface;
    let failed = |error| kernel_error(format!("cannot look up {name}"), error);
    let mut inside = RouteSocket::open_in(context.netns()?).map_err(failed)?;
    let link =
        inside
            .link_by_name(name)
            .map_err(failed)?
            .ok_or_else(|| LimitError::NoInterface {
                interface: name.clone(),
            })?;
    let Some(peer) = link.peer else {
        return Err(LimitError::NoPair {
            interface: name.clone(),
        }
        .into());
    };
    let peer = host.link_by_index(peer).map_err(failed)?;
    let peer = peer.filter(|peer| plan::are_peers(peer, &link));
    Ok(peer.ok_or_else(|| LimitError::PeerElsewhere {
        interface: name.clone(),
    })?)
}

fn limit(
    context: &Context,
    host: &mut RouteSocket,
    key: &Key,
    port: &Link,
    record: &BandwidthRecord,
    limits: &Limits,
    undo: &mut Undo<()>,
) -> Result<Option<Link>, Error> {
    if let Some(stale) = context.state.read::<BandwidthRecord>(key)? {
        // An earlier ADD of this very attachment was killed, and its DEL never came.
        undo::give_back(context, host, key, Some(&stale))?;
    }
    let busy = |what| {
        Error::from(LimitError::Busy {
            what,
            port: port.name.clone(),
        })
    };
    if limits.ingress.is_some() && qdisc(host, port)?.is_some_and(|kind| kind == "tbf") {
        return Err(busy("the way out"));
    }
    undo.push(());
    context.state.write(key, record)?;
    fault::point("bandwidth.recorded")?;
    let mut made = None;
    if let Some(egress) = limits.egress {
        let ifb = ifb(host, key, port)?;
        fault::point("bandwidth.ifb")?;
        host.add_token_bucket(ifb.index, &plan::bucket(egress, port.mtu))
            .map_err(|error| failed(&ifb.name, error))?;
        fault::point("bandwidth.egress")?;
        host.redirect_ingress(port.index, ifb.index)
            .map_err(|error| match error.errno() {
                Some(Errno::EEXIST) => busy("the way in"),
                _ => failed(&port.name, error),
            })?;
        fault::point("bandwidth.redirected")?;
        made = Some(ifb);
    }
    if let Some(ingress) = limits.ingress {
        host.add_token_bucket(port.index, &plan::bucket(ingress, port.mtu))
            .map_err(|error| failed(&port.name, error))?;
        fault::point("bandwidth.ingress")?;
    }
    Ok(made)
}

pub(crate) fn qdisc(host: &mut RouteSocket, link: &Link) -> Result<Option<String>, Error> {
    let found = host.root_qdisc(link.index);
    let found = found.map_err(|error| {
        kernel_error(format!("cannot look up the qdisc of {}", link.name), error)
    })?;
    Ok(found.map(|qdisc| qdisc.kind))
}

fn ifb(host: &mut RouteSocket, key: &Key, port: &Link) -> Result<Link, Error> {
    let names = plan::ifb_names(key);
    let tag = key.owner().tag();
    let mut outcome = Err(pontoon_netlink::Error::NameTaken {
        name: names[0].clone(),
    });
    for name in &names {
        outcome = host.create_ifb(name, port.mtu, port.tx_queue_length, &tag);
        match &outcome {
            Err(error) if error.is_exists() => {}
            _ => break,
        }
    }
    outcome.map_err(|error| failed(&names[0], error))
}

/// A refusal of traffic control: most likely the kernel was built without a part of it.
fn failed(name: &str, error: pontoon_netlink::Error) -> Error {
    let lacks_a_part = matches!(error.errno(), Some(Errno::ENOENT | Errno::EOPNOTSUPP));
    let told = kernel_error(format!("cannot limit the traffic of {name}"), error);
    if !lacks_a_part {
        return told;
    }
    told.with_more(
        "the kernel needs CONFIG_NET_SCH_TBF, and for egress CONFIG_IFB, \
         CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_U32 and CONFIG_NET_ACT_MIRRED",
    )
}
