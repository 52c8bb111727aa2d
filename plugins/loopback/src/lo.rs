//! The three verbs on `lo`.

use pontoon_attach::sockets;
use pontoon_conf::{Attached, Cidr, Error, Interface, IpConfig};
use pontoon_netlink::{Link, LinkChange, RouteSocket};
use pontoon_plugin::{Context, kernel_error};

use crate::error::{Down, UpError};

fn open(context: &Context) -> Result<(RouteSocket, Link), Error> {
    let netns = context.netns()?;
    let mut inside = sockets::of_container(netns)?;
    let link = inside
        .link_by_name("lo")
        .map_err(|error| kernel_error("cannot look up lo in the container", error))?
        .ok_or(UpError::Missing)?;
    Ok((inside, link))
}

fn set(inside: &mut RouteSocket, link: &Link, up: bool) -> Result<(), Error> {
    inside
        .set_link(
            link.index,
            &LinkChange {
                up: Some(up),
                ..LinkChange::default()
            },
        )
        .map_err(|error| kernel_error("cannot change the state of lo in the container", error))
}

pub(crate) fn add(context: &Context) -> Result<Attached, Error> {
    let (mut inside, link) = open(context)?;
    if !link.up {
        set(&mut inside, &link, true)?;
    }
    let addresses = inside
        .addresses(link.index)
        .map_err(|error| kernel_error("cannot list the addresses of lo in the container", error))?;
    let addresses: Vec<Cidr> = addresses
        .iter()
        .map(|address| Cidr::from(address.cidr))
        .collect();
    if let Some(address) = addresses
        .iter()
        .find(|address| !address.addr().is_loopback())
    {
        if !link.up {
            set(&mut inside, &link, false)?;
        }
        return Err(UpError::OtherAddress { address: *address }.into());
    }
    if let Some(previous) = &context.config.prev_result {
        return Ok(previous.clone());
    }
    Ok(Attached {
        interfaces: vec![Interface {
            name: "lo".to_owned(),
            mac: Some("00:00:00:00:00:00".to_owned()),
            sandbox: context.invocation.netns.clone(),
            ..Interface::default()
        }],
        ips: addresses
            .into_iter()
            .map(|address| IpConfig {
                interface: Some(0),
                address,
                gateway: None,
            })
            .collect(),
        ..Attached::default()
    })
}

pub(crate) fn check(context: &Context) -> Result<(), Error> {
    let (_, link) = open(context)?;
    if link.up {
        return Ok(());
    }
    Err(Down.into())
}

/// Brings lo down, unless the namespace is gone with it.
pub(crate) fn del(context: &Context) -> Result<(), Error> {
    if context.netns_if_alive().is_none() {
        return Ok(());
    }
    let (mut inside, link) = open(context)?;
    set(&mut inside, &link, false)
}
