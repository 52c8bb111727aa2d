//! The program around the parts that decide: one thread, one epoll, no waiting for anything else.

mod batch;
mod birth;
mod clients;
mod control;
mod flight;
mod forward;
mod listen;
mod options;
mod outside;
mod poll;
mod slab;
mod stats;
mod store;
mod upstream;

use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use pontoon_dns::answer::{Verdict, decide, write};
use pontoon_dns::message::{Query, Unfit, bare};
use pontoon_dns::zone::Zone;

use batch::Batch;
use birth::{Birth, Departure, Files};
use clients::Clients;
use control::Commands;
use flight::Client;
use forward::{Failure, Forwarder};
use listen::Listeners;
use options::Options;
use outside::Outside;
use poll::{Interest, Poll, Ready, Source};
use slab::Id;
use stats::{Outcome, Stats, Times};
use store::Store;

/// For how long a resolver without records waits for the next one.
const GRACE: Duration = Duration::from_secs(1);
/// How often idle connections are looked for.
const SWEEP: Duration = Duration::from_secs(1);
/// For how long no connection is accepted when descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);
/// How often a resolver looks whether there is still a container.
const LOOK: Duration = Duration::from_secs(5);
/// Warnings kept for `pontoon dns status`.
const WARNINGS: usize = 50;
/// Largest DNS message.
const MESSAGE: usize = 65_535;

/// A running resolver.
struct Daemon {
    options: Options,
    files: Files,
    port: u16,
    poll: Poll,
    store: Store,
    zone: Zone,
    listeners: Listeners,
    /// [`Zone::gateway_changes`] when the listeners were last made to fit.
    fitted: u64,
    clients: Clients,
    control: UnixListener,
    commands: Commands,
    forwarder: Forwarder,
    outside: Outside,
    signals: SignalFd,
    stats: Stats,
    times: Times,
    failures: VecDeque<Failure>,
    warnings: VecDeque<String>,
    rotation: usize,
    /// Since when there has been no record.
    idle_since: Option<Instant>,
    /// Until when no connection is accepted, since there was no descriptor for one.
    accepts_from: Option<Instant>,
    swept: Instant,
    /// When containers were last looked for.
    looked: Instant,
    /// Directories in which namespaces of containers can be seen from here.
    visible: HashSet<PathBuf>,
    /// `None` only while it is in use.
    batch: Option<Box<Batch>>,
    buffer: Vec<u8>,
    out: Vec<u8>,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The reply is in `out`.
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
    let mut daemon = match Daemon::start(options) {
        Ok(daemon) => daemon,
        Err(error) => {
            eprintln!("pontoon-dns: {error}");
            return ExitCode::FAILURE;
        }
    };
    birth::announce(daemon.port, detached);
    let done = daemon.run();
    daemon.files.remove();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pontoon-dns: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Daemon {
    fn start(options: Options) -> Result<Self, birth::StartError> {
        let Birth {
            files,
            port,
            control,
        } = Birth::new(&options)?;
        let failed = |error| birth::StartError::io("set up the event loop")(error);
        let poll = Poll::new().map_err(failed)?;
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGTERM);
        mask.add(Signal::SIGINT);
        let signals = mask
            .thread_block()
            .and_then(|()| {
                SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            })
            .map_err(|errno| birth::StartError::io("watch signals")(errno.into()))?;
        let now = Instant::now();
        let mut daemon = Self {
            store: Store::new(&options.state.join("dns/records")),
            outside: Outside::new(&options.state),
            options,
            files,
            port,
            poll,
            zone: Zone::default(),
            listeners: Listeners::default(),
            fitted: u64::MAX,
            clients: Clients::default(),
            control,
            commands: Commands::default(),
            forwarder: Forwarder::new(birth::raise_descriptors()),
            signals,
            stats: Stats::default(),
            times: Times::default(),
            failures: VecDeque::new(),
            warnings: VecDeque::new(),
            rotation: 0,
            idle_since: None,
            accepts_from: None,
            swept: now,
            looked: now,
            visible: HashSet::new(),
            batch: Some(Box::new(Batch::new())),
            buffer: vec![0; MESSAGE],
            out: Vec::with_capacity(4096),
        };
        daemon.register().map_err(failed)?;
        let warnings = daemon.store.read_all(&mut daemon.zone);
        daemon.warn(warnings);
        daemon.choose_port()?;
        daemon.fit();
        Ok(daemon)
    }

    fn register(&self) -> io::Result<()> {
        self.poll
            .add(&self.control, Source::Control, Interest::Read)?;
        self.poll
            .add(&self.signals, Source::Signal, Interest::Read)?;
        if let Some(watch) = &self.store.watch {
            self.poll.add(watch, Source::Records, Interest::Read)?;
        }
        Ok(())
    }

    /// The port must be free at every gateway; rules lead to it, so it is kept from one life to the
    /// next, and another one is taken only when it cannot be had at all.
    fn choose_port(&mut self) -> Result<(), birth::StartError> {
        let gateways: Vec<IpAddr> = self.zone.gateways().collect();
        for port in birth::ports(self.port) {
            let failed = self
                .listeners
                .keep(&self.poll, port, gateways.iter().copied());
            // An address that cannot be had at all is told to whoever asks for it.
            let taken = |(_, error): &(IpAddr, io::Error)| error.kind() == io::ErrorKind::AddrInUse;
            if !failed.iter().any(taken) {
                self.port = port;
                return self.files.write_port(port);
            }
            self.listeners.keep(&self.poll, port, std::iter::empty());
        }
        Err(birth::StartError::NoPort { first: self.port })
    }

    fn warn(&mut self, warnings: Vec<String>) {
        for text in warnings {
            if !self.options.detached {
                eprintln!("pontoon-dns: warning: {text}");
            }
            if self.warnings.len() == WARNINGS {
                self.warnings.pop_front();
            }
            self.warnings.push_back(text);
        }
    }

    /// Listens where the records say.
    fn fit(&mut self) {
        let changes = self.zone.gateway_changes();
        if self.fitted != changes {
            self.fitted = changes;
            let failed = self
                .listeners
                .keep(&self.poll, self.port, self.zone.gateways());
            let port = self.port;
            let words = failed
                .into_iter()
                .map(|(address, error)| format!("cannot listen at {address} port {port}: {error}"));
            self.warn(words.collect());
        }
        if self.zone.is_empty() {
            self.idle_since.get_or_insert_with(Instant::now);
        } else {
            self.idle_since = None;
        }
    }

    fn run(&mut self) -> io::Result<()> {
        let mut ready: Vec<Ready> = Vec::new();
        loop {
            let now = Instant::now();
            if now.saturating_duration_since(self.swept) >= SWEEP {
                self.swept = now;
                self.sweep(now);
            }
            if !self.options.stay
                && !self.zone.is_empty()
                && now.saturating_duration_since(self.looked) >= LOOK
            {
                self.looked = now;
                if self.is_abandoned() && self.may_leave() {
                    return Ok(());
                }
            }
            if let Some(since) = self.idle_since
                && !self.options.stay
                && now.saturating_duration_since(since) >= GRACE
                && self.may_leave()
            {
                return Ok(());
            }
            if self.accepts_from.is_some_and(|at| at <= now) {
                self.accepts_from = None;
                self.accepting(true);
            }
            self.poll.wait(self.patience(now), &mut ready)?;
            let now = Instant::now();
            self.forwarder.upstreams.begin_turn();
            for Ready { source, broken } in ready.drain(..) {
                match source {
                    Source::Udp(id) => self.datagrams(id),
                    Source::Listener(id) => self.accept(id, now),
                    Source::Client(id) => self.client_ready(id, broken, now),
                    Source::Flight(id) => self.flight_ready(id, now),
                    Source::Control => self.accept_command(now),
                    Source::Command(id) => self.command_ready(id, broken),
                    Source::Records => {
                        let warnings = self.store.follow(&mut self.zone);
                        self.warn(warnings);
                        self.fit();
                    }
                    Source::Signal => {
                        let _ = self.signals.read_signal();
                        return Ok(());
                    }
                }
            }
            self.overdue(Instant::now());
        }
    }

    /// For how long nothing has to be done unasked.
    fn patience(&self, now: Instant) -> Option<Duration> {
        let busy = self.clients.len() + self.commands.len() > 0 || self.store.watch.is_none();
        let sweep = busy.then_some(self.swept + SWEEP);
        let leave = self
            .idle_since
            .filter(|_| !self.options.stay)
            // Somebody may have the lock when it is time: not asked for in a tight loop.
            .map(|since| (since + GRACE).max(now + Duration::from_millis(50)));
        let look = (!self.options.stay && !self.zone.is_empty()).then_some(self.looked + LOOK);
        let accept = self.accepts_from;
        [sweep, leave, look, accept, self.forwarder.next_deadline()]
            .into_iter()
            .flatten()
            .min()
            .map(|at| at.saturating_duration_since(now))
    }

    /// Stops listening for connections for a moment when there is no descriptor for one: they stay
    /// ready, and the loop would do nothing but ask for them.
    fn pause_accepting(&mut self, error: &io::Error, now: Instant) {
        if error.kind() == io::ErrorKind::WouldBlock || self.accepts_from.is_some() {
            return;
        }
        self.stats.over_limit += 1;
        self.accepts_from = Some(now + PAUSE);
        self.accepting(false);
    }

    fn accepting(&self, on: bool) {
        let interest = if on {
            Interest::Read
        } else {
            Interest::Nothing
        };
        let _ = self.poll.change(&self.control, Source::Control, interest);
        for id in self.listeners.tcp.ids() {
            if let Some(listener) = self.listeners.tcp.get(id) {
                let _ = self.poll.change(listener, Source::Listener(id), interest);
            }
        }
    }

    fn sweep(&mut self, now: Instant) {
        self.sweep_clients(now);
        self.sweep_commands(now);
        if self.store.watch.is_none() {
            let warnings = self.store.read_all(&mut self.zone);
            self.warn(warnings);
            self.fit();
        }
    }

    /// With the lock that whoever starts a resolver takes, so that no record comes unseen: either
    /// it is there now, or its writer finds nobody and starts another one.
    fn may_leave(&mut self) -> bool {
        let _lock = match self.files.try_start_lock() {
            Departure::Contested => return false,
            Departure::Homeless => return true,
            Departure::Locked(lock) => lock,
        };
        let warnings = self.store.read_all(&mut self.zone);
        self.warn(warnings);
        self.fit();
        if !self.zone.is_empty() && !self.is_abandoned() {
            return false;
        }
        self.files.remove();
        true
    }

    /// Whether the containers of all records are gone without a word: nobody is left to ask, and a
    /// namespace is not kept alive for nobody. Their records stay for whoever comes, and the next ADD
    /// starts another resolver. A namespace that was never to be seen from here is nobody's proof.
    fn is_abandoned(&mut self) -> bool {
        let alive = |visible: &mut HashSet<PathBuf>, path: Option<&Path>| {
            let Some((path, dir)) = path.and_then(|path| Some((path, path.parent()?))) else {
                return true;
            };
            if path.exists() {
                if !visible.contains(dir) {
                    visible.insert(dir.to_owned());
                }
                return true;
            }
            !visible.contains(dir)
        };
        let mut attachments = self.zone.attachments();
        !attachments.any(|found| alive(&mut self.visible, found.route.netns.as_deref()))
    }

    /// Sends what is in `out`.
    fn send_datagram(&mut self, id: Id, to: SocketAddr) {
        let sent = self
            .listeners
            .udp(id)
            .is_some_and(|(socket, _)| socket.send_to(&self.out, to).is_ok());
        self.stats.send_failures += u64::from(!sent);
    }

    /// Answers a packet, or sends it on its way to somebody who can.
    fn answer(&mut self, packet: &[u8], client: Client, source: IpAddr) -> Fate {
        let query = match Query::parse(packet) {
            Ok(query) => query,
            Err(Unfit::Drop) => {
                self.stats.malformed += 1;
                return Fate::Dropped;
            }
            Err(Unfit::Reply(rcode)) => {
                bare(packet, rcode, &mut self.out);
                return Fate::Reply;
            }
        };
        let verdict = decide(&self.zone, source, &query);
        let limit = match client {
            Client::Udp(..) => query.udp_limit(),
            Client::Tcp(_) | Client::Command(_) => MESSAGE,
        };
        self.rotation = self.rotation.wrapping_add(1);
        if write(&verdict, &query, self.rotation, limit, &mut self.out) {
            // Nothing is waited for: the shortest time that is told apart.
            let outcome = match verdict {
                Verdict::Refused(_) => {
                    self.stats.refused += 1;
                    Outcome::Refused
                }
                _ => {
                    self.stats.local_answers += 1;
                    Outcome::Local
                }
            };
            self.times.note(outcome, Duration::ZERO);
            return Fate::Reply;
        }
        self.forward(&query, client, source, limit)
    }
}
