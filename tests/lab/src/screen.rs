//! Folders of a test's own over the machine's, for programs whose folders are built in.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use super::failure::{Failure, Outcome};
use super::host::Host;
use super::scratch::Scratch;

/// Mount points that the machine lacks are made, and removed when no screen in the machine is left:
/// removing one takes the mounts away that other namespaces have on it. Each screen holds this file
/// with a shared lock; its lines are the folders to remove, which the last screen does.
const MADE: &str = "pontoon-screens";

fn record() -> io::Result<File> {
    let file = env::temp_dir().join(MADE);
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(file)
}

/// A mount namespace in which some folders are empty ones of a [`Scratch`] directory, seen from
/// everywhere else by [`Screen::at`].
pub struct Screen {
    mounts: File,
    own: Scratch,
    // Only held, with a shared lock.
    record: Option<File>,
}

impl Screen {
    /// Lays empty folders over these, absolute ones.
    pub fn new(folders: &[&str]) -> Outcome<Self> {
        Self::hiding(folders, &[])
    }

    /// The same, with programs that are not found there.
    pub fn hiding(folders: &[&str], programs: &[PathBuf]) -> Outcome<Self> {
        let mut record = record().map_err(Failure::act("open the record of screens"))?;
        record
            .lock_shared()
            .map_err(Failure::act("lock the record of screens"))?;
        let own = Scratch::new("screen")?;
        for folder in folders {
            let missing: String = Path::new(folder)
                .ancestors()
                .take_while(|path| !path.exists())
                .map(|path| format!("{}\n", path.display()))
                .collect();
            record
                .write_all(missing.as_bytes())
                .map_err(Failure::act("write the record of screens"))?;
            for path in [PathBuf::from(folder), below(&own, folder)] {
                fs::create_dir_all(&path)
                    .map_err(Failure::act(format!("make {}", path.display())))?;
            }
        }
        let cover = || -> io::Result<File> {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
            for folder in folders {
                let own = below(&own, folder);
                mount(Some(&own), *folder, none, MsFlags::MS_BIND, none)?;
            }
            for program in programs {
                // A device is no program.
                mount(Some("/dev/null"), program, none, MsFlags::MS_BIND, none)?;
            }
            File::open("/proc/thread-self/ns/mnt")
        };
        let act = "make a mount namespace";
        let mounts = thread::scope(|scope| scope.spawn(cover).join())
            .map_err(|_| Failure::new(act))?
            .map_err(Failure::act(act))?;
        Ok(Self {
            mounts,
            own,
            record: Some(record),
        })
    }

    /// Where a folder's own content lies for those who are not behind the screen.
    #[must_use]
    pub fn at(&self, folder: &str) -> PathBuf {
        below(&self.own, folder)
    }

    /// Runs `work` on a thread of the host behind the screen.
    pub fn run<T: Send>(&self, host: &Host, work: impl FnOnce() -> T + Send) -> Outcome<T> {
        host.run(|| {
            // The kernel wants a thread whose working directory is its own.
            unshare(CloneFlags::CLONE_FS)?;
            setns(&self.mounts, CloneFlags::CLONE_NEWNS)?;
            Ok(work())
        })?
        .map_err(|error: nix::Error| Failure::new(format!("go behind the screen: {error}")))
    }

    /// Runs a command there: whether it succeeded, and what it printed, standard error last.
    pub fn output(&self, host: &Host, command: &mut Command) -> Outcome<(bool, String)> {
        let shown = format!("{command:?}");
        let output = self
            .run(host, || command.output())?
            .map_err(Failure::act(shown))?;
        let text = [&output.stdout[..], &output.stderr[..]].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        Ok((output.status.success(), text))
    }
}

fn below(own: &Scratch, folder: &str) -> PathBuf {
    own.path().join(folder.trim_start_matches('/'))
}

impl Drop for Screen {
    fn drop(&mut self) {
        drop(self.record.take());
        // A folder that is in use meanwhile stays, and what cannot be cleaned up is no reason to fail.
        let _ = remove_mount_points();
    }
}

/// Removes the recorded mount points, deepest first, unless a screen is left.
fn remove_mount_points() -> io::Result<()> {
    let mut record = record()?;
    if record.try_lock().is_err() {
        return Ok(());
    }
    let mut text = String::new();
    record.read_to_string(&mut text)?;
    let mut folders: Vec<&str> = text.lines().collect();
    folders.sort_unstable_by_key(|folder| std::cmp::Reverse(folder.len()));
    folders.dedup();
    for folder in folders {
        let _ = fs::remove_dir(folder);
    }
    record.set_len(0)
}

/// Removes the control groups of this name in every hierarchy, and those within, all empty by now.
pub(crate) fn remove_groups(name: &str) {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten();
    remove_group(&root.join(name));
    for hierarchy in hierarchies {
        remove_group(&hierarchy.path().join(name));
    }
}

fn remove_group(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}
