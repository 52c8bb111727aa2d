//! Whether the namespace of an attachment still exists: a fact of the kernel, not of a path.
//!
//! Another mount namespace may have another file, or none, at the path of a living namespace. A
//! runtime with private mounts beside the admin's shell is enough. So three things are asked, the
//! cheap one first:
//!
//! 1. the path leads to the namespace: it lives;
//! 2. the host's end of the attachment's veth pair is there, and its other end in a namespace that the
//!    kernel finds by its number: it lives. A namespace that ends takes its interfaces along, but only
//!    a moment later;
//! 3. a process is in the namespace: it lives. This is asked only of attachments without a veth pair
//!    of Pontoon.
//!
//! What none of them knows is gone. A namespace without a veth pair of Pontoon and without a process,
//! mounted in another mount namespace alone, cannot be seen from here.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use pontoon_conf::Error;
use pontoon_netlink::{Netns, NetnsError, RouteSocket};

use crate::error::LivenessError;
use crate::{Key, Lock, Sandbox, State, files, kinds};

/// How long a namespace without a path may take to end. The kernel frees closed netlink sockets some
/// 10 ms later (`call_rcu`), and each holds its namespace: one that has just been used outlives its path.
const SETTLING: Duration = Duration::from_millis(200);

impl State {
    /// Whether the namespace of an attachment exists no more.
    ///
    /// # Errors
    /// Code 5 or 100 when the system does not tell: then nothing may be taken for gone.
    pub fn is_gone(&self, key: &Key, sandbox: &Sandbox) -> Result<bool, Error> {
        match Netns::open(Path::new(&sandbox.path)) {
            Ok(netns) if sandbox.is(&netns) => return Ok(false),
            Ok(_) | Err(NetnsError::NotFound { .. } | NetnsError::NotNamespace { .. }) => {}
            Err(source) => {
                let container = key.container.clone();
                return Err(LivenessError::Namespace { container, source }.into());
            }
        }
        if veth_leads_to_a_living_namespace(key)? {
            return Ok(false);
        }
        for folder in kinds::with_host_end().filter_map(|kind| kind.records) {
            if self.records(folder).holds(key)? {
                return Ok(true);
            }
        }
        Ok(!has_process(sandbox)?)
    }

    /// As [`State::is_gone`], while no ADD of the network is between its record and its interface.
    ///
    /// # Errors
    /// As [`State::is_gone`], and code 5 when the network cannot be locked.
    pub fn is_gone_for_good(&self, key: &Key, sandbox: &Sandbox) -> Result<bool, Error> {
        let path = self.network_lock(&key.network);
        // Without the file no ADD holds it; to make it here would leave it behind.
        let _network = match files::may_exist(&path) {
            true => Some(self.lock(&path, Lock::exclusive)?),
            false => None,
        };
        self.is_gone(key, sandbox)
    }
}

/// Whether the host's end of the attachment's veth pair is there, and leads to a namespace that still
/// lives after [`SETTLING`].
fn veth_leads_to_a_living_namespace(key: &Key) -> Result<bool, LivenessError> {
    let name = key.host_interface();
    let failed = |source| LivenessError::Veth {
        name: name.clone(),
        source,
    };
    let mut host = RouteSocket::open().map_err(failed)?;
    let deadline = Instant::now() + SETTLING;
    loop {
        let link = host.link_by_name(&name).map_err(failed)?;
        let Some(link) = link.filter(|link| key.is_host_end(link)) else {
            return Ok(false);
        };
        let living = match link.link_netnsid {
            // The other end is in this very namespace, or is gone already, which leaves no index of it.
            None => link.peer.is_some_and(|peer| peer != 0),
            Some(number) => host.is_living_namespace(number).map_err(failed)?,
        };
        if !living || Instant::now() > deadline {
            return Ok(living);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process is in the namespace.
fn has_process(sandbox: &Sandbox) -> Result<bool, LivenessError> {
    let failed = |source| LivenessError::Processes { source };
    for entry in fs::read_dir("/proc").map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if !name
            .as_encoded_bytes()
            .first()
            .is_some_and(u8::is_ascii_digit)
        {
            continue;
        }
        // A process that has ended meanwhile, or a thread of the kernel, leads to no namespace.
        if Netns::open(&entry.path().join("ns/net")).is_ok_and(|netns| sandbox.is_known(&netns)) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(container: &str) -> Key {
        Key {
            network: "liveness".into(),
            container: container.into(),
            interface: "eth0".into(),
        }
    }

    #[test]
    fn a_namespace_with_a_process_is_alive_without_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::at(dir.path());
        let netns = Netns::open(Path::new("/proc/self/ns/net")).unwrap();
        let lost = Sandbox::at("/run/netns/mounted-elsewhere", &netns);
        assert!(!state.is_gone(&key("a"), &lost).unwrap());
        assert!(!state.is_gone_for_good(&key("a"), &lost).unwrap());
    }

    #[test]
    fn a_path_that_never_led_anywhere_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::at(dir.path());
        let nowhere = Sandbox::new("/run/netns/never-was", None);
        assert!(state.is_gone(&key("a"), &nowhere).unwrap());
    }
}
