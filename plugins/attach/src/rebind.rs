//! A container that lives in a namespace which is not its own: the path of its own one is made to
//! lead to the other, by a mount over it, and DEL takes the mount away.

use std::path::Path;

use pontoon_conf::Error;
use pontoon_ledger::{AttachmentRecord, Key, Rebind, State};
use pontoon_netlink::{Netns, NetnsMount};

use pontoon_plugin::{Context, Undo, fault, netns_error, warn};

use crate::error::RebindError;

/// A step of [`enter`].
enum Step {
    Record,
    Mount,
}

/// What it takes to make `CNI_NETNS` lead to `target`: `None` when it does already.
///
/// # Errors
/// Code 4 when `CNI_NETNS` is no namespace; code 8 when it cannot be re-bound, with `instead`
/// as the next step; code 103 when it has been re-bound already.
pub fn plan(context: &Context, target: &Netns, instead: &str) -> Result<Option<Rebind>, Error> {
    let own = context.netns()?;
    if own.same_as(target) {
        return Ok(None);
    }
    let path = context.invocation.required_netns()?;
    let mount = NetnsMount::at(Path::new(path)).map_err(netns_error)?;
    let rebind = decide(path, mount, own.id().ino, target.id().ino, instead)?;
    Ok(Some(rebind))
}

/// Writes the record of the attachment, then re-binds the path; a failure undoes both. When
/// the path leads elsewhere in this mount namespace only, a warning says so.
///
/// # Errors
/// Code 5 or 100 with the path.
pub fn enter<R: AttachmentRecord>(
    rebind: &Rebind,
    target: &Netns,
    state: &State,
    key: &Key,
    record: &R,
) -> Result<(), Error> {
    let mut undo = Undo::default();
    match act(rebind, target, state, key, record, &mut undo) {
        Ok(()) => {
            undo.commit();
            warn_of_private_mount(rebind);
            Ok(())
        }
        Err(error) => Err(undo.unwind(error, |step| match step {
            Step::Record => state.records_of::<R>().remove(key).map(drop),
            Step::Mount => restore(rebind),
        })),
    }
}

fn act<R: AttachmentRecord>(
    rebind: &Rebind,
    target: &Netns,
    state: &State,
    key: &Key,
    record: &R,
    undo: &mut Undo<Step>,
) -> Result<(), Error> {
    undo.push(Step::Record);
    state.write(key, record)?;
    fault::point("rebind.recorded")?;
    undo.push(Step::Mount);
    target
        .mount_over(Path::new(&rebind.path))
        .map_err(RebindError::Mount)?;
    fault::point("rebind.mounted")
}

fn warn_of_private_mount(rebind: &Rebind) {
    // A warning more or less: where the mounts cannot be read, nothing is known to be wrong.
    let mount = NetnsMount::at(Path::new(&rebind.path)).ok().flatten();
    if mount.and_then(|mount| mount.is_seen_by_init()) == Some(false) {
        warn(format_args!(
            "warning: {} is re-bound in this mount namespace only: a process that joins it from \
             outside still meets the container's own namespace; run the runtime outside \
             (nsenter --net=PATH keeps the mount namespace, ip netns exec does not)",
            rebind.path
        ));
    }
}

/// Pontoon's mount at the path, where it leads to the shared namespace by that.
fn mount(rebind: &Rebind) -> Result<Option<NetnsMount>, Error> {
    let mount = NetnsMount::at(Path::new(&rebind.path)).map_err(RebindError::Mount)?;
    let ours = |mount: &NetnsMount| mount.ino == rebind.shared && mount.covers == Some(rebind.own);
    Ok(mount.filter(ours))
}

/// Makes the path lead to the container's own namespace again. Any other mount is left alone:
/// another program may have unmounted this one and mounted its own.
///
/// # Errors
/// Code 100 with the path.
pub fn restore(rebind: &Rebind) -> Result<(), Error> {
    match mount(rebind)? {
        Some(mount) => Ok(mount.detach().map_err(RebindError::Mount)?),
        None => Ok(()),
    }
}

fn decide(
    path: &str,
    mount: Option<NetnsMount>,
    own: u64,
    shared: u64,
    instead: &str,
) -> Result<Rebind, RebindError> {
    let (path, instead) = (path.to_owned(), instead.to_owned());
    let Some(mount) = mount.filter(|mount| mount.ino == own) else {
        return Err(RebindError::OfProcess { path, instead });
    };
    if mount.covers.is_some() {
        return Err(RebindError::Already { path });
    }
    let Some(point) = mount.point.to_str() else {
        return Err(RebindError::NotUtf8 { path, instead });
    };
    Ok(Rebind {
        path: point.to_owned(),
        own,
        shared,
    })
}

#[cfg(test)]
mod tests {
    use pontoon_conf::code;

    use super::*;

    fn mount(ino: u64, covers: Option<u64>) -> NetnsMount {
        NetnsMount {
            point: "/run/netns/x".into(),
            ino,
            covers,
            shared: true,
        }
    }

    #[test]
    fn a_mounted_namespace_is_re_bound_where_it_really_is() {
        let rebind = decide("/var/run/netns/x", Some(mount(7, None)), 7, 1, "").unwrap();
        assert_eq!(
            rebind,
            Rebind {
                path: "/run/netns/x".into(),
                own: 7,
                shared: 1
            }
        );
    }

    #[test]
    fn refusals() {
        let refused = |mount| Error::from(decide("/x", mount, 7, 1, "do this").unwrap_err());
        let error = refused(None);
        assert_eq!(error.code, code::INVALID_NETNS);
        assert!(error.msg.contains("running process"), "{error}");
        assert_eq!(error.details, "do this");
        assert_eq!(refused(Some(mount(8, None))).code, code::INVALID_NETNS);
        assert_eq!(refused(Some(mount(7, Some(3)))).code, code::EXISTS);
    }
}
