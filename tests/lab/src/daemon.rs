//! Another vendor's program that runs on a host for as long as a test needs it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::failure::{Failure, Outcome};
use super::host::Host;

/// For how long a daemon may start or end.
const PATIENCE: Duration = Duration::from_secs(60);

/// The command lines of all processes in which this word stands.
#[must_use]
pub fn processes_with(word: &str) -> Vec<String> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let lines = processes.flatten().filter_map(|process| {
        let line = fs::read(process.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.filter(|line| line.contains(word)).collect()
}

/// A running daemon. It is asked to end when this is dropped, and its end waited for.
pub struct Daemon {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Daemon {
    /// Starts it on a host, with its words in the file `log`, and waits until `ready` says so.
    pub fn start(
        host: &Host,
        command: &mut Command,
        log: &Path,
        ready: impl FnMut() -> bool,
    ) -> Outcome<Self> {
        let start = |command: &mut Command| {
            let act = format!("run {}", command.get_program().to_string_lossy());
            host.run(|| command.spawn())?.map_err(Failure::act(act))
        };
        Self::start_by(start, command, log, ready)
    }

    /// The same, started by the caller.
    pub fn start_by(
        start: impl FnOnce(&mut Command) -> Outcome<Child>,
        command: &mut Command,
        log: &Path,
        mut ready: impl FnMut() -> bool,
    ) -> Outcome<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let act = format!("run {name}");
        let words = File::create(log).map_err(Failure::act(&act))?;
        let errors = words.try_clone().map_err(Failure::act(&act))?;
        command.stdin(Stdio::null()).stdout(words).stderr(errors);
        let child = start(command)?;
        let mut daemon = Self {
            child,
            name,
            log: log.to_owned(),
        };
        let started = Instant::now();
        while !ready() {
            if daemon.ended() || started.elapsed() > PATIENCE {
                return Err(Failure::new(format!(
                    "{} does not start:\n{}",
                    daemon.name,
                    fs::read_to_string(log).unwrap_or_default()
                )));
            }
            sleep(Duration::from_millis(50));
        }
        Ok(daemon)
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal: SIGSTOP hangs it, SIGCONT wakes it.
    pub fn signal(&self, signal: Signal) -> Outcome {
        let id = i32::try_from(self.child.id()).map_err(Failure::act("name a process"))?;
        kill(Pid::from_raw(id), signal).map_err(Failure::act(format!("send {signal}")))
    }

    /// Kills it, as the kernel does with one for which there is no memory.
    pub fn kill(mut self) -> Outcome {
        let act = format!("kill {}", self.name);
        self.child.kill().map_err(Failure::act(&act))?;
        self.child.wait().map_err(Failure::act(act)).map(drop)
    }

    /// What it has said so far.
    #[must_use]
    pub fn words(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let (false, Ok(id)) = (self.ended(), i32::try_from(self.child.id())) {
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if self.ended() {
                return;
            }
            sleep(Duration::from_millis(20));
        }
        eprintln!("{} does not end: see {}", self.name, self.log.display());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
