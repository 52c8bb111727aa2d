//! One conversation with etcd after the other: list, watch, keep the lease alive, claim blocks. When one ends, the next
//! one begins with another member and lists again; what was known stays known meanwhile.

use std::rc::Rc;
use std::time::Duration;

use etcd_client::{
    Client, EventType, LeaseKeepAliveStream, LeaseKeeper, WatchOptions, WatchResponse, WatchStream,
};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::claims::{Act, decide};
use crate::cluster::Cluster;
use crate::etcd::{self, EtcdError, answered};
use crate::key::PREFIX;
use crate::names;
use crate::say;
use crate::services::{Numbering, Numbers, Services};
use crate::shared::{Link, Shared};
use crate::value::{AliveValue, LEASE};

/// How often the lease is renewed.
const RENEWAL: Duration = Duration::from_secs(3);
/// How often etcd is asked how far the watch is.
const PROGRESS: Duration = Duration::from_secs(4);
/// A watch that says nothing for so long, although it was asked, is dead.
const SILENCE: Duration = Duration::from_secs(12);
/// What was written is waited for on the watch for so long before more is decided.
const ECHO: Duration = Duration::from_secs(2);
/// The pause before the next member is tried; it doubles.
const PAUSE: Duration = Duration::from_millis(200);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A conversation of so long was a good one.
const GOOD: Duration = Duration::from_secs(5);

/// Talks to etcd for ever.
pub(crate) async fn keep_talking(shared: Rc<Shared>) {
    let endpoints = shared.settings.etcd.endpoints.clone();
    let (mut turn, mut pause, mut lease) = (0, PAUSE, None);
    loop {
        let endpoint = &endpoints[turn % endpoints.len()];
        let started = Instant::now();
        let Err(error) = Session::hold(&shared, endpoint, &mut lease).await;
        shared.count(|counts| counts.sessions_ended += 1);
        let text = format!("{endpoint}: {error}");
        if !matches!(&*shared.link.borrow(), Link::Down { error, .. } if *error == text) {
            say!("{text}; the next member is asked");
        }
        shared.lost_link(text);
        turn += 1;
        pause = match started.elapsed() > GOOD {
            true => PAUSE,
            false => (pause * 2).min(LONGEST_PAUSE),
        };
        sleep(pause).await;
    }
}

/// One conversation.
struct Session<'s> {
    shared: &'s Rc<Shared>,
    client: Client,
    watch: WatchStream,
    keeper: LeaseKeeper,
    renewals: LeaseKeepAliveStream,
    /// When the watch, and when the lease, was last heard of.
    heard: Instant,
    renewed: Instant,
    /// etcd's revision that the view has, and the one of what was last written.
    seen: i64,
    written: (i64, Instant),
}

/// Nothing ends a conversation but an error.
type Ended = Result<std::convert::Infallible, EtcdError>;

impl Session<'_> {
    async fn hold(shared: &Rc<Shared>, endpoint: &str, lease: &mut Option<i64>) -> Ended {
        let mut client = etcd::connect(&shared.settings.etcd, endpoint).await?;
        let (cluster, revision) = etcd::list(&mut client).await?;
        let options = WatchOptions::new()
            .with_prefix()
            .with_start_revision(revision + 1)
            .with_progress_notify()
            .with_fragment();
        let watch = answered("watch etcd's keys", client.watch(PREFIX, Some(options))).await?;
        let host = &shared.settings.host;
        if let Some(AliveValue { boot }) = cluster.alive.get(host)
            && *boot != shared.boot
        {
            return Err(EtcdError::Twice {
                host: host.clone(),
                boot: boot.clone(),
            });
        }
        shared.found_link(endpoint);
        shared.set_cluster(cluster);
        let (keeper, renewals) = keep_lease(&mut client, lease).await?;
        let now = Instant::now();
        let mut session = Session {
            shared,
            client,
            watch,
            keeper,
            renewals,
            heard: now,
            renewed: now,
            seen: revision,
            written: (0, now),
        };
        session.tell_of_host().await?;
        let ended = session.go_on().await;
        if let Err(EtcdError::Refused { what: RENEW, .. }) = &ended {
            *lease = None;
        }
        ended
    }

    async fn go_on(&mut self) -> Ended {
        let ticker = |every| {
            let mut ticker = interval(every);
            ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticker
        };
        let (mut renewal, mut progress) = (ticker(RENEWAL), ticker(PROGRESS));
        loop {
            self.claim().await?;
            self.tell_of_containers().await?;
            self.give_numbers().await?;
            let shared = self.shared;
            tokio::select! {
                message = self.watch.message() => self.hear(message.map_err(watch_ended)?)?,
                message = self.renewals.message() => {
                    let ttl = message.map_err(renewal_failed)?.map_or(0, |renewal| renewal.ttl());
                    if ttl <= 0 {
                        let gone = etcd_client::Error::LeaseKeepAliveError("the lease is gone".to_owned());
                        return Err(renewal_failed(gone));
                    }
                    self.renewed = Instant::now();
                }
                _ = renewal.tick() => {
                    if self.renewed.elapsed() > LEASE {
                        return Err(EtcdError::Late { what: RENEW });
                    }
                    answered(RENEW, self.keeper.keep_alive()).await?;
                    self.tell_of_host().await?;
                }
                _ = progress.tick() => {
                    if self.heard.elapsed() > SILENCE {
                        return Err(EtcdError::WatchEnded(format!("it said nothing for {} s", SILENCE.as_secs())));
                    }
                    answered("ask how far the watch is", self.watch.request_progress()).await?;
                }
                () = shared.local_changed.notified() => {}
                () = sleep(ECHO) => {}
            }
        }
    }

    /// Takes a message of the watch into the view.
    fn hear(&mut self, message: Option<WatchResponse>) -> Result<(), EtcdError> {
        let message = message.ok_or_else(|| EtcdError::WatchEnded("etcd closed it".to_owned()))?;
        if message.compact_revision() > 0 {
            return Err(EtcdError::Compacted(message.compact_revision()));
        }
        if message.canceled() {
            return Err(EtcdError::WatchEnded(message.cancel_reason().to_owned()));
        }
        self.heard = Instant::now();
        let revision = message.header().map_or(0, |header| header.revision());
        if !message.created() {
            self.seen = self.seen.max(revision);
        }
        if message.events().is_empty() {
            return Ok(());
        }
        self.shared
            .count(|counts| counts.events += message.events().len() as u64);
        self.shared.change_cluster(|cluster| {
            for event in message.events() {
                let Some(entry) = event.kv() else { continue };
                let key = String::from_utf8_lossy(entry.key());
                match event.event_type() {
                    EventType::Put => cluster.put(
                        &key,
                        entry.value(),
                        entry.create_revision(),
                        entry.mod_revision(),
                    ),
                    EventType::Delete => cluster.delete(&key),
                }
            }
        });
        Ok(())
    }

    /// Writes the keys of this host that are not as they should be.
    async fn tell_of_host(&mut self) -> Result<(), EtcdError> {
        let Some(info) = self.shared.info() else {
            return Ok(());
        };
        let host = &self.shared.settings.host;
        let alive = AliveValue {
            boot: self.shared.boot.clone(),
        };
        let is_told = self
            .shared
            .cluster
            .borrow()
            .as_ref()
            .is_some_and(|cluster| {
                cluster.hosts.get(host) == Some(&info) && cluster.alive.get(host) == Some(&alive)
            });
        // The key may be that of a lease from before, which nothing renews.
        if is_told && self.shared.lease.get() == Some(self.keeper.id()) {
            return Ok(());
        }
        let values = (
            serde_json::to_vec(&info).unwrap_or_default(),
            serde_json::to_vec(&alive).unwrap_or_default(),
        );
        etcd::write_host(&mut self.client, host, values, self.keeper.id()).await?;
        self.shared.lease.set(Some(self.keeper.id()));
        Ok(())
    }

    /// Writes the keys of this host's containers that are not as they should be.
    async fn tell_of_containers(&mut self) -> Result<(), EtcdError> {
        let (revision, since) = self.written;
        if self.seen < revision && since.elapsed() < ECHO {
            return Ok(());
        }
        let host = &self.shared.settings.host;
        let wanted = self.shared.endpoints.borrow().clone();
        let changes = self.shared.with_cluster(|cluster| {
            let told = cluster.endpoints.get(host).cloned().unwrap_or_default();
            names::changes(host, &told, &wanted)
        });
        let changes = changes.unwrap_or_default();
        if changes.is_empty() {
            return Ok(());
        }
        let revision = etcd::write_endpoints(&mut self.client, &changes).await?;
        self.written = (self.written.0.max(revision), Instant::now());
        Ok(())
    }

    /// Gives services of this host's containers the numbers that they lack.
    async fn give_numbers(&mut self) -> Result<(), EtcdError> {
        let (revision, since) = self.written;
        if self.seen < revision && since.elapsed() < ECHO {
            return Ok(());
        }
        let numberings = self
            .shared
            .with_cluster(|cluster| numberings(self.shared, cluster));
        for numbering in numberings.unwrap_or_default() {
            let given = etcd::give_number(&mut self.client, &numbering).await;
            let denied = match &given {
                Err(error) if error.is_denied() => Some(format!(
                    "{error}: let the role of this host write {PREFIX}service/"
                )),
                _ => None,
            };
            let is_denied = denied.is_some();
            *self.shared.denied.borrow_mut() = denied;
            if is_denied {
                // Services have to wait, nothing else. The next look asks again.
                return Ok(());
            }
            let (done, revision) = given?;
            let how = match (done, &numbering.instead_of) {
                (false, _) => ": another host was faster".to_owned(),
                (true, Some((other, _))) => {
                    format!(", which service {other} had, that has no containers")
                }
                (true, None) => String::new(),
            };
            say!(
                "network {}: service {} gets address number {}{how}",
                numbering.network,
                numbering.name,
                numbering.number
            );
            self.written = (revision, Instant::now());
        }
        Ok(())
    }

    /// Claims, mends and gives back blocks, as far as the view has what was written before.
    async fn claim(&mut self) -> Result<(), EtcdError> {
        let (revision, since) = self.written;
        if self.seen < revision && since.elapsed() < ECHO {
            return Ok(());
        }
        let acts = self
            .shared
            .with_cluster(|cluster| acts(self.shared, cluster));
        for (network, act) in acts.unwrap_or_default() {
            let host = &self.shared.settings.host;
            let (done, revision) = etcd::carry_out(&mut self.client, host, &network, &act).await?;
            self.shared.count(|counts| match done {
                true => counts.claims += 1,
                false => counts.claims_lost += 1,
            });
            let how = if done {
                ""
            } else {
                ": another host was faster"
            };
            say!("network {network}: {}{how}", told(&act));
            self.written = (revision, Instant::now());
        }
        Ok(())
    }
}

/// What is to be done about the blocks of all networks.
pub(crate) fn acts(shared: &Shared, cluster: &Cluster) -> Vec<(String, Act)> {
    let own = shared.own.borrow();
    let each = own.iter().flat_map(|(network, own)| {
        let value = cluster.networks.get(network);
        let subnets = value.map_or(&[][..], |value| &value.subnets);
        let acts = decide(cluster, network, subnets, own);
        acts.into_iter().map(|act| (network.clone(), act))
    });
    each.collect()
}

/// The next service of each network that gets a number from this host.
pub(crate) fn numberings(shared: &Shared, cluster: &Cluster) -> Vec<Numbering> {
    let (host, endpoints) = (&shared.settings.host, shared.endpoints.borrow());
    let (before, none) = (shared.numbers.borrow(), Numbers::new());
    let next = endpoints.iter().filter_map(|(network, own)| {
        let before = before.get(network).unwrap_or(&none);
        Services::of(cluster, network, Some((host, own))).numbering(host, before)
    });
    next.collect()
}

fn told(act: &Act) -> String {
    match act {
        Act::Claim { block, .. } => format!("block {block} is claimed"),
        Act::Mend { block, .. } => format!("the claim of block {block} is written again"),
        Act::Release { block } => format!("block {block} is given back"),
    }
}

const RENEW: &str = "renew the lease of this host";

fn renewal_failed(source: etcd_client::Error) -> EtcdError {
    EtcdError::Refused {
        what: RENEW,
        source: Box::new(source),
    }
}

fn watch_ended(error: etcd_client::Error) -> EtcdError {
    EtcdError::Refused {
        what: "watch etcd's keys",
        source: Box::new(error),
    }
}

/// Goes on with the lease of the last conversation when etcd still has it: a new one would make this host dead and
/// alive again in the eyes of the others.
async fn keep_lease(
    client: &mut Client,
    lease: &mut Option<i64>,
) -> Result<(LeaseKeeper, LeaseKeepAliveStream), EtcdError> {
    if let Some(id) = *lease
        && let Ok(kept) = answered(RENEW, client.lease_keep_alive(id)).await
    {
        return Ok(kept);
    }
    let seconds = i64::try_from(LEASE.as_secs()).unwrap_or(i64::MAX);
    let granted = answered("ask for a lease", client.lease_grant(seconds, None)).await?;
    *lease = Some(granted.id());
    answered(RENEW, client.lease_keep_alive(granted.id())).await
}
