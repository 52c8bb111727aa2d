//! Network namespaces: opening one, telling two apart, working inside one.

mod persist;
mod rebind;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{FsType, fstatfs};

pub use rebind::NetnsMount;

const NSFS_MAGIC: FsType = FsType(0x6e73_6673);
/// `_IO(0xb7, 0x3)`, from linux/nsfs.h.
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
/// From linux/sockios.h: a descriptor of the namespace that a socket is in.
const SIOCGSKNS: libc::Ioctl = 0x894c;
/// Socket option since Linux 5.14, from asm-generic/socket.h.
const SO_NETNS_COOKIE: libc::c_int = 71;
const CURRENT: &str = "/proc/thread-self/ns/net";

/// An open network namespace. It lives at least as long as this handle.
#[derive(Debug)]
pub struct Netns {
    file: File,
    id: NetnsId,
}

/// Identity of a network namespace: device and inode of its nsfs file. Unique among living namespaces; a dead one's may
/// be given out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetnsId {
    /// Device number of nsfs.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

/// A namespace could not be opened, made, entered or removed.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// Nothing is there.
    #[error("network namespace {path} does not exist")]
    NotFound {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Something else is there, such as the empty file that stays when a namespace is unmounted.
    #[error("{path} is not a network namespace")]
    NotNamespace {
        /// What was opened.
        path: PathBuf,
    },
    /// A namespace cannot be made where something is already.
    #[error("{path} exists already; remove it or choose another name")]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// The failed act.
        action: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The system call's error.
        source: io::Error,
    },
}

impl NetnsError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NetnsError {
        let path = path.to_owned();
        move |source| NetnsError::Io {
            action,
            path,
            source,
        }
    }
}

impl Netns {
    /// Opens the namespace at a path, after making sure that it is one.
    ///
    /// # Errors
    /// When the path cannot be opened, or leads to no network namespace.
    pub fn open(path: &Path) -> Result<Netns, NetnsError> {
        // O_PATH first: opening has effects of its own on a FIFO (waits) or a watchdog device (starts the countdown).
        let failed = |errno: Errno| match errno {
            // No namespace is there, or can be.
            Errno::ENOENT | Errno::ENOTDIR | Errno::ESRCH | Errno::ENAMETOOLONG | Errno::ELOOP => {
                NetnsError::NotFound {
                    path: path.to_owned(),
                }
            }
            _ => NetnsError::io("open network namespace", path)(errno.into()),
        };
        let probe = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(failed)?;
        let kind = fstatfs(&probe)
            .map_err(|e| NetnsError::io("examine", path)(e.into()))?
            .filesystem_type();
        if kind != NSFS_MAGIC {
            return Err(NetnsError::NotNamespace {
                path: path.to_owned(),
            });
        }
        // By its path once more: for the way by /proc/self/fd the kernel first makes the entries of this process.
        // Without waiting, should it have become something else in between; the ioctl tells.
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
            .map_err(|error| failed(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))))?;
        // SAFETY: the ioctl takes no argument and only returns a number.
        let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
        match Errno::result(kind) {
            Ok(libc::CLONE_NEWNET) => {}
            Ok(_) | Err(Errno::ENOTTY) => {
                return Err(NetnsError::NotNamespace {
                    path: path.to_owned(),
                });
            }
            Err(errno) => return Err(failed(errno)),
        }
        Netns::from_file(file, path)
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// When the namespace of the process cannot be opened.
    pub fn current() -> Result<Netns, NetnsError> {
        let path = Path::new(CURRENT);
        // A socket knows its namespace, without a walk through this thread's part of /proc; only who may administrate
        // the network is told.
        let file = match UnixDatagram::unbound().and_then(|socket| namespace_of(&socket)) {
            Ok(file) => file,
            Err(_) => File::open(path).map_err(NetnsError::io("open network namespace", path))?,
        };
        Netns::from_file(file, path)
    }

    /// Makes a namespace that has no name and ends with its last user.
    ///
    /// # Errors
    /// When the kernel makes no namespace (unshare(2)).
    pub fn create_unnamed() -> Result<Netns, NetnsError> {
        on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|e| {
                NetnsError::io("make a namespace in place of", Path::new(CURRENT))(e.into())
            })?;
            Netns::current()
        })
    }

    fn from_file(file: File, path: &Path) -> Result<Netns, NetnsError> {
        let stat = fstat(&file).map_err(|e| NetnsError::io("examine", path)(e.into()))?;
        Ok(Netns {
            file,
            id: NetnsId {
                dev: stat.st_dev,
                ino: stat.st_ino,
            },
        })
    }

    /// Whether both are the same namespace.
    #[must_use]
    pub fn same_as(&self, other: &Netns) -> bool {
        self.id == other.id
    }

    /// What tells this namespace from all others alive.
    #[must_use]
    pub fn id(&self) -> NetnsId {
        self.id
    }

    /// The kernel's number for the calling thread's namespace, never given out twice in a boot; 1 is the initial
    /// namespace.
    ///
    /// # Errors
    /// When the kernel does not tell (`SO_NETNS_COOKIE`, Linux 5.14).
    pub fn cookie() -> Result<u64, NetnsError> {
        let failed = NetnsError::io("read the cookie of", Path::new(CURRENT));
        let socket = match UnixDatagram::unbound() {
            Ok(socket) => socket,
            Err(error) => return Err(failed(error)),
        };
        let mut cookie = 0u64;
        let mut length = size_of::<u64>() as libc::socklen_t;
        // SAFETY: the option writes at most `length` bytes, which is the size of `cookie`.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_NETNS_COOKIE,
                (&raw mut cookie).cast(),
                &raw mut length,
            )
        };
        if result < 0 {
            Err(failed(io::Error::last_os_error()))
        } else {
            Ok(cookie)
        }
    }

    /// Runs `work` inside, on a thread that enters and never comes back.
    ///
    /// # Errors
    /// When no thread can be started, or it cannot enter the namespace (setns(2)).
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        on_a_thread(|| {
            self.enter()?;
            Ok(work())
        })
    }

    fn enter(&self) -> Result<(), NetnsError> {
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|e| NetnsError::Io {
            action: "enter network namespace",
            path: PathBuf::from(self.id.to_string()),
            source: e.into(),
        })
    }

    /// Makes something namespace-bound (a socket) inside, on this thread: 16 to 25 µs, a thread costs 55 to 85.
    ///
    /// Kept inside the crate on purpose: `make` must be a system call or two and cannot fail half-way into something
    /// that expects the other namespace. If the way back is barred the process ends, since whatever it did next would
    /// happen in the wrong place.
    pub(crate) fn make_inside<T>(&self, make: impl FnOnce() -> T) -> Result<T, NetnsError> {
        let home = Netns::current()?;
        self.enter()?;
        let made = make();
        if home.enter().is_err() {
            std::process::abort();
        }
        Ok(made)
    }
}

fn namespace_of(socket: &impl AsRawFd) -> io::Result<File> {
    // SAFETY: the ioctl takes no argument and returns a new descriptor, which no other owner has.
    unsafe {
        match libc::ioctl(socket.as_raw_fd(), SIOCGSKNS) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd).into()),
        }
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Runs to the end on a fresh thread; a panic goes on in the caller.
fn on_a_thread<T: Send>(
    work: impl FnOnce() -> Result<T, NetnsError> + Send,
) -> Result<T, NetnsError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .spawn_scoped(scope, work)
            .map_err(NetnsError::io("start a thread for", Path::new(CURRENT)))?;
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl fmt::Display for NetnsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.dev, self.ino)
    }
}

/// The text is not `device:inode`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a namespace identity; it is written device:inode")]
pub struct NotNetnsId(String);

impl FromStr for NetnsId {
    type Err = NotNetnsId;

    fn from_str(text: &str) -> Result<Self, NotNetnsId> {
        text.split_once(':')
            .and_then(|(dev, ino)| {
                Some(NetnsId {
                    dev: dev.parse().ok()?,
                    ino: ino.parse().ok()?,
                })
            })
            .ok_or_else(|| NotNetnsId(text.to_owned()))
    }
}
