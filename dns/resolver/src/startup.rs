//! How a resolver comes to be: alone for its state directory, free of the process that started it, heard
//! before its starter goes on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, close, dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use pontoon_ledger::files::may_exist;

use super::options::Options;
use super::request::ShutdownPermission;

/// The first port that is tried. Below the range that the kernel gives to clients (32768 on).
pub(crate) const PORT: u16 = 21_053;
/// How many are tried.
const PORTS: u16 = 16;
/// For how long a resolver that is about to end is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

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
    lock: File,
}

/// The lock under which a resolver is started, for as long as this lives.
pub(crate) struct StartLock(#[expect(dead_code, reason = "it is held, and not read")] File);

pub(crate) struct Startup {
    pub(crate) files: Files,
    pub(crate) port: u16,
    pub(crate) control: UnixListener,
}

impl Startup {
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
            // The resolver that has made it is gone: the lock is held here.
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
                lock,
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
        let file = open(&path).map_err(failed)?;
        if file.try_lock().is_ok() {
            let held = file.metadata().map_err(failed)?;
            // The one before us may have removed the file on its way out.
            if fs::metadata(&path)
                .is_ok_and(|seen| (seen.dev(), seen.ino()) == (held.dev(), held.ino()))
            {
                sign(&file).map_err(failed)?;
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

/// Writes whose lock it is.
fn sign(lock: &File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)
}

impl Files {
    /// Those of a keeper that is gone, whose lock lives on.
    pub(crate) fn inherit(state: &Path, lock: File) -> Self {
        let _ = sign(&lock);
        Self {
            state: state.to_owned(),
            lock,
        }
    }

    /// The lock of the state directory, to be handed down.
    pub(crate) fn lock(&self) -> &File {
        &self.lock
    }

    pub(crate) fn write_port(&self, port: u16) -> Result<(), StartError> {
        let path = self.state.join("dns/port");
        fs::write(&path, format!("{port}\n"))
            .map_err(StartError::io(format!("write {}", path.display())))
    }

    /// The lock that a plugin holds while it starts a resolver.
    pub(crate) fn try_start_lock(&self) -> (ShutdownPermission, Option<StartLock>) {
        match open(&self.state.join("lock/.dns-start")) {
            Ok(file) => match file.try_lock() {
                Ok(()) => (ShutdownPermission::Locked, Some(StartLock(file))),
                Err(_) => (ShutdownPermission::Contested, None),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (ShutdownPermission::Homeless, None)
            }
            Err(_) => (ShutdownPermission::Contested, None),
        }
    }

    /// Removes the resolver's files, and directories that are empty then.
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
        may_exist(&self.state.join("dns/records"))
    }
}

/// Closes what a starter has left open: some runtimes hand down sockets without knowing it. Before
/// anything is opened, so that no descriptor of the resolver is meant.
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

/// A copy of the starter's mount namespace keeps file systems busy that are unmounted elsewhere: the
/// resolver goes into that of the first process, when the state directory is the same there.
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
    let criteria = identity(state);
    if setns(&theirs, CloneFlags::CLONE_NEWNS).is_ok() && identity(state) != criteria {
        let _ = setns(&own, CloneFlags::CLONE_NEWNS);
    }
    let _ = chdir("/");
}

/// Standard input, which is a socket to the keeper; it is empty from then on.
pub(crate) fn take_standard_input() -> io::Result<OwnedFd> {
    let taken = io::stdin().as_fd().try_clone_to_owned()?;
    let null = File::open("/dev/null")?;
    dup2_stdin(&null)?;
    Ok(taken)
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
