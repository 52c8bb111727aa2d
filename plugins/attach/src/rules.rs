//! The netfilter backend of a plugin, with errors as the runtime should see them.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use pontoon_conf::Error;
use pontoon_ledger::{FileError, State, directory};
use pontoon_netfilter::firewalld::{self, Firewalld};
use pontoon_netfilter::{Backend, BackendKind, Ruleset};
use pontoon_netlink::conntrack::Sweep;
use pontoon_netlink::{DetachedChild, Frames};
use pontoon_plugin::Context;

use crate::error::RulesError;

/// For how long a nfnetlink socket is kept after its last use. Closing one while the kernel still
/// frees what a transaction deleted (4 to 15 ms) waits for that, and keeps every other transaction
/// of the host waiting with it.
const HOLD: Duration = Duration::from_millis(60);

/// After so long the kernel has freed what a transaction deleted, in all but rare cases.
const CLEARED: Duration = Duration::from_millis(20);

/// Chooses the backend: the one asked for, else iptables where it is installed, as the reference
/// plugins do, else nftables.
///
/// # Errors
/// Code 2 when the key names none; code 105 when the backend asked for is not there.
pub fn select(context: &Context, asked: Option<&str>) -> Result<BackendKind, Error> {
    BackendKind::select(asked, &context.search).map_err(error)
}

/// Opens a backend.
///
/// # Errors
/// Code 105 when it is not usable here.
pub fn open(context: &Context, kind: BackendKind) -> Result<Backend, Error> {
    open_in(&context.state, &context.search, kind)
}

/// As [`open`]; `None` where there is no such backend, which then holds nothing.
///
/// # Errors
/// Code 105 when there is one and it cannot be opened.
pub fn open_if_there(context: &Context, kind: BackendKind) -> Result<Option<Backend>, Error> {
    let lock = context.state.iptables_lock();
    make_lock_dir(kind, &lock)?;
    match Backend::open(kind, &context.search, &lock) {
        Ok(backend) => Ok(Some(backend)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(self::error(error)),
    }
}

/// As [`open`], for who is no plugin.
///
/// # Errors
/// Code 105 when it is not usable here.
pub fn open_in(state: &State, search: &[PathBuf], kind: BackendKind) -> Result<Backend, Error> {
    let lock = state.iptables_lock();
    make_lock_dir(kind, &lock)?;
    Backend::open(kind, search, &lock).map_err(error)
}

fn make_lock_dir(kind: BackendKind, lock: &Path) -> Result<(), Error> {
    if kind != BackendKind::Nftables
        && let Some(dir) = lock.parent()
    {
        directory::make(dir).map_err(FileError::of("make", dir))?;
    }
    Ok(())
}

/// Refuses a ruleset with a value that cannot be a rule of the backend: before the ruleset is noted, since
/// what is noted but was never made has to be removed by DEL.
///
/// # Errors
/// Code 105 with the value.
pub fn validate(kind: BackendKind, ruleset: &Ruleset) -> Result<(), Error> {
    kind.validate(ruleset).map_err(error)
}

/// Connects to firewalld on the system bus that the environment names, or the usual one.
///
/// # Errors
/// The bus does not answer.
pub fn firewalld() -> Result<Firewalld, firewalld::Error> {
    Firewalld::open(pontoon_plugin::system_bus().as_deref())
}

/// Removes rules of a network or an attachment that has gone. What all networks share goes with
/// `backends::retire`.
///
/// # Errors
/// Whatever the backend refused.
pub fn withdraw(context: &Context, kind: BackendKind, ruleset: &Ruleset) -> Result<(), Error> {
    removing(context, kind, |backend| backend.withdraw(ruleset))
}

/// Removes what all networks share in a backend.
pub(crate) fn remove_all(context: &Context, kind: BackendKind) -> Result<(), Error> {
    removing(context, kind, Backend::remove_all)
}

fn removing(
    context: &Context,
    kind: BackendKind,
    remove: impl FnOnce(&mut Backend) -> Result<(), pontoon_netfilter::Error>,
) -> Result<(), Error> {
    let mut backend = open(context, kind)?;
    let done = remove(&mut backend);
    deleted(context);
    close_in_detached_child(backend.into_sockets());
    done.map_err(error)
}

/// Removes the lock file of the iptables backend: no network has rules any more.
pub(crate) fn remove_lock(state: &State) {
    let _ = std::fs::remove_file(state.iptables_lock());
}

/// A backend's refusal, as the runtime should see it.
#[must_use]
pub fn error(error: pontoon_netfilter::Error) -> Error {
    RulesError(error).into()
}

/// As [`close_in_detached_child`], with messages that the child sends first, by a socket that it keeps too.
pub fn linger_sending(sockets: Vec<OwnedFd>, socket: OwnedFd, messages: Frames) {
    let _ = DetachedChild::send(sockets, socket, messages, HOLD);
}

/// As [`close_in_detached_child`], with flows that the child cuts first.
pub fn linger_sweeping(sockets: Vec<OwnedFd>, sweep: Sweep) {
    let _ = DetachedChild::sweep(sockets, sweep, HOLD);
}

/// As [`close_in_detached_child`], with something that the child does first. It is done here and now when there can
/// be no child.
pub fn linger_after(sockets: Vec<OwnedFd>, work: impl Fn()) {
    let detached = DetachedChild::detach(sockets, || {
        work();
        std::thread::sleep(HOLD);
    });
    if detached.is_err() {
        work();
    }
}

/// Notes that something has been deleted from the kernel's rules: a process that closes a nfnetlink socket now would
/// wait. The note is the time stamp of a lock file that is there as long as the host has networks.
pub fn deleted(context: &Context) {
    if let Ok(file) = std::fs::File::open(context.state.host_lock()) {
        let _ = file.set_modified(SystemTime::now());
    }
}

/// Closes sockets by which nothing was deleted: here and now, unless another plugin has deleted something
/// lately, else as [`close_in_detached_child`].
pub fn close(context: &Context, sockets: Vec<OwnedFd>) {
    let deleted = std::fs::metadata(context.state.host_lock()).and_then(|file| file.modified());
    let rests = deleted.is_ok_and(|deleted| deleted.elapsed().is_ok_and(|age| age > CLEARED));
    if rests {
        drop(sockets);
    } else {
        close_in_detached_child(sockets);
    }
}

/// Leaves the closing of nfnetlink sockets to a child, so that no caller waits for it.
pub fn close_in_detached_child(sockets: Vec<OwnedFd>) {
    if !sockets.is_empty() {
        // Without a child, closing them takes longer; nothing else is lost.
        let _ = DetachedChild::spawn(sockets, &[], HOLD);
    }
}
