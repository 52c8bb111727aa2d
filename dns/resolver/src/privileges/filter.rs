//! The system calls that the worker may use, held by the kernel (seccomp). Anything else fails with
//! EPERM; what nothing but an intruder would try ends the process.

use std::collections::BTreeMap;
use std::fmt::Display;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

/// Calls that are allowed whatever their arguments say.
const ALLOWED: &[c_long] = &[
    // Descriptors.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_getdents64,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_readlinkat,
    // Sockets.
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    // The event loop, and time.
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_ppoll,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // The C library and Rust's: locks, randomness, signals, the end.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
];

/// Calls that newer architectures do not have any more.
#[cfg(target_arch = "x86_64")]
const OLDER: &[c_long] = &[
    libc::SYS_epoll_wait,
    libc::SYS_lstat,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_stat,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[c_long] = &[];

/// Calls that end the process.
const FATAL: &[c_long] = &[
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_delete_module,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

/// Flags of open(2) that change something.
const CHANGING: i32 =
    libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Bounds the calling thread, which is the process's only one.
///
/// # Errors
/// In words, when the kernel has no seccomp or refuses.
pub(crate) fn install() -> Result<(), String> {
    for program in programs()? {
        apply_filter(&program).map_err(text)?;
    }
    Ok(())
}

/// Of two programs the stricter answer counts: one says what is allowed, the other, which comes first,
/// what is fatal.
fn programs() -> Result<[BpfProgram; 2], String> {
    let compile = |rules, other, these| -> Result<BpfProgram, String> {
        let target: TargetArch = std::env::consts::ARCH.try_into().map_err(text)?;
        let filter = SeccompFilter::new(rules, other, these, target).map_err(text)?;
        filter.try_into().map_err(text)
    };
    let fatal = FATAL.iter().map(|call| (*call, Vec::new())).collect();
    let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    Ok([
        compile(fatal, SeccompAction::Allow, SeccompAction::KillProcess)?,
        compile(allowed()?, refused, SeccompAction::Allow)?,
    ])
}

fn allowed() -> Result<Rules, String> {
    let all = ALLOWED.iter().chain(OLDER);
    let mut rules: Rules = all.map(|call| (*call, Vec::new())).collect();
    let no_flags = |argument, flags: i32| {
        rule(
            argument,
            SeccompCmpOp::MaskedEq(u64::from(flags.cast_unsigned())),
            0,
        )
    };
    // Reading only.
    rules.insert(libc::SYS_openat, vec![no_flags(2, CHANGING)?]);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, vec![no_flags(1, CHANGING)?]);
    // No memory becomes code.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![no_flags(2, libc::PROT_EXEC)?]);
    }
    let equals = |argument, values: &[i32]| -> Result<Vec<SeccompRule>, String> {
        let one = |value: &i32| rule(argument, SeccompCmpOp::Eq, u64::from(value.cast_unsigned()));
        values.iter().map(one).collect()
    };
    // To servers by IP, and nothing of the host's.
    let families = equals(0, &[libc::AF_INET, libc::AF_INET6])?;
    rules.insert(libc::SYS_socket, families);
    let commands = [
        libc::F_DUPFD_CLOEXEC,
        libc::F_GETFD,
        libc::F_SETFD,
        libc::F_GETFL,
        libc::F_SETFL,
    ];
    rules.insert(libc::SYS_fcntl, equals(1, &commands)?);
    // abort(3): a signal to the process itself.
    let own = equals(0, &[std::process::id().cast_signed()])?;
    rules.insert(libc::SYS_tgkill, own);
    let requests = [libc::FIONBIO as i32, libc::FIONREAD as i32];
    rules.insert(libc::SYS_ioctl, equals(1, &requests)?);
    Ok(rules)
}

fn rule(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, String> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value);
    SeccompRule::new(vec![condition.map_err(text)?]).map_err(text)
}

fn text(error: impl Display) -> String {
    error.to_string()
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "a test tries what is refused in a process of its own"
)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixDatagram;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, ExitStatus};

    use super::*;

    /// Names what the child is to try.
    const TRY: &str = "PONTOON_FILTER_TRY";

    /// Runs the test of that name in a process of its own, with a word that tells it what to try.
    fn child(test: &str, what: &str) -> (ExitStatus, String) {
        let own = std::env::current_exe().unwrap();
        let path = format!("privileges::filter::tests::{test}");
        let output = Command::new(own)
            .args(["--exact", &path, "--nocapture", "--test-threads=1"])
            .env(TRY, what)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status, text)
    }

    fn denied<T>(done: std::io::Result<T>) -> bool {
        done.is_err_and(|error| error.raw_os_error() == Some(libc::EPERM))
    }

    #[test]
    fn what_the_worker_needs_is_allowed_and_the_rest_refused() {
        let Some(dir) = std::env::var_os(TRY) else {
            let name = "what_the_worker_needs_is_allowed_and_the_rest_refused";
            let dir = tempfile::tempdir().unwrap();
            let (status, text) = child(name, dir.path().to_str().unwrap());
            assert!(
                status.success() && text.contains("tried all"),
                "{status}: {text}"
            );
            return;
        };
        let dir = std::path::Path::new(&dir);
        let file = dir.join("file");
        fs::write(&file, "x").unwrap();
        install().unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"x");
        assert!(
            UdpSocket::bind("127.0.0.1:0")
                .is_err_and(|error| error.raw_os_error() == Some(libc::EPERM))
        );
        assert!(denied(TcpListener::bind("127.0.0.1:0")), "the keeper binds");
        assert!(
            denied(UnixDatagram::unbound()),
            "nothing of the host's is talked to"
        );
        assert!(denied(File::create(dir.join("new"))));
        assert!(denied(File::options().append(true).open(&file)));
        assert!(denied(fs::remove_file(&file)));
        assert!(denied(fs::rename(&file, dir.join("other"))));
        assert!(denied(fs::create_dir(dir.join("dir"))));
        assert!(
            denied(Command::new("/bin/true").status()),
            "no process is started"
        );
        assert!(std::thread::Builder::new().spawn(|| ()).is_err());
        let _ = writeln!(std::io::stdout(), "tried all");
        std::process::exit(0);
    }

    #[test]
    fn what_only_an_intruder_tries_ends_the_process() {
        let Some(what) = std::env::var_os(TRY) else {
            let name = "what_only_an_intruder_tries_ends_the_process";
            for what in ["setns", "exec", "mount", "unshare", "umount", "ptrace"] {
                let (status, text) = child(name, what);
                assert_eq!(
                    status.signal(),
                    Some(libc::SIGSYS),
                    "{what}: {status}: {text}"
                );
            }
            let (status, text) = child(name, "nothing");
            assert!(status.success(), "{status}: {text}");
            return;
        };
        let own = File::open("/proc/self/ns/net").unwrap();
        install().unwrap();
        let none = None::<&str>;
        match what.to_str().unwrap() {
            "setns" => drop(nix::sched::setns(
                &own,
                nix::sched::CloneFlags::CLONE_NEWNET,
            )),
            "exec" => drop(nix::unistd::execv::<&std::ffi::CStr>(
                c"/bin/true",
                &[c"true"],
            )),
            "mount" => drop(nix::mount::mount(
                none,
                "/",
                none,
                nix::mount::MsFlags::MS_REMOUNT,
                none,
            )),
            "unshare" => drop(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)),
            "umount" => drop(nix::mount::umount("/nowhere")),
            "ptrace" => drop(nix::sys::ptrace::traceme()),
            _ => {}
        }
        std::process::exit(0);
    }
}
