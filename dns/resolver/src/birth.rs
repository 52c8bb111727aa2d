//! How a resolver comes to be: alone for its state directory, free of whoever started it, heard
//! before its starter goes on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, close, dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use super::options::Options;

/// The first port that is tried. Below the range that the kernel gives to clients (32768 on).
pub(crate) const PORT: u16 = 21_053;
/// How many are tried.
const PORTS: u16 = 16;
/// For how long a resolver that is about to end is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// Descriptors that all bounds together can need: four sockets for each of 1,024 questions, 512 TCP
/// connections, 256 commands, two sockets for each bridge.
const DESCRIPTORS: u64 = 16_384;

/// Why there is no resolver.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// A system call failed.
    #[error("cannot {act}: {source}")]
    Io { act: String, source: io::Error },
    /// Another one has the state directory.
    #[error("another resolver (process {pid}) serves {state}")]
    Taken { pid: String, state: PathBuf },
    /// Nothing to listen on.
    #[error("no port from {first} on is free at the addresses of the bridges")]
    NoPort { first: u16 },
}

impl StartError {
    pub(crate) fn io(act: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let act = act.into();
        move |source| Self::Io { act, source }
    }
}

/// What a resolver has on disk.
pub(crate) struct Files {
    state: PathBuf,
    /// Held for life.
    _lock: File,
}

/// Whether a resolver may end.
pub(crate) enum Departure {
    /// Nobody starts one meanwhile.
    Locked(File),
    /// Somebody is about to.
    Contested,
    /// The state directory is gone, and nobody will ever find us.
    Homeless,
}

pub(crate) struct Birth {
    pub(crate) files: Files,
    pub(crate) port: u16,
    pub(crate) control: UnixListener,
}

impl Birth {
    pub(crate) fn new(options: &Options) -> Result<Self, StartError> {
        umask(Mode::from_bits_truncate(0o077));
        let state = &options.state;
        for dir in ["lock", "dns"] {
            let dir = state.join(dir);
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(&dir)
                .map_err(StartError::io(format!("make {}", dir.display())))?;
        }
        if options.detached {
            leave(state);
        }
        let lock = alone(state)?;
        let path = state.join("dns/control");
        let bind = || {
            // Whoever held it is dead, or we would not have the lock.
            let _ = fs::remove_file(&path);
            let control = UnixListener::bind(&path)?;
            control.set_nonblocking(true)?;
            Ok(control)
        };
        let control = bind().map_err(StartError::io(format!("listen at {}", path.display())))?;
        let known = fs::read_to_string(state.join("dns/port")).ok();
        Ok(Self {
            files: Files {
                state: state.clone(),
                _lock: lock,
            },
            port: known
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(PORT),
            control,
        })
    }
}

/// Ports in the order in which they are tried.
pub(crate) fn ports(known: u16) -> impl Iterator<Item = u16> {
    std::iter::once(known).chain((PORT..PORT + PORTS).filter(move |port| *port != known))
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

/// The lock of the state directory's one resolver.
fn alone(state: &Path) -> Result<File, StartError> {
    let path = state.join("lock/.dns");
    let failed = |error| StartError::io("lock the state directory for one resolver")(error);
    let started = Instant::now();
    loop {
        let mut file = open(&path).map_err(failed)?;
        if file.try_lock().is_ok() {
            let held = file.metadata().map_err(failed)?;
            // The one before us may have removed the file on its way out.
            if fs::metadata(&path)
                .is_ok_and(|seen| (seen.dev(), seen.ino()) == (held.dev(), held.ino()))
            {
                file.set_len(0).map_err(failed)?;
                writeln!(file, "{}", std::process::id()).map_err(failed)?;
                return Ok(file);
            }
        }
        if started.elapsed() > PATIENCE {
            let pid = fs::read_to_string(&path).unwrap_or_default();
            return Err(StartError::Taken {
                pid: pid.trim().to_owned(),
                state: state.to_owned(),
            });
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Files {
    pub(crate) fn write_port(&self, port: u16) -> Result<(), StartError> {
        let path = self.state.join("dns/port");
        fs::write(&path, format!("{port}\n"))
            .map_err(StartError::io(format!("write {}", path.display())))
    }

    /// The lock that whoever starts a resolver holds meanwhile.
    pub(crate) fn try_start_lock(&self) -> Departure {
        match open(&self.state.join("lock/.dns-start")) {
            Ok(file) => match file.try_lock() {
                Ok(()) => Departure::Locked(file),
                Err(_) => Departure::Contested,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Departure::Homeless,
            Err(_) => Departure::Contested,
        }
    }

    /// Removes what is ours, and directories that are empty then.
    pub(crate) fn remove(&self) {
        for file in ["dns/control", "lock/.dns"] {
            let _ = fs::remove_file(self.state.join(file));
        }
        // Rules lead to the port as long as there are records.
        if fs::remove_dir(self.state.join("dns/records")).is_ok() || !self.has_records() {
            let _ = fs::remove_file(self.state.join("dns/port"));
            let _ = fs::remove_file(self.state.join("lock/.dns-start"));
        }
        for dir in ["dns", "lock", ""] {
            let _ = fs::remove_dir(self.state.join(dir));
        }
    }

    fn has_records(&self) -> bool {
        self.state.join("dns/records").exists()
    }
}

/// Closes what a starter has left open: some runtimes hand down sockets without knowing it. Before
/// anything is opened, so that nothing of ours is meant.
pub(crate) fn close_inherited() {
    let numbers: Vec<i32> = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for number in numbers.into_iter().filter(|number| *number > 2) {
        let _ = close(number);
    }
}

/// Leaves the starter's session, directory and mounts.
fn leave(state: &Path) {
    let _ = setsid();
    let _ = chdir("/");
    leave_mounts(state);
}

/// A copy of somebody's mount namespace keeps file systems busy that they unmount: ours becomes the
/// first process's, when the state directory is the same there.
fn leave_mounts(state: &Path) {
    let identity = |path: &Path| fs::metadata(path).ok().map(|data| (data.dev(), data.ino()));
    let namespace = |path: &str| fs::metadata(path).ok().map(|data| data.ino());
    let first = namespace("/proc/1/ns/mnt");
    if first.is_none() || first == namespace("/proc/self/ns/mnt") {
        return;
    }
    let (Ok(own), Ok(theirs)) = (
        File::open("/proc/self/ns/mnt"),
        File::open("/proc/1/ns/mnt"),
    ) else {
        return;
    };
    let wanted = identity(state);
    if setns(&theirs, CloneFlags::CLONE_NEWNS).is_ok() && identity(state) != wanted {
        let _ = setns(&own, CloneFlags::CLONE_NEWNS);
    }
    let _ = chdir("/");
}

/// Lets the process have as many descriptors as it may: a question under way has up to four sockets.
/// Returns how many there are then.
pub(crate) fn raise_descriptors() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 1024;
    };
    let wanted = hard.min(DESCRIPTORS).max(soft);
    let raised = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok();
    let limit = if raised { wanted } else { soft };
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// Says that the resolver is there, and where.
#[allow(clippy::disallowed_methods, reason = "sd_notify(3) wants it")]
pub(crate) fn announce(port: u16, detached: bool) {
    if detached {
        let _ = writeln!(io::stdout(), "ready {port}");
        let _ = io::stdout().flush();
        if let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null") {
            let _ = dup2_stdin(&null);
            let _ = dup2_stdout(&null);
            let _ = dup2_stderr(&null);
        }
        return;
    }
    // sd_notify(3), for `Type=notify`.
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    notify(&socket);
}

fn notify(socket: &std::ffi::OsStr) {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(Path::new(socket)),
    };
    if let (Ok(address), Ok(sender)) = (address, UnixDatagram::unbound()) {
        let _ = sender.send_to_addr(b"READY=1\n", &address);
    }
}
