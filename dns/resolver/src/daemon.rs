//! The start and the end of the worker.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::rc::Rc;

use nix::sys::signal::SigSet;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::LocalSet;

use super::batch::Batch;
use super::client::MESSAGE;
use super::keeper_client::KeeperClient;
use super::options::Options;
use super::plugin_records::PluginRecords;
use super::privileges::{self, filter};
use super::request::WorkerHandover;
use super::startup::{self, StartError};
use super::state::Daemon;
use super::store::Store;
use super::{control, shutdown};
use pontoon_resolver::forwarding::Forwarding;

/// What a worker has before it reads the first byte.
struct WorkerResources {
    keeper: Rc<KeeperClient>,
    signals: [Signal; 2],
    descriptors: usize,
    /// Privileges that could not be given up, in words.
    missing: Vec<String>,
}

/// The whole of the worker.
pub(crate) fn main(options: Options) -> ExitCode {
    let fail = |error: &dyn std::fmt::Display| {
        eprintln!("pontoon-dns: {error}");
        ExitCode::FAILURE
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&StartError::io("set up the event loop")(error)),
    };
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, async {
        let ready = match WorkerResources::new() {
            Ok(ready) => ready,
            Err(error) => return fail(&StartError::io("set up the worker")(error)),
        };
        let keeper = Rc::clone(&ready.keeper);
        let (handover, files) = match keeper.handover() {
            Ok(Some(outcome)) => outcome,
            // The keeper is gone already.
            Ok(None) => return ExitCode::FAILURE,
            Err(error) => return fail(&StartError::io("hear the keeper")(error)),
        };
        let done = match Daemon::start(options, ready, handover, files) {
            Ok((daemon, control, signals)) => daemon.run(control, signals).await,
            Err(error) => {
                keeper.failed(error.to_string());
                return ExitCode::FAILURE;
            }
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        }
    })
}

impl WorkerResources {
    /// Gives up all privileges. What needs a system call that is not allowed afterwards is there before.
    fn new() -> io::Result<Self> {
        let keeper = Rc::new(KeeperClient::new(startup::take_standard_input()?)?);
        // The keeper reads its signals from a descriptor, and a child inherits that they are held back.
        SigSet::empty().thread_set_mask()?;
        let descriptors = privileges::raise_descriptors();
        let signals = [
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        ];
        let mut missing = privileges::drop_all();
        if let Err(error) = filter::install() {
            missing.push(format!("it may use all system calls: {error}"));
        }
        Ok(Self {
            keeper,
            signals,
            descriptors,
            missing,
        })
    }
}

impl Daemon {
    fn start(
        options: Options,
        ready: WorkerResources,
        handover: WorkerHandover,
        files: Vec<OwnedFd>,
    ) -> Result<(Rc<Self>, UnixListener, [Signal; 2]), StartError> {
        let WorkerResources {
            keeper,
            signals,
            descriptors,
            missing,
        } = ready;
        let mut files = files.into_iter();
        let unheard = || StartError::io("hear the keeper")(io::ErrorKind::InvalidData.into());
        let control = UnixListener::from(files.next().ok_or_else(unheard)?);
        let mut next = |there: bool| there.then(|| files.next()).flatten();
        let (records, notes) = (next(handover.records), next(handover.notes));
        let daemon = Rc::new(Self {
            store: RefCell::new(Store::new(Rc::clone(&keeper), records)),
            plugin_records: RefCell::new(PluginRecords::new(Rc::clone(&keeper), notes)),
            keeper,
            missing,
            options,
            port: Cell::new(handover.port),
            zone: RefCell::default(),
            changed: Notify::new(),
            listeners: RefCell::default(),
            fitted: Cell::new(u64::MAX),
            connections: RefCell::default(),
            commands: Cell::new(0),
            forwarding: RefCell::new(Forwarding::new(descriptors)),
            upstreams: RefCell::default(),
            tls: super::tls::Connections::default(),
            server_choices: RefCell::default(),
            random: RefCell::default(),
            late: Cell::new(0),
            stats: RefCell::default(),
            times: RefCell::default(),
            failures: RefCell::default(),
            warnings: RefCell::default(),
            rotation: Cell::new(0),
            turn: Cell::new((0, 0)),
            batch: RefCell::new(Batch::new()),
            buffer: Rc::new(RefCell::new(vec![0; MESSAGE])),
        });
        let is_again = handover.ended.is_some();
        let ended = handover.ended.into_iter();
        daemon.warn(
            ended
                .map(|how| format!("the worker before this one ended: {how}"))
                .collect(),
        );
        daemon.read_all();
        daemon.choose_port(is_again)?;
        daemon.fit();
        Ok((daemon, control, signals))
    }

    async fn run(
        self: &Rc<Self>,
        control: UnixListener,
        [mut terminate, mut interrupt]: [Signal; 2],
    ) -> io::Result<()> {
        let control = tokio::net::UnixListener::from_std(control)?;
        tokio::task::spawn_local(control::serve(Rc::clone(self), control));
        tokio::task::spawn_local(shutdown::follow(Rc::clone(self)));
        let keeper = Rc::clone(&self.keeper);
        tokio::select! {
            _ = terminate.recv() => self.keeper.stop(),
            _ = interrupt.recv() => self.keeper.stop(),
            done = keeper.wait_for_the_end() => return done,
            () = shutdown::wait(self) => {}
        }
        Ok(())
    }
}
