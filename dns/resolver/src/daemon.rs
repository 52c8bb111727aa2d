//! What all tasks share, and the start and the end of the program.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pontoon_dns::answer::{Verdict, decide, ready};
use pontoon_dns::cache::Cache;
use pontoon_dns::wire::bare;
use pontoon_dns::zone::Zone;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::LocalSet;

use super::birth::{self, Birth, Files, StartError};
use super::chance::Chance;
use super::forward::{Asked, Client, Failure, Waiter};
use super::listen::{Bound, Listeners};
use super::options::Options;
use super::outside::Outside;
use super::stats::{Outcome, Stats, Times};
use super::store::Store;
use super::tcp::Connections;
use super::udp::Batch;
use super::upstream::Upstreams;
use super::{control, leave};
use pontoon_resolver::local::{self, Local, Unfit};
use pontoon_resolver::merge::Merge;

/// Warnings kept for `pontoon dns status`.
const WARNINGS: usize = 50;
/// Largest DNS message.
pub(crate) const MESSAGE: usize = 65_535;

/// A running resolver. One thread has it, and no task holds a part of it while it waits.
pub(crate) struct Daemon {
    pub(crate) options: Options,
    pub(crate) files: Files,
    pub(crate) port: Cell<u16>,
    pub(crate) store: RefCell<Store>,
    pub(crate) zone: RefCell<Zone>,
    /// The zone has changed.
    pub(crate) changed: Notify,
    pub(crate) listeners: RefCell<Listeners>,
    /// [`Zone::gateway_changes`] when the listeners were last made to fit.
    fitted: Cell<u64>,
    pub(crate) connections: RefCell<Connections>,
    pub(crate) commands: Cell<usize>,
    pub(crate) merge: RefCell<Merge<Waiter>>,
    pub(crate) cache: RefCell<Cache>,
    pub(crate) upstreams: RefCell<Upstreams>,
    pub(crate) outside: RefCell<Outside>,
    pub(crate) chance: RefCell<Chance>,
    /// Sockets that wait for replies that come late.
    pub(crate) late: Cell<usize>,
    pub(crate) stats: RefCell<Stats>,
    pub(crate) times: RefCell<Times>,
    pub(crate) failures: RefCell<VecDeque<Failure>>,
    pub(crate) warnings: RefCell<VecDeque<String>>,
    rotation: Cell<usize>,
    /// Questions answered from records, and refused, since the turn began.
    turn: Cell<(u64, u64)>,
    pub(crate) batch: RefCell<Batch>,
    pub(crate) buffer: RefCell<Vec<u8>>,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The reply is written.
    Reply,
    /// There will be one.
    Pending,
    /// There will be none.
    Dropped,
}

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
            chance: RefCell::default(),
            late: Cell::new(0),
            stats: RefCell::default(),
            times: RefCell::default(),
            failures: RefCell::default(),
            warnings: RefCell::default(),
            rotation: Cell::new(0),
            turn: Cell::new((0, 0)),
            batch: RefCell::new(Batch::new()),
            buffer: RefCell::new(vec![0; MESSAGE]),
        });
        daemon.read_all();
        daemon.choose_port()?;
        daemon.fit();
        Ok((daemon, control))
    }

    /// The port must be free at every gateway; rules lead to it, so it is kept from one life to the
    /// next, and another one is taken only when it cannot be had at all.
    fn choose_port(self: &Rc<Self>) -> Result<(), StartError> {
        let gateways: Vec<IpAddr> = self.zone.borrow().gateways().collect();
        for port in birth::ports(self.port.get()) {
            let mut taken = false;
            let mut bound = Vec::new();
            for gateway in &gateways {
                match Bound::new(*gateway, port) {
                    Ok(one) => bound.push(one),
                    // An address that cannot be had at all is told to whoever asks for it.
                    Err(error) => taken |= error.kind() == io::ErrorKind::AddrInUse,
                }
            }
            if !taken {
                self.port.set(port);
                for one in bound {
                    self.listeners.borrow_mut().serve(self, one);
                }
                return self.files.write_port(port);
            }
        }
        Err(StartError::NoPort {
            first: self.port.get(),
        })
    }

    pub(crate) fn warn(&self, warnings: Vec<String>) {
        let mut kept = self.warnings.borrow_mut();
        for text in warnings {
            if !self.options.detached {
                eprintln!("pontoon-dns: warning: {text}");
            }
            if kept.len() == WARNINGS {
                kept.pop_front();
            }
            kept.push_back(text);
        }
    }

    /// Brings the zone up to what is on disk now, in full.
    pub(crate) fn read_all(&self) {
        let warnings = self
            .store
            .borrow_mut()
            .read_all(&mut self.zone.borrow_mut());
        self.warn(warnings);
    }

    /// Listens where the records say.
    pub(crate) fn fit(self: &Rc<Self>) {
        let changes = self.zone.borrow().gateway_changes();
        if self.fitted.replace(changes) != changes {
            let wanted: Vec<IpAddr> = self.zone.borrow().gateways().collect();
            let port = self.port.get();
            let mut listeners = self.listeners.borrow_mut();
            listeners.keep(&wanted);
            let mut words = Vec::new();
            for address in wanted {
                if listeners.has(address) {
                    continue;
                }
                match Bound::new(address, port) {
                    Ok(bound) => listeners.serve(self, bound),
                    Err(error) => {
                        words.push(format!("cannot listen at {address} port {port}: {error}"));
                    }
                }
            }
            drop(listeners);
            self.warn(words);
        }
        self.changed.notify_one();
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

    /// Files of the host are looked at again from now on.
    pub(crate) fn begin_turn(&self) -> Instant {
        self.upstreams.borrow_mut().begin_turn();
        Instant::now()
    }

    /// Notes how long the answers of a turn took, at most.
    pub(crate) fn end_turn(&self, begun: Instant) {
        let (local, refused) = self.turn.take();
        let took = begun.elapsed();
        let mut times = self.times.borrow_mut();
        times.note_all(Outcome::Local, took, local);
        times.note_all(Outcome::Refused, took, refused);
        let mut stats = self.stats.borrow_mut();
        stats.local_answers += local;
        stats.refused += refused;
    }

    /// Answers a packet, or sends it on its way to somebody who can. `gateway` is the address asked at
    /// over UDP.
    pub(crate) fn answer(
        self: &Rc<Self>,
        packet: &[u8],
        from: SocketAddr,
        gateway: Option<IpAddr>,
        client: impl FnOnce() -> Client,
        out: &mut Vec<u8>,
    ) -> Fate {
        let rotation = self.rotation.get().wrapping_add(1);
        self.rotation.set(rotation);
        let (local, refused) = self.turn.get();
        let by_udp = gateway.is_some();
        let zone = self.zone.borrow();
        if ready(&zone, from.ip(), packet, by_udp, rotation, out) {
            self.turn.set((local + 1, refused));
            return Fate::Reply;
        }
        let request = match local::read(packet, from, by_udp) {
            Ok(request) => request,
            Err(Unfit::Drop) => {
                self.stats.borrow_mut().malformed += 1;
                return Fate::Dropped;
            }
            Err(Unfit::Reply(rcode)) => {
                bare(packet, rcode, out);
                return Fate::Reply;
            }
        };
        let Some(query) = local::query(&request, packet) else {
            return Fate::Dropped;
        };
        let limit = match by_udp {
            true => local::udp_limit(&request),
            false => MESSAGE,
        };
        let verdict = decide(&zone, from.ip(), &query);
        drop(zone);
        if let Some(answer) = Local::of(&request, &verdict, rotation, limit) {
            answer.write(&request, limit, out);
            self.turn.set(match verdict {
                Verdict::Refused(_) => (local, refused + 1),
                _ => (local + 1, refused),
            });
            return Fate::Reply;
        }
        let asked = Asked {
            from,
            gateway,
            limit,
        };
        self.forward(&request, &query, asked, client, out)
    }
}

/// For how long a resolver without records waits for the next one.
pub(crate) const GRACE: Duration = Duration::from_secs(1);
