//! The other processes of a resolver: the same program, told what it is by an argument, with a socket
//! pair to the keeper as its standard input.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Keeper, StandbyHandover, WorkerHandover, signals};
use crate::message_socket::MessageSocket;
use crate::options::{Options, Role};
use crate::request::{NumberedMessage, Request};
use crate::startup;

/// The program, by the file that is open: after an upgrade still this one.
const OWN: &str = "/proc/self/exe";
/// What lives for less than this was hardly there.
const BRIEF: Duration = Duration::from_secs(1);
/// Brief lives after which the next one waits, and how long it waits first and at most.
const AT_ONCE: u32 = 3;
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// A worker or a standby.
pub(super) struct Child {
    pub(super) socket: MessageSocket,
    pub(super) started: Instant,
    process: Process,
}

enum Process {
    Own(std::process::Child),
    /// The child of a keeper that is gone, by its process id.
    Adopted(Option<u32>),
}

impl Child {
    pub(super) fn adopt(socket: MessageSocket, id: Option<u32>) -> Self {
        Self {
            socket,
            started: Instant::now(),
            process: Process::Adopted(id),
        }
    }

    pub(super) fn id(&self) -> Option<u32> {
        match &self.process {
            Process::Own(child) => Some(child.id()),
            Process::Adopted(id) => *id,
        }
    }

    /// Whether the process has closed its end: then it is gone, and its id may be another's.
    fn is_gone(&self) -> bool {
        let mut look = [PollFd::new(self.socket.as_fd(), PollFlags::empty())];
        let looked = poll(&mut look, PollTimeout::ZERO).is_ok();
        let met = look[0].revents().unwrap_or(PollFlags::empty());
        looked && met.contains(PollFlags::POLLHUP)
    }

    /// Ends the process and waits until it is gone. How it ended, in words.
    pub(super) fn end(self) -> String {
        let gone = self.is_gone();
        match self.process {
            Process::Own(mut child) => {
                if !gone {
                    let _ = child.kill();
                }
                match child.wait() {
                    Ok(status) => match (status.signal(), status.code()) {
                        (Some(signal), _) => format!("signal {signal}"),
                        (_, Some(code)) => format!("exit code {code}"),
                        _ => status.to_string(),
                    },
                    Err(error) => error.to_string(),
                }
            }
            Process::Adopted(id) => {
                if let Some(id) = id.filter(|_| !gone) {
                    let _ = kill(Pid::from_raw(id.cast_signed()), Signal::SIGKILL);
                }
                self.socket.end();
                "it was the child of an earlier keeper".to_owned()
            }
        }
    }
}

/// When a process is started that has ended: at once, and later when it does not live.
#[derive(Default)]
pub(super) struct RestartDelay {
    until: Option<Instant>,
    brief: u32,
}

impl RestartDelay {
    pub(super) fn note_end(&mut self, started: Instant) {
        let now = Instant::now();
        let lived = now.saturating_duration_since(started);
        self.brief = if lived < BRIEF { self.brief + 1 } else { 0 };
        self.until = Some(now + self.length());
    }

    fn length(&self) -> Duration {
        match self.brief.checked_sub(AT_ONCE) {
            None => Duration::ZERO,
            Some(more) => FIRST.saturating_mul(1 << more.min(10)).min(LONGEST),
        }
    }

    /// A start that has failed.
    fn note_failure(&mut self) {
        self.note_end(Instant::now());
        self.until = Some(Instant::now() + self.length().max(FIRST));
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.left(now) == Duration::ZERO
    }

    pub(super) fn left(&self, now: Instant) -> Duration {
        self.until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}

impl Keeper {
    pub(super) fn start_worker(&mut self) {
        self.service.renew_watches();
        let started = MessageSocket::both().and_then(|(socket, other)| {
            // Before the worker is there: a standby without its pair could not keep it.
            self.hand_down(Some(&socket), None);
            let child = spawn(&self.options, "--worker", other)?;
            let [records, notes] = self.service.watches();
            let handover = WorkerHandover {
                port: self.port,
                records: records.is_some(),
                notes: notes.is_some(),
                ended: self.ended.clone(),
            };
            let mut files = vec![self.control.as_fd()];
            files.extend([records, notes].into_iter().flatten().map(AsFd::as_fd));
            let sent = socket.send(&handover, &files);
            let child = Child {
                socket,
                started: Instant::now(),
                process: Process::Own(child),
            };
            if sent.is_err() {
                child.end();
                return sent.map(|()| None);
            }
            Ok(Some(child))
        });
        match started {
            Ok(worker) => {
                self.worker = worker;
                let worker = self.worker.as_ref();
                self.hand_down(
                    worker.map(|worker| &worker.socket),
                    worker.and_then(Child::id),
                );
            }
            Err(error) => {
                self.ended = Some(format!("it cannot be started: {error}"));
                self.worker_due.note_failure();
            }
        }
    }

    pub(super) fn start_standby(&mut self) {
        let started = MessageSocket::both().and_then(|(socket, other)| {
            let child = spawn(&self.options, "--standby", other)?;
            Ok(Child {
                socket,
                started: Instant::now(),
                process: Process::Own(child),
            })
        });
        match started {
            Ok(standby) => {
                self.standby = Some(standby);
                let worker = self.worker.as_ref();
                self.hand_down(
                    worker.map(|worker| &worker.socket),
                    worker.and_then(Child::id),
                );
            }
            Err(_) => self.standby_due.note_failure(),
        }
    }

    /// Tells the standby what it would need. One that does not listen is replaced by its end.
    fn hand_down(&self, worker: Option<&MessageSocket>, id: Option<u32>) {
        let (Some(standby), Some(worker)) = (&self.standby, worker) else {
            return;
        };
        let [records, notes] = self.service.watches();
        let handover = StandbyHandover {
            port: self.port,
            records: records.is_some(),
            notes: notes.is_some(),
            worker: id,
            restarts: self.restarts,
        };
        let mut files: Vec<BorrowedFd<'_>> = vec![
            self.files.lock().as_fd(),
            self.control.as_fd(),
            worker.as_fd(),
        ];
        files.extend([records, notes].into_iter().flatten().map(AsFd::as_fd));
        if standby.socket.send(&handover, &files).is_err() {
            standby.socket.end();
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the worker and the standby are this program again, and are started here alone"
)]
fn spawn(options: &Options, role: &str, input: OwnedFd) -> io::Result<std::process::Child> {
    let mut command = Command::new(OWN);
    command
        .arg0("pontoon-dns")
        .arg(role)
        .arg("--state")
        .arg(&options.state)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(input))
        .stdout(Stdio::null());
    if options.stay {
        command.arg("--stay");
    }
    if options.detached {
        command.arg("--detached").stderr(Stdio::null());
    }
    command.spawn()
}

/// Waits until the keeper is gone: then this process is the keeper. `None` when it is told to end.
pub(super) fn wait_as_standby(options: Options) -> Option<Keeper> {
    let signals = signals().ok()?;
    let socket = MessageSocket::new(startup::take_standard_input().ok()?);
    let mut last: Option<(StandbyHandover, Vec<OwnedFd>)> = None;
    loop {
        let mut wait = [
            PollFd::new(socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        if poll(&mut wait, PollTimeout::NONE).is_err() {
            continue;
        }
        while let Ok(Some(signal)) = signals.read_signal() {
            if signal.ssi_signo != Signal::SIGCHLD as u32 {
                let stop = NumberedMessage {
                    number: 0,
                    outcome: Request::Stop,
                };
                let _ = socket.send(&stop, &[]);
            }
        }
        match socket.receive(false) {
            Ok(Some(handover)) => last = Some(handover),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(None) | Err(_) => break,
        }
    }
    let (handover, files) = last?;
    let keeper = Keeper::succeed(
        Options {
            role: Role::Keeper,
            ..options
        },
        signals,
        &handover,
        files,
    )?;
    Some(keeper)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_live_is_started_later_and_later() {
        let mut pause = RestartDelay::default();
        let now = Instant::now;
        assert!(pause.is_over(now()));
        let lengths: Vec<u128> = (0..12)
            .map(|_| {
                pause.note_end(now());
                pause.length().as_millis()
            })
            .collect();
        assert_eq!(
            lengths,
            [0, 0, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000, 5000]
        );
        assert!(!pause.is_over(now()));
        pause.note_end(now() - BRIEF);
        assert!(
            pause.is_over(now()),
            "one that has lived is replaced at once"
        );
    }
}
