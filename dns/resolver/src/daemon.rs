//! The start and the end of the program.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::rc::Rc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::LocalSet;

use super::batch::Batch;
use super::birth::{self, Birth, StartError};
use super::client::MESSAGE;
use super::options::Options;
use super::outside::Outside;
use super::state::Daemon;
use super::store::Store;
use super::{control, leave};
use pontoon_resolver::merge::Merge;

/// The whole of the program.
pub(crate) fn main(arguments: Vec<String>) -> ExitCode {
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    let detached = options.detached;
    if detached {
        birth::close_inherited();
    }
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
        let (daemon, control) = match Daemon::start(options) {
            Ok(started) => started,
            Err(error) => return fail(&error),
        };
        birth::announce(daemon.port.get(), detached);
        let done = daemon.run(control).await;
        daemon.files.remove();
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        }
    })
}

impl Daemon {
    fn start(options: Options) -> Result<(Rc<Self>, UnixListener), StartError> {
        let Birth {
            files,
            port,
            control,
        } = Birth::new(&options)?;
        let descriptors = birth::raise_descriptors();
        let daemon = Rc::new(Self {
            store: RefCell::new(Store::new(&options.state.join("dns/records"))),
            outside: RefCell::new(Outside::new(&options.state)),
            options,
            files,
            port: Cell::new(port),
            zone: RefCell::default(),
            changed: Notify::new(),
            listeners: RefCell::default(),
            fitted: Cell::new(u64::MAX),
            connections: RefCell::default(),
            commands: Cell::new(0),
            merge: RefCell::new(Merge::new(descriptors)),
            cache: RefCell::default(),
            upstreams: RefCell::default(),
            ways: RefCell::default(),
            chance: RefCell::default(),
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
        daemon.read_all();
        daemon.choose_port()?;
        daemon.fit();
        Ok((daemon, control))
    }

    async fn run(self: &Rc<Self>, control: UnixListener) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let control = tokio::net::UnixListener::from_std(control)?;
        tokio::task::spawn_local(control::serve(Rc::clone(self), control));
        tokio::task::spawn_local(leave::follow(Rc::clone(self)));
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = leave::wait(self) => {}
        }
        Ok(())
    }
}
