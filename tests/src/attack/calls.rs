//! Names of system calls, and where the file that a call is about stands among its arguments.

use nix::libc;

/// Which argument names a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// None does.
    None,
    /// The address of a path.
    Path(usize),
    /// The number of a descriptor.
    Descriptor(usize),
}

use Subject::{Descriptor, Path};

/// The calls that plugins and their children make. Others are shown by number.
const CALLS: &[(i64, &str, Subject)] = &[
    (libc::SYS_access, "access", Path(0)),
    (libc::SYS_bind, "bind", Descriptor(0)),
    (libc::SYS_brk, "brk", Subject::None),
    (libc::SYS_chdir, "chdir", Path(0)),
    (libc::SYS_chmod, "chmod", Path(0)),
    (libc::SYS_clone, "clone", Subject::None),
    (libc::SYS_clone3, "clone3", Subject::None),
    (libc::SYS_close, "close", Descriptor(0)),
    (libc::SYS_close_range, "close_range", Subject::None),
    (libc::SYS_connect, "connect", Descriptor(0)),
    (libc::SYS_copy_file_range, "copy_file_range", Descriptor(2)),
    (libc::SYS_dup2, "dup2", Descriptor(0)),
    (libc::SYS_dup3, "dup3", Descriptor(0)),
    (libc::SYS_execve, "execve", Path(0)),
    (libc::SYS_exit, "exit", Subject::None),
    (libc::SYS_exit_group, "exit_group", Subject::None),
    (libc::SYS_fallocate, "fallocate", Descriptor(0)),
    (libc::SYS_fchmod, "fchmod", Descriptor(0)),
    (libc::SYS_fchmodat, "fchmodat", Path(1)),
    (libc::SYS_fchown, "fchown", Descriptor(0)),
    (libc::SYS_fcntl, "fcntl", Descriptor(0)),
    (libc::SYS_fdatasync, "fdatasync", Descriptor(0)),
    (libc::SYS_flock, "flock", Descriptor(0)),
    (libc::SYS_fstat, "fstat", Descriptor(0)),
    (libc::SYS_fsync, "fsync", Descriptor(0)),
    (libc::SYS_ftruncate, "ftruncate", Descriptor(0)),
    (libc::SYS_futex, "futex", Subject::None),
    (libc::SYS_getdents64, "getdents64", Descriptor(0)),
    (libc::SYS_getpid, "getpid", Subject::None),
    (libc::SYS_getrandom, "getrandom", Subject::None),
    (libc::SYS_getsockname, "getsockname", Descriptor(0)),
    (libc::SYS_getsockopt, "getsockopt", Descriptor(0)),
    (libc::SYS_ioctl, "ioctl", Descriptor(0)),
    (libc::SYS_kill, "kill", Subject::None),
    (libc::SYS_link, "link", Path(1)),
    (libc::SYS_linkat, "linkat", Path(3)),
    (libc::SYS_lseek, "lseek", Descriptor(0)),
    (libc::SYS_lstat, "lstat", Path(0)),
    (libc::SYS_mkdir, "mkdir", Path(0)),
    (libc::SYS_mkdirat, "mkdirat", Path(1)),
    (libc::SYS_mmap, "mmap", Subject::None),
    (libc::SYS_mount, "mount", Path(1)),
    (libc::SYS_mprotect, "mprotect", Subject::None),
    (libc::SYS_munmap, "munmap", Subject::None),
    (libc::SYS_nanosleep, "nanosleep", Subject::None),
    (libc::SYS_clock_nanosleep, "clock_nanosleep", Subject::None),
    (libc::SYS_newfstatat, "newfstatat", Path(1)),
    (libc::SYS_open, "open", Path(0)),
    (libc::SYS_openat, "openat", Path(1)),
    (libc::SYS_pipe2, "pipe2", Subject::None),
    (libc::SYS_poll, "poll", Subject::None),
    (libc::SYS_ppoll, "ppoll", Subject::None),
    (libc::SYS_pread64, "pread64", Descriptor(0)),
    (libc::SYS_pwrite64, "pwrite64", Descriptor(0)),
    (libc::SYS_read, "read", Descriptor(0)),
    (libc::SYS_readlink, "readlink", Path(0)),
    (libc::SYS_recvfrom, "recvfrom", Descriptor(0)),
    (libc::SYS_recvmsg, "recvmsg", Descriptor(0)),
    (libc::SYS_rename, "rename", Path(1)),
    (libc::SYS_renameat2, "renameat2", Path(3)),
    (libc::SYS_rmdir, "rmdir", Path(0)),
    (libc::SYS_rt_sigaction, "rt_sigaction", Subject::None),
    (libc::SYS_rt_sigprocmask, "rt_sigprocmask", Subject::None),
    (libc::SYS_sendmsg, "sendmsg", Descriptor(0)),
    (libc::SYS_sendto, "sendto", Descriptor(0)),
    (libc::SYS_setns, "setns", Descriptor(0)),
    (libc::SYS_setsid, "setsid", Subject::None),
    (libc::SYS_setsockopt, "setsockopt", Descriptor(0)),
    (libc::SYS_socket, "socket", Subject::None),
    (libc::SYS_socketpair, "socketpair", Subject::None),
    (libc::SYS_stat, "stat", Path(0)),
    (libc::SYS_statx, "statx", Path(1)),
    (libc::SYS_symlink, "symlink", Path(1)),
    (libc::SYS_symlinkat, "symlinkat", Path(2)),
    (libc::SYS_umount2, "umount2", Path(0)),
    (libc::SYS_unlink, "unlink", Path(0)),
    (libc::SYS_unlinkat, "unlinkat", Path(1)),
    (libc::SYS_utimensat, "utimensat", Path(1)),
    (libc::SYS_unshare, "unshare", Subject::None),
    (libc::SYS_wait4, "wait4", Subject::None),
    (libc::SYS_waitid, "waitid", Subject::None),
    (libc::SYS_write, "write", Descriptor(0)),
    (libc::SYS_writev, "writev", Descriptor(0)),
];

/// A call's name, and which argument names its file.
pub(crate) fn name(number: i64) -> (String, Subject) {
    match CALLS.iter().find(|(known, ..)| *known == number) {
        Some((_, name, subject)) => ((*name).to_owned(), *subject),
        None => (format!("call-{number}"), Subject::None),
    }
}
