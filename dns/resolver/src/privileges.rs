//! What the processes of the resolver give up. The worker, which reads what containers send, keeps no
//! privilege: another user, no capability, few system calls, bounded memory. The keeper keeps what its
//! answers need.

pub(crate) mod filter;

use std::fs;
use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::process::{DumpableBehavior, getuid, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};
use rustix::thread::{Gid, Uid};

/// The user that the worker becomes where the host has it.
const USER: &str = "pontoon-dns";
/// The user `nobody` of every distribution, and its group.
const NOBODY: u32 = 65_534;
/// Descriptors that all bounds together can need: four sockets for each of 1,024 questions, 512 TCP
/// connections, 256 commands, two sockets for each bridge.
const DESCRIPTORS: u64 = 16_384;
/// Bytes of address space that the worker may have.
pub(crate) const MEMORY: u64 = 1 << 30;
/// Capabilities have numbers below this one (`CAP_LAST_CAP` is 40).
const CAPABILITIES: u32 = 64;

/// What the keeper's answers need: another user and no capability for the worker, signals to it, sockets
/// in containers' namespaces, more receive buffer than the limit, and paths of namespaces of other users'
/// containers and of processes.
const KEPT: CapabilitySet = CapabilitySet::SETUID
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::SYS_PTRACE);

/// Lets the process have as many descriptors as it may: a question under way has up to four sockets.
/// Returns how many there are then.
pub(crate) fn raise_descriptors() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 1024;
    };
    let criteria = hard.min(DESCRIPTORS).max(soft.min(DESCRIPTORS));
    let raised = setrlimit(Resource::RLIMIT_NOFILE, criteria, criteria).is_ok();
    let limit = if raised { criteria } else { soft };
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// Gives up what the keeper does not need. What cannot be given up is kept: the keeper reads nothing
/// that a container sends.
pub(crate) fn narrow_keeper() {
    keep_in_bounds(KEPT);
    let _ = clear_ambient_capability_set();
    if let Ok(now) = capabilities(None) {
        let _ = set_capabilities(
            None,
            CapabilitySets {
                effective: now.effective & KEPT,
                permitted: now.permitted & KEPT,
                inheritable: CapabilitySet::empty(),
            },
        );
    }
    let _ = set_no_new_privs(true);
}

/// Gives up everything but the system calls, which [`filter::install`] bounds. Returns in words what
/// could not be given up.
pub(crate) fn drop_all() -> Vec<String> {
    let mut missing = Vec::new();
    let mut note = |what: &str, done: io::Result<()>| {
        if let Err(error) = done {
            missing.push(format!("{what}: {error}"));
        }
    };
    let limit = |resource, most| setrlimit(resource, most, most).map_err(io::Error::from);
    // Before the user changes: afterwards it is not allowed.
    keep_in_bounds(CapabilitySet::empty());
    let (uid, gid) = user(&fs::read_to_string("/etc/passwd").unwrap_or_default());
    note("it keeps its user and groups", become_user(uid, gid));
    let _ = clear_ambient_capability_set();
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    let done = set_capabilities(None, none).map_err(io::Error::from);
    note("it keeps its capabilities", done);
    let done = set_no_new_privs(true).map_err(io::Error::from);
    note("a program that it ran could have more privileges", done);
    let done = set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(io::Error::from);
    note("other processes of its user can read its memory", done);
    note("it may leave a core file", limit(Resource::RLIMIT_CORE, 0));
    note(
        "its memory has no bound",
        limit(Resource::RLIMIT_AS, MEMORY),
    );
    if !getuid().is_root() {
        // Root would not be bounded by it.
        let done = limit(Resource::RLIMIT_NPROC, 0);
        note("it may start processes", done);
    }
    missing
}

/// Removes all other capabilities from the bounding set, as far as that is allowed.
fn keep_in_bounds(kept: CapabilitySet) {
    for number in 0..CAPABILITIES {
        let one = CapabilitySet::from_bits_retain(1 << number);
        // A number that the kernel does not know is an error, and changes nothing.
        if !kept.contains(one) {
            let _ = remove_capability_from_bounding_set(one);
        }
    }
}

fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

/// The ids of [`USER`] in a text like `/etc/passwd`, else those of `nobody`.
fn user(passwd: &str) -> (u32, u32) {
    let ids = |line: &str| {
        let mut fields = line.split(':');
        if fields.next() != Some(USER) {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        (uid != 0 && gid != 0).then_some((uid, gid))
    };
    passwd.lines().find_map(ids).unwrap_or((NOBODY, NOBODY))
}

/// What the kernel says of a process's privileges, as `pontoon dns status` shows it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ProcessPrivileges {
    pub(crate) user: Option<u32>,
    /// Capabilities of all sets together, in hexadecimal as the kernel writes them.
    pub(crate) capabilities: String,
    pub(crate) no_new_privileges: bool,
    pub(crate) filtered: bool,
}

/// Reads `/proc/self/status`.
pub(crate) fn held() -> ProcessPrivileges {
    ProcessPrivileges::parse(&fs::read_to_string("/proc/self/status").unwrap_or_default())
}

impl ProcessPrivileges {
    fn parse(status: &str) -> Self {
        let field = |name: &str| {
            let mut lines = status.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.unwrap_or_default().trim()
        };
        let sets = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
        let all = sets
            .iter()
            .filter_map(|set| u64::from_str_radix(field(set), 16).ok())
            .fold(0, |all, set| all | set);
        let user = field("Uid").split_whitespace().next();
        Self {
            user: user.and_then(|user| user.parse().ok()),
            capabilities: format!("{all:016x}"),
            no_new_privileges: field("NoNewPrivs") == "1",
            filtered: field("Seccomp") == "2",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_s_own_user_comes_first_and_root_never() {
        let host = "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n";
        assert_eq!(user(host), (NOBODY, NOBODY));
        let own = format!("{host}pontoon-dns:x:970:971::/:/bin/false\n");
        assert_eq!(user(&own), (970, 971));
        for bad in ["pontoon-dns:x:0:0", "pontoon-dns:x:a:1", "pontoon-dns", ""] {
            assert_eq!(user(bad), (NOBODY, NOBODY), "{bad}");
        }
    }

    #[test]
    fn privileges_are_read_as_the_kernel_writes_them() {
        let status = "Name:\tx\nUid:\t65534\t65534\t65534\t65534\nCapInh:\t0000000000000000\n\
                      CapPrm:\t0000000000001000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000200000\n\
                      CapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n";
        let held = ProcessPrivileges::parse(status);
        let expected = ProcessPrivileges {
            user: Some(65_534),
            capabilities: "0000000000201000".to_owned(),
            no_new_privileges: true,
            filtered: true,
        };
        assert_eq!(held, expected);
        assert!(!ProcessPrivileges::parse("Seccomp:\t0\nNoNewPrivs:\t0\n").filtered);
    }
}
