//! The privileged half: it starts the worker and starts it again, and does what the worker asks for
//! when the records allow it. One thread, blocking; it reads nothing that a container sends.

mod children;
mod files;
mod service;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::message_socket::MessageSocket;
use crate::options::Options;
use crate::privileges;
use crate::request::{
    NumberedMessage, Reply, Request, ResolverProcesses, ShutdownPermission, StandbyHandover,
    WorkerHandover,
};
use crate::startup::{self, Files, StartError, StartLock, Startup};
use children::{Child, RestartDelay};

pub(crate) use service::Service;

/// A keeper, with all that it hands down.
pub(crate) struct Keeper {
    options: Options,
    files: Files,
    control: UnixListener,
    port: u16,
    service: Service,
    signals: SignalFd,
    worker: Option<Child>,
    standby: Option<Child>,
    /// When the next worker, or standby, is started.
    worker_due: RestartDelay,
    standby_due: RestartDelay,
    /// Whether the starter knows that the resolver is there.
    announced: bool,
    restarts: u64,
    /// How the last worker has ended.
    ended: Option<String>,
    lock: Option<StartLock>,
}

/// Why the keeper goes on no longer.
enum KeeperExit {
    /// As it should be.
    Over,
    /// There never was a worker.
    Failed(String),
}

/// A resolver's first process.
pub(crate) fn main(options: Options) -> ExitCode {
    let fail = |error: &dyn std::fmt::Display| {
        eprintln!("pontoon-dns: {error}");
        ExitCode::FAILURE
    };
    if options.detached {
        startup::close_inherited();
    }
    let born = Startup::new(&options).and_then(|startup| {
        privileges::narrow_keeper();
        Keeper::new(options, startup)
    });
    let mut keeper = match born {
        Ok(keeper) => keeper,
        Err(error) => return fail(&error),
    };
    match keeper.run() {
        KeeperExit::Over => ExitCode::SUCCESS,
        KeeperExit::Failed(text) => fail(&text),
    }
}

/// A process that waits until its keeper is gone, and takes its place then.
pub(crate) fn standby(options: Options) -> ExitCode {
    privileges::narrow_keeper();
    let Some(mut keeper) = children::wait_as_standby(options) else {
        return ExitCode::SUCCESS;
    };
    match keeper.run() {
        KeeperExit::Over => ExitCode::SUCCESS,
        KeeperExit::Failed(_) => ExitCode::FAILURE,
    }
}

/// The signals that end a resolver, and the one that tells of a child's end, to be read and not to be
/// interrupted by.
fn signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        set.add(signal);
    }
    set.thread_block()?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(SignalFd::with_flags(&set, flags)?)
}

impl Keeper {
    fn new(options: Options, startup: Startup) -> Result<Self, StartError> {
        let signals = signals().map_err(StartError::io("wait for signals"))?;
        Ok(Self {
            service: Service::new(&options.state, startup.port),
            options,
            files: startup.files,
            control: startup.control,
            port: startup.port,
            signals,
            worker: None,
            standby: None,
            worker_due: RestartDelay::default(),
            standby_due: RestartDelay::default(),
            announced: false,
            restarts: 0,
            ended: None,
            lock: None,
        })
    }

    /// In the place of a keeper that is gone. The worker stays as it is.
    fn succeed(
        options: Options,
        signals: SignalFd,
        handover: &StandbyHandover,
        files: Vec<OwnedFd>,
    ) -> Option<Self> {
        let mut files = files.into_iter();
        let (lock, control, socket) = (files.next()?, files.next()?, files.next()?);
        let mut service = Service::new(&options.state, handover.port);
        let mut next = |there: bool| there.then(|| files.next()).flatten();
        let records = next(handover.records);
        service.set_watches(records, next(handover.notes));
        let files = Files::inherit(&options.state, lock.into());
        let worker = Child::adopt(MessageSocket::new(socket), handover.worker);
        // A question that the keeper before has not answered is asked again.
        let again = NumberedMessage {
            number: 0,
            outcome: Reply::Again,
        };
        let _ = worker.socket.send(&again, &[]);
        Some(Self {
            service,
            options,
            files,
            control: control.into(),
            port: handover.port,
            signals,
            worker: Some(worker),
            standby: None,
            worker_due: RestartDelay::default(),
            standby_due: RestartDelay::default(),
            announced: true,
            restarts: handover.restarts,
            ended: None,
            lock: None,
        })
    }

    /// Until there is nothing to keep any more.
    fn run(&mut self) -> KeeperExit {
        loop {
            let now = Instant::now();
            if self.worker.is_none() && self.worker_due.is_over(now) {
                // Without its state directory no worker could start.
                if self.announced && self.is_homeless() {
                    return self.end();
                }
                self.start_worker();
            }
            // The starter waits for the worker, and for nothing else.
            let stands_by = self.announced && !self.options.stay;
            if stands_by && self.standby.is_none() && self.standby_due.is_over(now) {
                self.start_standby();
            }
            let [signalled, spoke, stirred] = self.wait();
            if signalled && self.is_told_to_end() {
                return self.end();
            }
            if spoke && let Some(end) = self.hear_worker() {
                self.end();
                return end;
            }
            if stirred && self.hear_standby() {
                return self.end();
            }
        }
    }

    /// Waits for a signal, the worker, the standby, or the time to start one.
    fn wait(&self) -> [bool; 3] {
        let mut due: Option<Duration> = None;
        let mut until = |pause: &RestartDelay| {
            let left = pause.left(Instant::now());
            due = Some(due.map_or(left, |due| due.min(left)));
        };
        if self.worker.is_none() {
            until(&self.worker_due);
        }
        if self.announced && !self.options.stay && self.standby.is_none() {
            until(&self.standby_due);
        }
        let timeout = due.map_or(PollTimeout::NONE, |due| {
            // A part of a millisecond is one.
            let millis = due.as_millis() + 1;
            u16::try_from(millis).unwrap_or(u16::MAX).into()
        });
        let descriptors = [
            Some(self.signals.as_fd()),
            self.worker.as_ref().map(|child| child.socket.as_fd()),
            self.standby.as_ref().map(|child| child.socket.as_fd()),
        ];
        let mut there: Vec<PollFd<'_>> = descriptors
            .iter()
            .flatten()
            .map(|descriptor| PollFd::new(*descriptor, PollFlags::POLLIN))
            .collect();
        if poll(&mut there, timeout).is_err() {
            return [false; 3];
        }
        let mut ready = there.iter().map(|one| one.any().unwrap_or(false));
        descriptors.map(|one| one.is_some() && ready.next().unwrap_or(false))
    }

    fn is_told_to_end(&self) -> bool {
        let mut end = false;
        while let Ok(Some(signal)) = self.signals.read_signal() {
            // A child that has ended is seen by its pair.
            end |= signal.ssi_signo != Signal::SIGCHLD as u32;
        }
        end
    }

    /// Answers the worker, or sees that it is gone.
    fn hear_worker(&mut self) -> Option<KeeperExit> {
        let worker = self.worker.as_ref()?;
        let request: NumberedMessage<Request> = match worker.socket.receive(false) {
            Ok(Some((request, _))) => request,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            // Gone, or saying what no worker says.
            Ok(None) | Err(_) => return self.lose_worker(None),
        };
        let (outcome, files) = match request.outcome {
            Request::Ready { port } => (self.is_ready(port), Vec::new()),
            Request::Failed(text) if !self.announced => return Some(KeeperExit::Failed(text)),
            Request::Failed(text) => return self.lose_worker(Some(text)),
            Request::Lock => (Reply::Departure(self.take_lock()), Vec::new()),
            Request::Unlock => {
                self.lock = None;
                (Reply::Done, Vec::new())
            }
            Request::Leave if self.may_leave() => return Some(KeeperExit::Over),
            Request::Leave => (Reply::refused("the lock is not held"), Vec::new()),
            Request::Stop => return Some(KeeperExit::Over),
            Request::About => (Reply::About(self.about()), Vec::new()),
            other => self.service.answer(other),
        };
        let reply = NumberedMessage {
            number: request.number,
            outcome,
        };
        let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
        match self.worker.as_ref()?.socket.send(&reply, &files) {
            Ok(()) => None,
            Err(_) => self.lose_worker(None),
        }
    }

    fn is_ready(&mut self, port: u16) -> Reply {
        self.port = port;
        if let Err(error) = self.files.write_port(port) {
            return Reply::refused(error.to_string());
        }
        if !self.announced {
            self.announced = true;
            startup::announce(port, self.options.detached);
        }
        Reply::Done
    }

    fn take_lock(&mut self) -> ShutdownPermission {
        let (permission, lock) = self.files.try_start_lock();
        self.lock = lock;
        permission
    }

    /// The worker has looked at the records under the lock, or there are none. A lock that the keeper
    /// before has held is not enough: a record may have come since.
    fn may_leave(&mut self) -> bool {
        self.lock.is_some() || self.is_homeless()
    }

    /// Whether the state directory is gone.
    fn is_homeless(&self) -> bool {
        self.files.try_start_lock().0 == ShutdownPermission::Homeless
    }

    fn about(&self) -> ResolverProcesses {
        ResolverProcesses {
            keeper: std::process::id(),
            standby: self.standby.as_ref().and_then(Child::id),
            restarts: self.restarts,
        }
    }

    /// The worker is gone, or has to go: another one is due. `why` is what it has said itself.
    fn lose_worker(&mut self, why: Option<String>) -> Option<KeeperExit> {
        let worker = self.worker.take()?;
        self.lock = None;
        self.worker_due.note_end(worker.started);
        let how = worker.end();
        if !self.announced {
            return Some(KeeperExit::Failed(format!(
                "the worker ended before it was ready: {how}"
            )));
        }
        self.restarts += 1;
        let how = why.unwrap_or(how);
        if !self.options.detached {
            eprintln!("pontoon-dns: warning: the worker ended: {how}");
        }
        self.ended = Some(how);
        None
    }

    /// Whether the standby asks for the end; it is replaced when it is gone.
    fn hear_standby(&mut self) -> bool {
        let Some(standby) = self.standby.take() else {
            return false;
        };
        match standby.socket.receive::<NumberedMessage<Request>>(false) {
            Ok(Some((request, _))) => {
                self.standby = Some(standby);
                request.outcome == Request::Stop
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.standby = Some(standby);
                false
            }
            _ => {
                self.standby_due.note_end(standby.started);
                standby.end();
                false
            }
        }
    }

    /// Ends all, the standby first: it would take over.
    fn end(&mut self) -> KeeperExit {
        for child in [self.standby.take(), self.worker.take()] {
            child.map(Child::end);
        }
        self.files.remove();
        KeeperExit::Over
    }
}
