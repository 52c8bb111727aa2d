//! What the agent's tasks share. All of them run on one thread.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use pontoon_ledger::overlay::{Underlay, tunnel_mac};
use tokio::sync::Notify;

use crate::claims::Own;
use crate::cluster::Cluster;
use crate::names::Endpoints;
use crate::services::{Numbers, ServiceStatus};
use crate::settings::Settings;
use crate::value::InfoValue;

/// The connection to etcd.
#[derive(Debug, Clone)]
pub(crate) enum Link {
    /// There is one.
    Up { endpoint: String, since: Instant },
    /// There is none.
    Down { error: String, since: Instant },
}

/// What is counted since the agent's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Conversations with etcd that ended.
    pub(crate) sessions_ended: u64,
    /// Changes of keys that the watch told of.
    pub(crate) events: u64,
    /// Transactions about blocks that were done.
    pub(crate) claims: u64,
    /// Transactions about blocks that came too late.
    pub(crate) claims_lost: u64,
    /// Comparisons of the kernel with what is wanted.
    pub(crate) audits: u64,
    /// Devices, routes, neighbours and FDB entries that were added, changed and removed.
    pub(crate) added: u64,
    pub(crate) changed: u64,
    pub(crate) removed: u64,
}

/// What is known, and who waits for changes of it.
pub(crate) struct Shared {
    /// The configuration.
    pub(crate) settings: Settings,
    /// This boot of this machine, and in it this network namespace.
    pub(crate) boot: String,
    /// When the agent started.
    pub(crate) started: Instant,
    /// What etcd said last; `None` before it has said anything.
    pub(crate) cluster: RefCell<Option<Cluster>>,
    /// The connection to etcd.
    pub(crate) link: RefCell<Link>,
    /// The lease under which this host's key is there.
    pub(crate) lease: Cell<Option<i64>>,
    /// This host's end of the tunnels.
    pub(crate) underlay: Cell<Underlay>,
    /// The numbers of the tunnels' devices.
    pub(crate) devices: RefCell<BTreeSet<u32>>,
    /// What this host has of each network.
    pub(crate) own: RefCell<BTreeMap<String, Own>>,
    /// What this host tells of its containers, by network.
    pub(crate) endpoints: RefCell<BTreeMap<String, Endpoints>>,
    /// The services of this host's networks, by network and name.
    pub(crate) services: RefCell<BTreeMap<String, BTreeMap<String, ServiceStatus>>>,
    /// Numbers of services as they were last known, by network.
    pub(crate) numbers: RefCell<BTreeMap<String, Numbers>>,
    /// Why services get no addresses, when etcd does not allow it.
    pub(crate) denied: RefCell<Option<String>>,
    /// What is not as it should be, by what it is about.
    pub(crate) warnings: RefCell<BTreeMap<String, String>>,
    /// What is counted.
    pub(crate) counts: Cell<Counts>,
    /// Something that etcd says has changed.
    pub(crate) cluster_changed: Notify,
    /// Something on this host has changed that etcd should know.
    pub(crate) local_changed: Notify,
}

impl Shared {
    pub(crate) fn new(settings: Settings, boot: String) -> Self {
        Self {
            settings,
            boot,
            started: Instant::now(),
            cluster: RefCell::default(),
            link: RefCell::new(Link::Down {
                error: "no member of etcd has been asked yet".to_owned(),
                since: Instant::now(),
            }),
            lease: Cell::default(),
            underlay: Cell::default(),
            devices: RefCell::default(),
            own: RefCell::default(),
            endpoints: RefCell::default(),
            services: RefCell::default(),
            numbers: RefCell::default(),
            denied: RefCell::default(),
            warnings: RefCell::default(),
            counts: Cell::default(),
            cluster_changed: Notify::new(),
            local_changed: Notify::new(),
        }
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    pub(crate) fn found_link(&self, endpoint: &str) {
        *self.link.borrow_mut() = Link::Up {
            endpoint: endpoint.to_owned(),
            since: Instant::now(),
        };
    }

    /// The time since which there is no connection is that of the first failure.
    pub(crate) fn lost_link(&self, error: String) {
        let mut link = self.link.borrow_mut();
        let since = match &*link {
            Link::Down { since, .. } => *since,
            Link::Up { .. } => Instant::now(),
        };
        *link = Link::Down { error, since };
    }

    pub(crate) fn set_cluster(&self, cluster: Cluster) {
        *self.cluster.borrow_mut() = Some(cluster);
        self.cluster_changed.notify_one();
    }

    pub(crate) fn change_cluster(&self, change: impl FnOnce(&mut Cluster)) {
        if let Some(cluster) = &mut *self.cluster.borrow_mut() {
            change(cluster);
        }
        self.cluster_changed.notify_one();
    }

    pub(crate) fn with_cluster<T>(&self, read: impl FnOnce(&Cluster) -> T) -> Option<T> {
        self.cluster.borrow().as_ref().map(read)
    }

    /// How this host is reached; `None` while it has no address.
    pub(crate) fn info(&self) -> Option<InfoValue> {
        let underlay = self.underlay.get();
        underlay.tunnel()?;
        Some(InfoValue {
            underlay,
            mac: tunnel_mac(&self.settings.host),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            public_key: None,
        })
    }
}
