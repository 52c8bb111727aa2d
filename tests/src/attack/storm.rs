//! Containers come and go on small networks from several threads at once, with kills, vanishing
//! namespaces, flushes and the admin's commands in between. At each quiesce the host is held against
//! what the runtime knows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use pontoon_lab::{
    Attachment, Backend, CniError, Container, Failure, Network, Outcome, Scratch, Site,
};
use pontoon_netlink::RouteSocket;
use serde_json::{Value, json};

use super::scene::kill_all_in;
use super::tracer::{Act, Tracer};
use super::work::{Random, Settings};

const WORKERS: usize = 8;
const CONTAINERS: usize = 64;
const NETWORKS: usize = 4;
/// Fewer ports than containers, and networks of 13 addresses.
const PORTS: u64 = 16;
/// How many operations of all threads between two quiesces.
const BETWEEN: usize = 150;
/// Operations of a whole run, over all backends.
const WHOLE: usize = 100_000;

/// What the runtime knows of a container.
enum Place {
    /// There is none.
    Free,
    /// ADD succeeded.
    Attached(usize, Box<Attachment>, Container),
    /// A verb was killed, or the namespace has gone: DEL is due.
    Due(usize, Box<Attachment>, Option<Container>),
}

struct Storm<'s> {
    site: &'s Site,
    networks: Vec<Network>,
    places: Vec<Mutex<Place>>,
    conf: Scratch,
    traces: Scratch,
    /// Operations beside each other read, what needs the host for itself writes.
    quiet: RwLock<()>,
    /// GC by the admin's command runs beside ADDs.
    beside: bool,
    counts: Mutex<BTreeMap<&'static str, usize>>,
    wrong: Mutex<Vec<String>>,
}

/// Runs the attack.
pub(crate) fn run(settings: &Settings, beside: bool) -> Outcome {
    let backends: Vec<Backend> = Backend::ALL
        .into_iter()
        .filter(|backend| settings.wants(&backend.to_string()))
        .collect();
    let share = settings.until.saturating_duration_since(Instant::now())
        / u32::try_from(backends.len().max(1)).unwrap_or(1);
    let mut wrong = Vec::new();
    println!("\n| storm | operations | counts |\n| --- | ---: | --- |");
    for backend in &backends {
        let site = Site::new(*backend)?;
        let before = site.snapshot()?;
        let storm = Storm::new(&site, beside)?;
        let until = Instant::now() + share;
        let most = if settings.whole {
            WHOLE / backends.len()
        } else {
            usize::MAX
        };
        let done = storm.rage(settings, until, most)?;
        storm.end(&before)?;
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
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "{} violations:\n{}",
            wrong.len(),
            wrong.join("\n")
        )))
    }
}

impl<'s> Storm<'s> {
    fn new(site: &'s Site, beside: bool) -> Outcome<Self> {
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
            let base = site.network(&name, &format!("st{number}"), &[&subnets[0], &subnets[1]]);
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
            places: (0..CONTAINERS).map(|_| Mutex::new(Place::Free)).collect(),
            conf,
            traces: Scratch::new("traces")?,
            quiet: RwLock::new(()),
            beside,
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
            Place::Attached(network, attachment, container) => {
                self.change(network, attachment, container, random)?
            }
            Place::Due(network, attachment, container) => {
                self.del(network, attachment, container, random)?
            }
        };
        Ok(())
    }

    fn add(&self, at: usize, random: &mut Random) -> Outcome<Place> {
        let network = random.below(NETWORKS);
        let container = Container::new(&format!("s{at}"))?;
        let mut attachment = Attachment::new(&container).named(&format!("name{at}"));
        if random.below(2) == 0 {
            let port = 9000 + random.next() % PORTS;
            attachment = attachment.publish("", u16::try_from(port).unwrap_or(9000), 80, "tcp");
        }
        if random.below(4) == 0 {
            let other = format!("name{}", random.below(CONTAINERS));
            attachment
                .capabilities
                .insert("aliases".into(), json!([format!("alias{other}")]));
        }
        let mut attachment = Box::new(attachment);
        let kill = (random.below(6) == 0).then(|| (random.below(4), 1 + random.below(300)));
        match self.chain("ADD", network, &mut attachment, kill)? {
            Ended::Well => {
                self.count("ADD");
                Ok(Place::Attached(network, attachment, container))
            }
            Ended::Killed => {
                self.count("ADD killed");
                attachment.result = None;
                Ok(Place::Due(network, attachment, Some(container)))
            }
            Ended::Refused(error) => {
                self.count("ADD refused");
                // Ports and addresses are few; one that a kill has left is freed by DEL.
                let text = error.text();
                let few = [
                    "already published",
                    "no IP addresses",
                    "no free address",
                    "in use",
                    "full",
                    "already",
                ];
                if !few.iter().any(|word| text.contains(word)) {
                    self.wrong(format!("ADD: {error}"));
                }
                attachment.result = None;
                Ok(Place::Due(network, attachment, Some(container)))
            }
        }
    }

    fn change(
        &self,
        network: usize,
        mut attachment: Box<Attachment>,
        container: Container,
        random: &mut Random,
    ) -> Outcome<Place> {
        match random.below(10) {
            0..3 => {
                if let Ended::Refused(error) =
                    self.chain("CHECK", network, &mut attachment, None)?
                {
                    self.wrong(format!("CHECK: {error}"));
                }
                self.count("CHECK");
                Ok(Place::Attached(network, attachment, container))
            }
            3..5 => {
                drop(container);
                self.count("vanished");
                Ok(Place::Due(network, attachment, None))
            }
            _ => self.del(network, attachment, Some(container), random),
        }
    }

    fn del(
        &self,
        network: usize,
        mut attachment: Box<Attachment>,
        container: Option<Container>,
        random: &mut Random,
    ) -> Outcome<Place> {
        let kill = (random.below(6) == 0).then(|| (random.below(4), 1 + random.below(200)));
        match self.chain("DEL", network, &mut attachment, kill)? {
            Ended::Well => {
                self.count("DEL");
                Ok(Place::Free)
            }
            Ended::Killed => {
                self.count("DEL killed");
                Ok(Place::Due(network, attachment, container))
            }
            Ended::Refused(error) => {
                self.wrong(format!("DEL: {error}"));
                Ok(Place::Due(network, attachment, container))
            }
        }
    }

    /// The verb of every plugin of the chain; with `kill`, the plugin at that place dies at that call.
    fn chain(
        &self,
        verb: &str,
        network: usize,
        attachment: &mut Attachment,
        kill: Option<(usize, usize)>,
    ) -> Outcome<Ended> {
        let (network, runtime) = (&self.networks[network], self.site.runtime());
        let mut places: Vec<usize> = (0..network.plugins().len()).collect();
        if verb == "DEL" {
            places.reverse();
        }
        for place in places {
            let plugin = &network.plugins()[place];
            let program = plugin["type"].as_str().unwrap_or_default();
            let stdin = network.stdin(plugin, &attachment.capabilities, attachment.result.as_ref());
            let call = runtime.attachment_call(verb, &stdin, attachment);
            let finished = match kill.filter(|(where_, _)| *where_ == place) {
                Some((_, number)) => {
                    let dir = self.traces.path().join(&attachment.container_id);
                    fs::create_dir_all(&dir).map_err(Failure::act("make a directory"))?;
                    let traced = self.site.host.run(|| {
                        Tracer::new(&runtime, &dir).run(program, &call, Some((number, Act::Kill)))
                    })??;
                    if traced.hung {
                        self.wrong(format!("{program} {verb} hangs"));
                    }
                    traced.finished
                }
                None => runtime.call(program, &call)?,
            };
            if finished.status.is_none() {
                return Ok(Ended::Killed);
            }
            if let Err(error) = finished.verdict(&format!("{program} {verb}")) {
                return Ok(Ended::Refused(error));
            }
            if verb == "ADD" {
                let result: Value = serde_json::from_str(&finished.stdout)
                    .map_err(Failure::act("read a result"))?;
                attachment.result = Some(result);
            }
        }
        Ok(Ended::Well)
    }

    /// What an administrator does, and programs that clear every rule.
    fn admin(&self, random: &mut Random) -> Outcome {
        let conf = self.conf.path().display().to_string();
        let bin = self.site.runtime().programs().dir().display().to_string();
        let at = ["--conf-dir", conf.as_str(), "--bin-dir", bin.as_str()];
        let network = format!("storm{}", random.below(NETWORKS));
        let words: Vec<&str> = match random.below(7) {
            0 => vec!["ls"],
            1 => vec!["ports"],
            2 => vec!["leases", &network],
            3 => vec!["repair"],
            4 => vec!["doctor", "--fix"],
            5 => vec!["gc", &network, "--all-dead"],
            _ => {
                let _alone = self.quiet.write().unwrap_or_else(PoisonError::into_inner);
                self.count("flush");
                self.site.flush()?;
                let finished = self.site.pontoon(&["repair"])?;
                if finished.status != Some(0) {
                    self.wrong(format!("repair: {}{}", finished.stdout, finished.stderr));
                }
                return Ok(());
            }
        };
        let reads = ["ls", "ports", "leases", "repair"].contains(&words[0]);
        let arguments = if reads {
            words.clone()
        } else {
            [words.as_slice(), &at].concat()
        };
        let run = || self.site.pontoon(&arguments);
        let finished = if reads || self.beside {
            let _beside = self.quiet.read().unwrap_or_else(PoisonError::into_inner);
            run()?
        } else {
            let _alone = self.quiet.write().unwrap_or_else(PoisonError::into_inner);
            run()?
        };
        self.count("admin");
        // Findings of doctor are no failure of it.
        if finished.status.is_none_or(|status| status > 1) {
            self.wrong(format!(
                "pontoon {}: {:?} {}{}",
                words.join(" "),
                finished.status,
                finished.stdout,
                finished.stderr
            ));
        }
        Ok(())
    }

    /// With the host for itself: all that is due is done, and what is left is what is attached.
    fn quiesce(&self, random: &mut Random) -> Outcome {
        self.count("quiesce");
        let mut addresses = BTreeSet::new();
        let mut ports = BTreeSet::new();
        let mut attached = 0;
        for place in &self.places {
            let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
            let was = std::mem::replace(&mut *place, Place::Free);
            *place = match was {
                Place::Due(network, mut attachment, container) => {
                    if let Ended::Refused(error) =
                        self.chain("DEL", network, &mut attachment, None)?
                    {
                        self.wrong(format!("DEL at rest: {error}"));
                    }
                    drop(container);
                    Place::Free
                }
                Place::Attached(network, mut attachment, container) => {
                    attached += 1;
                    for v6 in [false, true] {
                        if let Some(address) = attachment.address(v6)
                            && !addresses.insert(address.clone())
                        {
                            self.wrong(format!("address twice: {address}"));
                        }
                    }
                    for mapping in attachment
                        .capabilities
                        .get("portMappings")
                        .and_then(Value::as_array)
                        .into_iter()
                        .flatten()
                    {
                        if !ports.insert(mapping["hostPort"].to_string()) {
                            self.wrong(format!("port twice: {mapping}"));
                        }
                    }
                    if let Ended::Refused(error) =
                        self.chain("CHECK", network, &mut attachment, None)?
                    {
                        self.wrong(format!("CHECK at rest: {error}"));
                        // Once is enough.
                        let _ = self.chain("DEL", network, &mut attachment, None)?;
                        Place::Free
                    } else {
                        Place::Attached(network, attachment, container)
                    }
                }
                Place::Free => Place::Free,
            };
        }
        if random.below(3) == 0 {
            self.collect()?;
        }
        self.hold(attached, &addresses)
    }

    /// The runtime's GC, with all that is attached on the list.
    fn collect(&self) -> Outcome {
        self.count("GC");
        let mut kept: Vec<Vec<Attachment>> = vec![Vec::new(); NETWORKS];
        for place in &self.places {
            if let Place::Attached(network, attachment, _) =
                &*place.lock().unwrap_or_else(PoisonError::into_inner)
            {
                kept[*network].push((**attachment).clone());
            }
        }
        for (network, kept) in self.networks.iter().zip(&kept) {
            let kept: Vec<&Attachment> = kept.iter().collect();
            self.site.runtime().gc(network, &kept)?;
        }
        Ok(())
    }

    /// Leases and links on the host are those of the attached, and no others.
    fn hold(&self, attached: usize, addresses: &BTreeSet<String>) -> Outcome {
        let mut leases = BTreeSet::new();
        for network in &self.networks {
            let dir = self.site.leases.path().join(network.name());
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.parse::<IpAddr>().is_ok() {
                    leases.insert(name);
                }
            }
        }
        for lease in leases.symmetric_difference(addresses) {
            self.wrong(format!(
                "address {lease}: a lease without attachment, or the other way round"
            ));
        }
        let started = Instant::now();
        loop {
            let links = self
                .site
                .host
                .run(|| RouteSocket::open()?.links_of_kind("veth"))?;
            let links = links.map_err(Failure::act("list links"))?;
            // One is the cable to the outside.
            let found = links.iter().filter(|link| link.name != "eth0").count();
            if found == attached {
                return Ok(());
            }
            // The kernel takes its time with links of namespaces that died.
            if started.elapsed() > Duration::from_secs(3) {
                self.wrong(format!("{found} links for {attached} attachments"));
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The last DELs; then the host is as before.
    fn end(&self, before: &pontoon_lab::Snapshot) -> Outcome {
        for place in &self.places {
            let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
            if let Place::Attached(network, mut attachment, _)
            | Place::Due(network, mut attachment, _) =
                std::mem::replace(&mut *place, Place::Free)
                && let Ended::Refused(error) = self.chain("DEL", network, &mut attachment, None)?
            {
                self.wrong(format!("DEL at the end: {error}"));
            }
        }
        let networks: Vec<&Network> = self.networks.iter().collect();
        let after = "the storm";
        if let Err(failure) = self.site.nothing_left(before, &networks, after) {
            self.wrong(failure.to_string());
        }
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
