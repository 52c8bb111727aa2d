//! Containers come and go on small networks from several threads at once, with kills, vanishing
//! namespaces, flushes and the admin's commands in between. At each quiesce the host is held against
//! what the runtime knows.

mod admin;
mod exchange;
mod life;
mod rest;

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::thread;
use std::time::Instant;

use pontoon_lab::{
    Attachment, Backend, CniError, Container, Failure, Network, Outcome, Scratch, Site,
};
use serde_json::json;

use self::exchange::{EXCHANGED, Exchange};
use super::report::Summary;
use super::scene::kill_all_in;
use super::work::{Random, Settings};

const WORKERS: usize = 8;
const CONTAINERS: usize = 64;
const NETWORKS: usize = 4;
/// Fewer ports than containers, and networks of 13 addresses.
const PORTS: usize = 16;
/// How many operations of all threads between two quiesces.
const BETWEEN: usize = 150;
/// Operations of a whole run, over all backends.
const WHOLE: usize = 100_000;

/// What happens beside containers that come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The admin's GC has the host for itself.
    Plain,
    /// The admin's GC runs beside ADDs.
    Beside,
    /// The reference plugins run any verb on one of the networks.
    Exchange,
}

/// What the runtime knows of a container.
enum Place {
    /// There is none.
    Free,
    /// ADD succeeded.
    Attached(Guest, Container),
    /// A verb was killed, or the namespace has gone: DEL is due.
    Due(Guest, Option<Container>),
}

/// An attachment on one of the networks.
struct Guest {
    network: usize,
    attachment: Box<Attachment>,
    /// The reference plugins have made it.
    of_reference: bool,
}

struct Storm<'s> {
    site: &'s Site,
    networks: Vec<Network>,
    exchange: Option<Exchange>,
    places: Vec<Mutex<Place>>,
    conf: Scratch,
    traces: Scratch,
    /// Operations beside each other read, what needs the host for itself writes.
    quiet: RwLock<()>,
    kind: Kind,
    counts: Mutex<BTreeMap<&'static str, usize>>,
    wrong: Mutex<Vec<String>>,
}

/// Runs the attack.
pub(crate) fn run(settings: &Settings, kind: Kind) -> Outcome<Summary> {
    let backends: Vec<Backend> = Backend::ALL
        .into_iter()
        .filter(|backend| settings.wants(&backend.to_string()))
        .collect();
    let share = settings.until.saturating_duration_since(Instant::now())
        / u32::try_from(backends.len().max(1)).unwrap_or(1);
    let mut wrong = Vec::new();
    let mut operations = 0;
    println!("\n| storm | operations | counts |\n| --- | ---: | --- |");
    for backend in &backends {
        let site = Site::new(*backend)?;
        let before = site.snapshot()?;
        let storm = Storm::new(&site, kind)?;
        let until = Instant::now() + share;
        let most = if settings.whole {
            WHOLE / backends.len()
        } else {
            usize::MAX
        };
        let done = storm.rage(settings, until, most)?;
        storm.end(&before)?;
        operations += done;
        let counts = storm
            .counts
            .lock()
            .map(|counts| counts.clone())
            .unwrap_or_default();
        let counts: Vec<String> = counts
            .iter()
            .map(|(what, count)| format!("{what} {count}"))
            .collect();
        println!("| {backend} | {done} | {} |", counts.join(", "));
        let found = storm
            .wrong
            .lock()
            .map(|wrong| wrong.clone())
            .unwrap_or_default();
        wrong.extend(found.into_iter().map(|text| format!("{backend}: {text}")));
    }
    if operations == 0 {
        wrong.push("nothing was tried".to_owned());
    }
    let name = match kind {
        Kind::Plain => "storm",
        Kind::Beside => "storm beside",
        Kind::Exchange => "storm exchange",
    };
    let tried = format!("{operations} operations over {} backends", backends.len());
    Ok(Summary::new(name, settings, tried, wrong))
}

impl<'s> Storm<'s> {
    fn new(site: &'s Site, kind: Kind) -> Outcome<Self> {
        let conf = Scratch::new("storm")?;
        let resolv = site.leases.path().join("resolv.conf");
        fs::write(&resolv, "nameserver 198.18.7.2\n").map_err(Failure::act("write resolv.conf"))?;
        let mut networks = Vec::new();
        for number in 0..NETWORKS {
            let name = format!("storm{number}");
            let subnets = [
                format!("10.70.{number}.0/28"),
                format!("fd00:70:{number}::/64"),
            ];
            let (bridge, subnets) = (format!("st{number}"), [&*subnets[0], &*subnets[1]]);
            if number == EXCHANGED {
                networks.push(exchange::network(site, &name, &bridge, &subnets));
                continue;
            }
            let base = site.network(&name, &bridge, &subnets);
            let mut list = base.list().clone();
            if let Some(plugins) = list["plugins"].as_array_mut() {
                plugins.push(json!({
                    "type": "firewall", "backend": site.backend.key(), "profile": "docker",
                    "icc": number % 2 == 0, "capabilities": { "links": true },
                }));
                plugins.push(json!({
                    "type": "dns", "backend": site.backend.key(), "resolvConf": resolv,
                    "capabilities": { "aliases": true, "dns": true, "links": true },
                }));
            }
            fs::write(
                conf.path().join(format!("{name}.conflist")),
                list.to_string(),
            )
            .map_err(Failure::act("write a conflist"))?;
            networks.push(Network::from_list(list));
        }
        Ok(Self {
            site,
            networks,
            exchange: match kind {
                Kind::Exchange => Some(Exchange::new(site)?),
                Kind::Plain | Kind::Beside => None,
            },
            places: (0..CONTAINERS).map(|_| Mutex::new(Place::Free)).collect(),
            conf,
            traces: Scratch::new("traces")?,
            quiet: RwLock::new(()),
            kind,
            counts: Mutex::default(),
            wrong: Mutex::default(),
        })
    }

    fn count(&self, what: &'static str) {
        if let Ok(mut counts) = self.counts.lock() {
            *counts.entry(what).or_default() += 1;
        }
    }

    fn wrong(&self, text: String) {
        println!("{text}");
        if let Ok(mut wrong) = self.wrong.lock() {
            wrong.push(text);
        }
    }

    fn rage(&self, settings: &Settings, until: Instant, most: usize) -> Outcome<usize> {
        let done = AtomicUsize::new(0);
        let over =
            || done.load(Ordering::Relaxed) >= most || (!settings.whole && Instant::now() > until);
        let failures = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for worker in 0..WORKERS {
                let (done, over, failures) = (&done, &over, &failures);
                scope.spawn(move || {
                    let mut random =
                        Random::new(settings.seed.wrapping_mul(97).wrapping_add(worker as u64));
                    while !over() {
                        let number = done.fetch_add(1, Ordering::Relaxed);
                        let outcome = if number % BETWEEN == BETWEEN - 1 {
                            let _alone = self.quiet.write().unwrap_or_else(PoisonError::into_inner);
                            self.quiesce(&mut random)
                        } else {
                            self.operation(&mut random)
                        };
                        if let (Err(failure), Ok(mut failures)) = (outcome, failures.lock()) {
                            failures.push(failure.to_string());
                            break;
                        }
                    }
                });
            }
        });
        let failures = failures.into_inner().unwrap_or_default();
        if failures.is_empty() {
            Ok(done.into_inner())
        } else {
            Err(Failure::new(failures.join("\n")))
        }
    }

    fn operation(&self, random: &mut Random) -> Outcome {
        if random.below(40) == 0 {
            return self.admin(random);
        }
        let _beside = self.quiet.read().unwrap_or_else(PoisonError::into_inner);
        let at = random.below(CONTAINERS);
        // Its runtime has one verb of a container at a time.
        let Ok(mut place) = self.places[at].try_lock() else {
            return Ok(());
        };
        let was = std::mem::replace(&mut *place, Place::Free);
        *place = match was {
            Place::Free => self.add(at, random)?,
            Place::Attached(guest, container) => self.change(guest, container, random)?,
            Place::Due(guest, container) => self.del(guest, container, random)?,
        };
        Ok(())
    }
}

impl Drop for Storm<'_> {
    fn drop(&mut self) {
        kill_all_in(self.site.host.netns());
    }
}

/// How a chain of verbs ended.
enum Ended {
    Well,
    Killed,
    Refused(CniError),
}
