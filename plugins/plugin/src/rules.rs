//! The netfilter backend of a plugin, with errors as the runtime should see them.

use std::os::fd::OwnedFd;
use std::time::Duration;

use pontoon_conf::{Error, code};
use pontoon_netfilter::{Backend, BackendKind};
use pontoon_netlink::Linger;

use crate::Context;

/// For how long a nfnetlink socket is kept after its last use. Closing one while the kernel still
/// frees what a transaction deleted (4 to 15 ms) waits for that, and keeps every other transaction
/// of the host waiting with it.
const HOLD: Duration = Duration::from_millis(60);

/// Chooses the backend: the one asked for, else iptables where it is installed, as the reference
/// plugins do, else nftables.
///
/// # Errors
/// Code 2 when the key names none; code 105 when the backend asked for is not there.
pub fn select(context: &Context, asked: Option<&str>) -> Result<BackendKind, Error> {
    BackendKind::select(asked, &context.search).map_err(|error| self::error(&error))
}

/// Opens a backend.
///
/// # Errors
/// Code 105 when it is not usable here.
pub fn open(context: &Context, kind: BackendKind) -> Result<Backend, Error> {
    let lock = context.state.dir().join("lock/.iptables");
    Backend::open(kind, &context.search, &lock).map_err(|error| self::error(&error))
}

/// A backend's refusal, as the runtime should see it.
#[must_use]
pub fn error(error: &pontoon_netfilter::Error) -> Error {
    let code = if error.is_transient() { code::TRY_AGAIN } else { code::RULES };
    Error::new(code, error.to_string()).with_details(error.next_step())
}

/// Leaves the closing of nfnetlink sockets to a child, so that nobody waits for it.
pub fn linger(sockets: Vec<OwnedFd>) {
    if !sockets.is_empty() {
        // Without a child, closing them takes longer; nothing else is lost.
        let _ = Linger::spawn(sockets, &[], HOLD);
    }
}
