//! Taking back what ADD has made: for an ADD that fails, for DEL and for GC.

use pontoon_attach::sockets;
use pontoon_conf::Error;
use pontoon_ledger::{DeviceBefore, HostDeviceRecord, Key};
use pontoon_netlink::{Link, LinkChange, Netns, RouteSocket};
use pontoon_plugin::{Context, kernel_error};

use crate::error::MoveError;

/// Gives the device back and forgets it.
pub(crate) fn give_back(
    context: &Context,
    key: &Key,
    record: Option<&HostDeviceRecord>,
) -> Result<(), Error> {
    let sandbox = record.map(|record| &record.sandbox);
    give_back_from(context.netns_of_record(sandbox), key, record)?;
    let records = context.state.records_of::<HostDeviceRecord>();
    records.remove(key).map(drop)
}

pub(crate) fn give_back_from(
    netns: Option<&Netns>,
    key: &Key,
    record: Option<&HostDeviceRecord>,
) -> Result<(), Error> {
    let before = match record {
        // Nothing was moved.
        Some(HostDeviceRecord { device: None, .. }) => return Ok(()),
        Some(record) => record.device.as_ref(),
        None => None,
    };
    let mut host = sockets::of_host()?;
    if let Some(netns) = netns {
        let mut inside = sockets::of_container(netns)?;
        for name in [key.interface.clone(), passing_name(key)] {
            let failed = |error| kernel_error(format!("cannot look up {name}"), error);
            let Some(link) = inside.link_by_name(&name).map_err(failed)? else {
                continue;
            };
            if let Some(name) = old_name(&link, before) {
                move_out((&mut inside, &mut host), &link, key, &name)?;
            }
        }
    }
    match before {
        Some(before) => restore(&mut host, before),
        None => Ok(()),
    }
}

/// A name that is free in both namespaces, for the passage.
fn passing_name(key: &Key) -> String {
    key.host_interface().replacen("veth", "hdev", 1)
}

/// What the device was called on the host; none when it is not the one that was moved: the note on
/// it is the old name, which the reference plugin writes too.
fn old_name(link: &Link, before: Option<&DeviceBefore>) -> Option<String> {
    let note = link.alias.as_deref().unwrap_or_default();
    match before {
        Some(before) => (note == before.name).then(|| before.name.clone()),
        None => {
            let named = link.kind.as_deref() != Some("loopback") && !note.is_empty();
            // Ours with a record are known; of what others have made only a name can be a note.
            let name = pontoon_conf::IfName::try_from(note).ok()?;
            named.then(|| name.to_string())
        }
    }
}

fn move_out(
    (inside, host): (&mut RouteSocket, &mut RouteSocket),
    link: &Link,
    key: &Key,
    name: &str,
) -> Result<(), Error> {
    let act = format!("failed to move {:?} to host netns as {name:?}", link.name);
    let failed = |error| kernel_error(&act, error);
    // DeviceBefore anything is changed: the container's device stays as it is for the next DEL.
    if host.link_by_name(name).map_err(failed)?.is_some() {
        return Err(MoveError::Taken {
            interface: link.name.clone(),
            name: name.to_owned(),
        }
        .into());
    }
    // Older kernels rename only what is down, and look at the name first.
    let down = LinkChange {
        up: Some(false),
        ..LinkChange::default()
    };
    inside.set_link(link.index, &down).map_err(failed)?;
    let passing = LinkChange {
        name: Some(passing_name(key)),
        ..LinkChange::default()
    };
    inside.set_link(link.index, &passing).map_err(failed)?;
    let home = Netns::current().map_err(pontoon_plugin::netns_error)?;
    // Still with its old name as note: should the host have got another device of that name just
    // now, this one is findable by it.
    let moved = inside.move_link(link.index, &home, name, name);
    if moved.is_err() {
        let before = LinkChange {
            name: Some(link.name.clone()),
            up: Some(link.up),
            ..LinkChange::default()
        };
        // Fails when it is on the host already, where the next DEL finds it by its note.
        let _ = inside.set_link(link.index, &before);
    }
    moved.map_err(failed)
}

/// What else the device was on the host. One that the kernel brought home, because its namespace
/// went away, comes as it was in the container.
fn restore(host: &mut RouteSocket, before: &DeviceBefore) -> Result<(), Error> {
    let failed = |error| kernel_error(format!("cannot restore {}", before.name), error);
    let mut found = host.link_by_name(&before.name).map_err(failed)?;
    if found.is_none() {
        let links = host.links().map_err(failed)?;
        found = links
            .into_iter()
            .find(|link| link.alias.as_deref() == Some(before.name.as_str()));
    }
    // One without our note was never away, or is another.
    let Some(link) = found.filter(|link| link.alias.as_deref() == Some(before.name.as_str()))
    else {
        return Ok(());
    };
    let change = LinkChange {
        up: Some(before.up),
        name: (link.name != before.name).then(|| before.name.clone()),
        alias: Some(before.alias.clone()),
        mtu: (link.mtu != before.mtu).then_some(before.mtu),
        mac: before.mac.filter(|mac| link.mac != Some(*mac)),
        ..LinkChange::default()
    };
    host.set_link(link.index, &change).map_err(failed)
}
