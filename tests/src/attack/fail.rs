//! Every system call of ADD and DEL fails once with each error that it may have: no wrong success, no
//! hang, an error in JSON, and nothing left after DEL.

use nix::errno::Errno;

use super::kill::{Attack, attack};
use super::report::Summary;
use super::tracer::Point;
use super::work::Settings;

/// Runs the attack.
pub(crate) fn run(settings: &Settings) -> Summary {
    attack("fail", settings, Attack::Fail)
}

/// The errors with which a call may fail on a machine that is out of something, or broken.
pub(crate) fn errors(point: &Point) -> &'static [Errno] {
    match (point.name.as_str(), point.file.as_str()) {
        // In no kernel does a pipe fail otherwise (fs/pipe.c). Programs rely on that: iptables-restore takes a
        // failed read for the end of its input and says success, and the standard library waits for ever for a
        // daemon that it has started.
        ("read", "pipe") => return &[Errno::EINTR],
        ("ioctl", "pipe") => return &[],
        _ => {}
    }
    match point.name.as_str() {
        "open" | "openat" => &[Errno::EMFILE, Errno::EIO, Errno::ENOSPC],
        "read" | "pread64" => &[Errno::EIO, Errno::EINTR],
        "getdents64" | "fstat" | "stat" | "lstat" | "newfstatat" | "statx" | "readlink" => {
            &[Errno::EIO]
        }
        "write" | "writev" | "pwrite64" => &[Errno::ENOSPC, Errno::EIO, Errno::EINTR],
        "mkdir" | "mkdirat" | "symlink" | "symlinkat" | "link" | "linkat" | "rename"
        | "renameat2" => &[Errno::ENOSPC, Errno::EIO],
        "unlink" | "unlinkat" | "rmdir" | "chmod" | "fchmod" | "fchmodat" | "ftruncate"
        | "fsync" | "fdatasync" | "fallocate" | "copy_file_range" => &[Errno::EIO],
        "flock" => &[Errno::EINTR, Errno::ENOLCK],
        "socket" | "pipe2" | "socketpair" => &[Errno::EMFILE, Errno::ENOMEM],
        "bind" | "connect" | "setsockopt" | "getsockopt" | "getsockname" => &[Errno::ENOMEM],
        "sendto" | "sendmsg" => &[Errno::ENOBUFS, Errno::EPERM, Errno::EINTR],
        "recvfrom" | "recvmsg" => &[Errno::ENOBUFS, Errno::EINTR],
        "poll" | "ppoll" => &[Errno::EINTR, Errno::ENOMEM],
        "mount" | "umount2" | "setns" | "unshare" => &[Errno::EPERM, Errno::ENOMEM],
        "clone" | "clone3" | "execve" => &[Errno::ENOMEM, Errno::EAGAIN],
        "wait4" | "waitid" | "getrandom" | "futex" | "nanosleep" | "clock_nanosleep" => {
            &[Errno::EINTR]
        }
        "mmap" | "brk" | "mprotect" => &[Errno::ENOMEM],
        "fcntl" | "dup2" | "dup3" => &[Errno::EMFILE],
        "utimensat" | "access" | "chdir" | "fchown" => &[Errno::EIO],
        "ioctl" | "lseek" => &[Errno::EIO],
        // These fail only where the program is wrong, or never return; close(2) takes the descriptor
        // whatever it answers.
        "munmap" | "rt_sigaction" | "rt_sigprocmask" | "getpid" | "setsid" | "exit"
        | "exit_group" | "kill" | "close" | "close_range" => &[],
        _ => &[],
    }
}
