//! A container that lives in a namespace which is not its own: the path of its own one is made to
//! lead to the other, by a mount over it, and DEL takes the mount away.

use std::path::Path;

use pontoon_conf::{Error, code};
use pontoon_netlink::{Netns, NetnsError, NetnsMount};
use serde::{Deserialize, Serialize};

use crate::{Context, Key, Records, Undo, fault, netns_error};

/// One path that leads to a namespace which is not its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebind {
    /// Where the container's own namespace is mounted.
    pub path: String,
    /// The container's own namespace, by inode number: alive as long as it is mounted there.
    own: u64,
    /// The namespace that it shares.
    shared: u64,
}

/// A step of [`Rebind::enter`].
enum Step {
    Record,
    Mount,
}

impl Rebind {
    /// What it takes to make `CNI_NETNS` lead to `target`: `None` when it does already.
    ///
    /// # Errors
    /// Code 4 when `CNI_NETNS` is no namespace; code 8 when it cannot be re-bound, with `instead`
    /// as the next step; code 103 when it has been re-bound already.
    pub fn plan(context: &Context, target: &Netns, instead: &str) -> Result<Option<Self>, Error> {
        let own = context.netns()?;
        if own.same_as(target) {
            return Ok(None);
        }
        let path = context.invocation.required_netns()?;
        let mount = NetnsMount::at(Path::new(path)).map_err(|error| netns_error(&error))?;
        decide(path, mount, own.id().ino, target.id().ino, instead).map(Some)
    }

    /// Writes the record of the attachment, then re-binds the path; a failure undoes both. When
    /// the path leads elsewhere in this mount namespace only, a warning says so.
    ///
    /// # Errors
    /// Code 5 or 100 with the path.
    pub fn enter<R: Serialize>(
        &self,
        target: &Netns,
        records: &Records,
        key: &Key,
        record: &R,
    ) -> Result<(), Error> {
        let mut undo = Undo::default();
        match self.act(target, records, key, record, &mut undo) {
            Ok(()) => {
                undo.commit();
                self.say_who_sees_it();
                Ok(())
            }
            Err(error) => Err(undo.unwind(error, |step| match step {
                Step::Record => records.remove(key).map(drop),
                Step::Mount => self.restore(),
            })),
        }
    }

    fn act<R: Serialize>(
        &self,
        target: &Netns,
        records: &Records,
        key: &Key,
        record: &R,
        undo: &mut Undo<Step>,
    ) -> Result<(), Error> {
        undo.push(Step::Record);
        records.write(key, record)?;
        fault::point("rebind.recorded")?;
        undo.push(Step::Mount);
        target
            .mount_over(Path::new(&self.path))
            .map_err(|error| failed(&error))?;
        fault::point("rebind.mounted")
    }

    fn say_who_sees_it(&self) {
        let mount = NetnsMount::at(Path::new(&self.path)).ok().flatten();
        if mount.and_then(|mount| mount.is_seen_by_init()) == Some(false) {
            eprintln!(
                "warning: {} is re-bound in this mount namespace only: whoever joins it from \
                 outside still meets the container's own namespace; run the runtime outside \
                 (nsenter --net=PATH keeps the mount namespace, ip netns exec does not)",
                self.path
            );
        }
    }

    /// Whether the path leads to the shared namespace, by our mount.
    #[must_use]
    pub fn stands(&self) -> bool {
        self.mount().is_some()
    }

    fn mount(&self) -> Option<NetnsMount> {
        let mount = NetnsMount::at(Path::new(&self.path)).ok()??;
        (mount.ino == self.shared && mount.covers == Some(self.own)).then_some(mount)
    }

    /// Makes the path lead to the container's own namespace again. Anything but our own mount is
    /// left alone: somebody may have removed it, and mounted something else.
    ///
    /// # Errors
    /// Code 100 with the path.
    pub fn restore(&self) -> Result<(), Error> {
        match self.mount() {
            Some(mount) => mount.detach().map_err(|error| failed(&error)),
            None => Ok(()),
        }
    }

    /// Whether neither namespace is at the path any more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match Netns::open(Path::new(&self.path)) {
            Ok(netns) => ![self.own, self.shared].contains(&netns.id().ino),
            Err(_) => true,
        }
    }
}

fn failed(error: &NetnsError) -> Error {
    Error::new(code::KERNEL, error.to_string())
        .with_details("mounting needs CAP_SYS_ADMIN in the mount namespace of the path")
}

fn decide(
    path: &str,
    mount: Option<NetnsMount>,
    own: u64,
    shared: u64,
    instead: &str,
) -> Result<Rebind, Error> {
    let refuse = |what: &str| {
        Err(Error::new(
            code::INVALID_NETNS,
            format!("CNI_NETNS {path} {what}, and cannot be made to lead to another one"),
        )
        .with_details(instead))
    };
    let Some(mount) = mount.filter(|mount| mount.ino == own) else {
        return refuse("is the network namespace of a running process");
    };
    if mount.covers.is_some() {
        return Err(Error::new(
            code::EXISTS,
            format!("CNI_NETNS {path} leads to a network namespace that is not its own already"),
        )
        .with_details("DEL the attachment that did it first, or unmount the path once"));
    }
    let Some(point) = mount.point.to_str() else {
        return refuse("has a path that is not UTF-8");
    };
    Ok(Rebind {
        path: point.to_owned(),
        own,
        shared,
    })
}

#[cfg(test)]
mod tests {
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
        let refused = |mount| decide("/x", mount, 7, 1, "do this").unwrap_err();
        let error = refused(None);
        assert_eq!(error.code, code::INVALID_NETNS);
        assert!(error.msg.contains("running process"), "{error}");
        assert_eq!(error.details, "do this");
        assert_eq!(refused(Some(mount(8, None))).code, code::INVALID_NETNS);
        assert_eq!(refused(Some(mount(7, Some(3)))).code, code::EXISTS);
    }
}
