//! Waits that the kernel imposes, left to a detached child.
//!
//! Deleting a link returns 8 to 33 ms after the link is out of sight, and closing a netfilter socket within some 15 ms of
//! a deletion in nf_tables blocks while it holds the mutex that every other transaction of the namespace needs. Neither
//! wait tells the caller anything. A thread does not help, since the end of a process waits for its threads.

use std::fs::OpenOptions;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use crate::conntrack::Sweep;
use crate::error::Error;
use crate::frame::Frames;
use crate::link::change::{self, LinkChange};
use crate::link::{RTM_DELLINK, RTM_NEWLINK};
use crate::route::RouteSocket;

/// Groups above this are not used by administrators, who number groups from 1 up.
const GROUPS: u32 = 1 << 31;

/// A detached child that waits for the kernel in place of its parent.
#[derive(Debug)]
pub struct DetachedChild {
    pid: Pid,
}

/// Everything the child needs, made before it is: it makes system calls, and asks for no memory.
struct ChildWork {
    null: RawFd,
    /// What to send, and by which socket.
    sends: Vec<(RawFd, Frames)>,
    sweep: Option<Sweep>,
    /// Runs of descriptors to close.
    ranges: Vec<(u32, u32)>,
    hold: libc::timespec,
}

/// The child's stack: it calls little but thin wrappers of system calls.
const STACK: usize = 32 * 1024;

impl DetachedChild {
    /// Starts a child that deletes the links, keeps the sockets open for `hold`, and ends. It leaves the session and
    /// holds neither the standard streams nor any other descriptor, so that a reader of our output sees it end with
    /// this process. The links are those of the calling thread's namespace; [`RouteSocket::wait_gone`] tells when they are out of
    /// sight.
    ///
    /// The child shares our memory instead of copying it, which costs 0.05 ms where a fork costs 0.3; some 40 kB stay
    /// taken for it. It is not waited for: once its parent has ended, init does that.
    ///
    /// # Errors
    /// When the child cannot be started (clone(2)), or its memory not be had.
    pub fn spawn(
        sockets: Vec<OwnedFd>,
        links: &[u32],
        hold: Duration,
    ) -> Result<DetachedChild, Error> {
        if links.is_empty() {
            return start(sockets, Vec::new(), None, hold);
        }
        let (route, frames) = (RouteSocket::open()?, deletion(links));
        route.make_room(&frames);
        let send = (route.as_fd().as_raw_fd(), frames);
        let mut sockets = sockets;
        sockets.push(route.into_fd());
        start(sockets, vec![send], None, hold)
    }

    /// As [`DetachedChild::spawn`], for netfilter messages whose answers are not needed.
    ///
    /// # Errors
    /// When the child cannot be started (clone(2)), or its memory not be had.
    pub fn send(
        mut sockets: Vec<OwnedFd>,
        socket: OwnedFd,
        frames: Frames,
        hold: Duration,
    ) -> Result<DetachedChild, Error> {
        let send = (!frames.is_empty()).then(|| (socket.as_raw_fd(), frames));
        sockets.push(socket);
        start(sockets, send.into_iter().collect(), None, hold)
    }

    /// As [`DetachedChild::spawn`], for flows to cut. Without a child they are cut here and now.
    ///
    /// # Errors
    /// When the child cannot be started (clone(2)), or its memory not be had.
    pub fn sweep(
        sockets: Vec<OwnedFd>,
        sweep: Sweep,
        hold: Duration,
    ) -> Result<DetachedChild, Error> {
        start(sockets, Vec::new(), Some(sweep), hold)
    }

    /// Forks a child that keeps the sockets, does `work`, and ends; detached in the same way.
    ///
    /// The child goes on in a copy of the caller's memory, where a lock that another thread held at the fork would stay
    /// held for ever: refused unless the process has one thread.
    ///
    /// # Errors
    /// When the child cannot be started (clone(2)), or its memory not be had.
    pub fn detach(sockets: Vec<OwnedFd>, work: impl FnOnce()) -> Result<DetachedChild, Error> {
        let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count);
        if threads.map_err(Error::io("count threads"))? != 1 {
            return Err(Error::io("fork beside other threads")(
                io::ErrorKind::ResourceBusy.into(),
            ));
        }
        let null = null()?;
        let ranges = descriptor_ranges(sockets.iter().map(AsRawFd::as_raw_fd).collect());
        // SAFETY: there is no other thread, so the child may use all of its copy of our memory. It never returns into
        // the caller: `_exit` runs no destructor of what the parent still owns.
        match unsafe { libc::fork() } {
            -1 => Err(Error::io("fork")(io::Error::last_os_error())),
            0 => {
                leave(null.as_raw_fd(), &ranges);
                work();
                // SAFETY: ends this process, and nothing else.
                unsafe { libc::_exit(0) }
            }
            pid => Ok(DetachedChild {
                pid: Pid::from_raw(pid),
            }),
        }
    }

    /// Waits for the child's end; for a process that lives on and wants no zombie.
    ///
    /// # Errors
    /// Those of waitpid(2).
    pub fn wait(self) -> io::Result<()> {
        waitpid(self.pid, None)?;
        Ok(())
    }
}

/// Ends the process, with exit code 0 or 1. Returning from `main` instead unmaps a stack before, which takes some
/// 30 µs while a child on another processor shares the memory. Nothing is flushed and no destructor runs.
pub fn end(well: bool) -> ! {
    // SAFETY: ends this process, and nothing else.
    unsafe { libc::_exit(i32::from(!well)) }
}

/// Starts the child. The descriptors are the child's alone afterwards.
fn start(
    kept: Vec<OwnedFd>,
    sends: Vec<(RawFd, Frames)>,
    sweep: Option<Sweep>,
    hold: Duration,
) -> Result<DetachedChild, Error> {
    let null = null()?;
    let sockets = sweep.iter().flat_map(Sweep::sockets);
    let keep = kept.iter().map(AsRawFd::as_raw_fd);
    let keep = keep.chain(sockets.map(|socket| socket.as_raw_fd()));
    let ranges = descriptor_ranges(keep.collect());
    let work = ChildWork {
        null: null.as_raw_fd(),
        sends,
        sweep,
        ranges,
        hold: libc::timespec {
            tv_sec: hold.as_secs().try_into().unwrap_or(60),
            tv_nsec: hold.subsec_nanos().into(),
        },
    };
    // Never freed: the child reads the one and runs on the other for as long as it likes.
    let work: &'static mut ChildWork = Box::leak(Box::new(work));
    let stack = Box::leak(Box::<[u128]>::new_uninit_slice(STACK / size_of::<u128>()));
    let top = stack.as_mut_ptr_range().end;
    // SAFETY: the stack is the child's alone, 16-byte aligned, and grows down from its end on every architecture that
    // Rust's standard library has Linux for. `child_main` makes system calls only, on memory that is never freed, takes no
    // lock and never returns; without CLONE_FILES it has descriptors of its own.
    let pid = unsafe {
        libc::clone(
            child_main,
            top.cast(),
            libc::CLONE_VM | libc::SIGCHLD,
            std::ptr::from_mut(work).cast(),
        )
    };
    if pid == -1 {
        let error = io::Error::last_os_error();
        if let Some(sweep) = &mut work.sweep {
            sweep.carry_out();
        }
        return Err(Error::io("start a child")(error));
    }
    Ok(DetachedChild {
        pid: Pid::from_raw(pid),
    })
}

fn null() -> Result<OwnedFd, Error> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/null");
    Ok(file.map_err(Error::io("open /dev/null"))?.into())
}

/// One link is deleted by its number. Several are put into a group of their own first and deleted as a group, since the
/// kernel waits once per message: 46 ms for a hundred pairs instead of three seconds.
fn deletion(links: &[u32]) -> Frames {
    let mut frames = Frames::new();
    let builder = LinkMessageBuilder::<LinkUnspec>::default;
    if let [only] = links {
        frames.emit(RTM_DELLINK, 0, &builder().index(*only).build());
    } else if !links.is_empty() {
        // The seed of a hash map is the operating system's randomness.
        let random = std::collections::hash_map::RandomState::new()
            .build_hasher()
            .finish() as u32;
        let group = random | GROUPS;
        let join = LinkChange {
            group: Some(group),
            ..LinkChange::default()
        };
        for link in links {
            frames.emit(RTM_NEWLINK, 0, &change::message(*link, &join));
        }
        frames.emit(RTM_DELLINK, 0, &builder().link_group(group).build());
    }
    frames
}

/// The runs of descriptors between those to keep, above the standard streams.
fn descriptor_ranges(mut kept: Vec<RawFd>) -> Vec<(u32, u32)> {
    kept.sort_unstable();
    let mut ranges = Vec::with_capacity(kept.len() + 1);
    let mut next = 3;
    for fd in kept.into_iter().filter_map(|fd| u32::try_from(fd).ok()) {
        if fd > next {
            ranges.push((next, fd - 1));
        }
        next = next.max(fd + 1);
    }
    ranges.push((next, u32::MAX));
    ranges
}

/// The child leaves everything that it shares with its parent.
fn leave(null: RawFd, ranges: &[(u32, u32)]) {
    // SAFETY: system calls on descriptors that this process owns; all of them are async-signal-safe. Errors have no reader
    // to be told to.
    unsafe {
        libc::setsid();
        for stream in 0..3 {
            libc::dup2(null, stream);
        }
        for (first, last) in ranges {
            if libc::syscall(libc::SYS_close_range, *first, *last, 0) != 0 {
                // Before Linux 5.9; plugins have few descriptors.
                for fd in *first..=(*last).min(1024) {
                    libc::close(fd as RawFd);
                }
            }
        }
    }
}

/// The whole life of a child that makes system calls only.
extern "C" fn child_main(work: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `start` hands over a leaked `ChildWork`, which nothing else reads any more.
    let work = unsafe { &mut *work.cast::<ChildWork>() };
    leave(work.null, &work.ranges);
    if let Some(sweep) = &mut work.sweep {
        sweep.carry_out();
    }
    // SAFETY: system calls on memory that is never freed. A link that stays is seen by `wait_gone`.
    unsafe {
        for (socket, frames) in &work.sends {
            let bytes = frames.as_bytes();
            libc::send(*socket, bytes.as_ptr().cast(), bytes.len(), 0);
        }
        libc::nanosleep(&raw const work.hold, std::ptr::null_mut());
        libc::_exit(0)
    }
}

impl RouteSocket {
    /// Waits until a link is out of sight, which takes about a millisecond after its deletion was ordered.
    ///
    /// # Errors
    /// When the kernel does not answer, or the link is still there after `timeout`.
    pub fn wait_gone(&mut self, index: u32, timeout: Duration) -> Result<(), Error> {
        let start = Instant::now();
        let mut nap = Duration::from_micros(50);
        while self.link_by_index(index)?.is_some() {
            let waited = start.elapsed();
            if waited > timeout {
                return Err(Error::StillThere { index, waited });
            }
            std::thread::sleep(nap);
            nap = (nap * 2).min(Duration::from_micros(500));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kept: &[RawFd], expected: &[(u32, u32)]) {
        assert_eq!(descriptor_ranges(kept.to_vec()), expected);
    }

    #[test]
    fn all_but_the_kept_descriptors_are_closed() {
        check(&[], &[(3, u32::MAX)]);
        check(&[3], &[(4, u32::MAX)]);
        check(&[9, 5, 6], &[(3, 4), (7, 8), (10, u32::MAX)]);
        check(&[1, 4], &[(3, 3), (5, u32::MAX)]);
    }

    #[test]
    fn several_links_go_as_a_group() {
        assert_eq!(deletion(&[]).len(), 0);
        assert_eq!(deletion(&[7]).len(), 1);
        assert_eq!(deletion(&[7, 8, 9]).len(), 4);
    }
}
