//! At a quiesce and at the end the host is held against what the runtime knows.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};

use pontoon_lab::{Attachment, Failure, Outcome, Snapshot};
use pontoon_netlink::RouteSocket;
use serde_json::Value;

use super::exchange::{EXCHANGED, is_shared};
use super::{Ended, NETWORKS, Place, Random, Storm};

/// For how long what a network leaves may take to go: its rules stay for a second, and on a busy machine the
/// programs of iptables take several to remove them.
const PATIENCE: Duration = Duration::from_secs(15);

impl Storm<'_> {
    /// With the host for itself: all that is due is done, and what is left is what is attached.
    pub(super) fn quiesce(&self, random: &mut Random) -> Outcome {
        self.count("quiesce");
        let mut addresses = BTreeSet::new();
        let mut ports = BTreeSet::new();
        let mut attached = 0;
        for place in &self.places {
            let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
            let was = std::mem::replace(&mut *place, Place::Free);
            *place = match was {
                Place::Due(mut guest, container) => {
                    if let Ended::Refused(error) = self.chain("DEL", &mut guest, None, false)? {
                        self.wrong(format!("DEL at rest: {error}"));
                    }
                    drop(container);
                    Place::Free
                }
                Place::Attached(mut guest, container) => {
                    if let Some(error) = self.check(&mut guest)? {
                        self.wrong(format!("CHECK at rest: {error}"));
                        // Once is enough.
                        let _ = self.chain("DEL", &mut guest, None, false)?;
                        continue;
                    }
                    attached += 1;
                    for v6 in [false, true] {
                        if let Some(address) = guest.attachment.address(v6)
                            && !addresses.insert(address.clone())
                        {
                            self.wrong(format!("address twice: {address}"));
                        }
                    }
                    let mappings = guest.attachment.capabilities.get("portMappings");
                    for mapping in mappings.and_then(Value::as_array).into_iter().flatten() {
                        if !ports.insert(mapping["hostPort"].to_string()) {
                            self.wrong(format!("port twice: {mapping}"));
                        }
                    }
                    Place::Attached(guest, container)
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
            if let Place::Attached(guest, _) =
                &*place.lock().unwrap_or_else(PoisonError::into_inner)
            {
                kept[guest.network].push((*guest.attachment).clone());
            }
        }
        for (network, kept) in self.networks.iter().zip(&kept) {
            let kept: Vec<&Attachment> = kept.iter().collect();
            // GC came with 1.1.0, whatever the network itself is written in.
            let network = network.clone().in_version("1.1.0");
            self.site.runtime().gc(&network, &kept)?;
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
            if started.elapsed() > PATIENCE {
                self.wrong(format!("{found} links for {attached} attachments"));
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The last DELs; then the host is as before.
    pub(super) fn end(&self, before: &Snapshot) -> Outcome {
        for place in &self.places {
            let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
            if let Place::Attached(mut guest, _) | Place::Due(mut guest, _) =
                std::mem::replace(&mut *place, Place::Free)
                && let Ended::Refused(error) = self.chain("DEL", &mut guest, None, false)?
            {
                self.wrong(format!("DEL at the end: {error}"));
            }
        }
        let bare = |now: Snapshot| {
            let networks = self.networks.iter();
            networks.fold(now, |now, network| now.without_link(network.bridge()))
        };
        self.settled(before, "the last DEL", bare)?;
        for network in &self.networks {
            let network = network.clone().in_version("1.1.0");
            self.site.runtime().gc(&network, &[])?;
        }
        // The reference's bridge stays when its last container has been the reference's.
        let exchanged = self.networks[EXCHANGED].bridge();
        self.settled(before, "GC", |now| now.without_link(exchanged))?;
        if let Err(failure) = self.site.state_is_gone("after the storm") {
            self.wrong(failure.to_string());
        }
        Ok(())
    }

    /// Soon nothing differs from before but what the reference shares between its containers.
    fn settled(
        &self,
        before: &Snapshot,
        after: &str,
        view: impl Fn(Snapshot) -> Snapshot,
    ) -> Outcome {
        let before = view(before.clone().without("sysctls"));
        let started = Instant::now();
        loop {
            let now = view(self.site.snapshot()?.without("sysctls"));
            let changes = before.changes(&now);
            let left: Vec<&str> = changes.lines().filter(|line| !is_shared(line)).collect();
            if left.is_empty() {
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                self.wrong(format!("left after {after}:\n{}", left.join("\n")));
                return Ok(());
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}
