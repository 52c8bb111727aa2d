//! What all tasks share.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use pontoon_dns::zone::Zone;
use tokio::sync::Notify;

use super::batch::Batch;
use super::client::{Failure, ServerChoices, Waiter};
use super::connections::Connections;
use super::keeper_client::KeeperClient;
use super::listen::Listeners;
use super::options::Options;
use super::plugin_records::PluginRecords;
use super::random::RandomNumbers;
use super::store::Store;
use super::tls;
use super::upstream::HostFiles;
use pontoon_resolver::forwarding::Forwarding;
use pontoon_resolver::stats::{Outcome, Stats, Times};

/// Warnings kept for `pontoon dns status`.
const WARNINGS: usize = 50;

/// A running resolver. One thread has it, and no task holds a part of it while it waits.
pub(crate) struct Daemon {
    pub(crate) options: Options,
    /// The way to the keeper.
    pub(crate) keeper: Rc<KeeperClient>,
    /// Privileges that could not be given up, in words.
    pub(crate) missing: Vec<String>,
    pub(crate) port: Cell<u16>,
    pub(crate) store: RefCell<Store>,
    pub(crate) zone: RefCell<Zone>,
    /// The zone has changed.
    pub(crate) changed: Notify,
    pub(crate) listeners: RefCell<Listeners>,
    /// [`Zone::gateway_changes`] when the listeners were last made to fit.
    pub(crate) fitted: Cell<u64>,
    pub(crate) connections: RefCell<Connections>,
    pub(crate) commands: Cell<usize>,
    pub(crate) forwarding: RefCell<Forwarding<Waiter>>,
    pub(crate) upstreams: RefCell<HostFiles>,
    pub(crate) tls: tls::Connections,
    pub(crate) plugin_records: RefCell<PluginRecords>,
    pub(crate) server_choices: RefCell<ServerChoices>,
    pub(crate) random: RefCell<RandomNumbers>,
    /// Sockets that wait for replies that come late.
    pub(crate) late: Cell<usize>,
    pub(crate) stats: RefCell<Stats>,
    pub(crate) times: RefCell<Times>,
    pub(crate) failures: RefCell<VecDeque<Failure>>,
    pub(crate) warnings: RefCell<VecDeque<String>>,
    pub(crate) rotation: Cell<usize>,
    /// Questions answered from records, and refused, since the turn began.
    pub(crate) turn: Cell<(u64, u64)>,
    pub(crate) batch: RefCell<Batch>,
    pub(crate) buffer: Rc<RefCell<Vec<u8>>>,
}

impl Daemon {
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

    /// Files of the host are looked at again from now on.
    pub(crate) fn begin_turn(&self) -> Instant {
        self.upstreams.borrow_mut().begin_turn();
        self.server_choices.borrow_mut().begin_turn();
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
}
