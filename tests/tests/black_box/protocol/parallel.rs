//! Many containers at once on a network that is not there yet.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::thread;

use pontoon_lab::{Attachment, Backend, Container, Failure, Outcome, Site};

const CONTAINERS: usize = 200;
const AT_ONCE: usize = 8;

/// Runs `verb` for every attachment, eight at a time, and collects what failed.
fn all_at_once(
    attachments: &mut [Attachment],
    verb: impl Fn(&mut Attachment) -> Outcome + Sync,
) -> Outcome {
    let queue = Mutex::new(attachments.iter_mut());
    let failed = Mutex::new(Vec::new());
    let next = || queue.lock().ok().and_then(|mut queue| queue.next());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(attachment) = next() {
                    if let (Err(error), Ok(mut failed)) = (verb(attachment), failed.lock()) {
                        failed.push(error.to_string());
                    }
                }
            });
        }
    });
    let failed = failed
        .into_inner()
        .map_err(Failure::act("collect the failures"))?;
    match failed.first() {
        None => Ok(()),
        Some(first) => Err(Failure::new(format!(
            "{} of {CONTAINERS} failed; the first: {first}",
            failed.len()
        ))),
    }
}

fn parallel(backend: Backend) -> Outcome {
    let site = Site::new(backend)?;
    let before = site.snapshot()?;
    let network = site.network("crowd", "crowd0", &["10.66.0.0/16", "fd00:66::/64"]);
    let containers: Vec<Container> = (0..CONTAINERS)
        .map(|_| Container::new("crowd"))
        .collect::<Outcome<_>>()?;
    let mut attachments: Vec<Attachment> = containers
        .iter()
        .zip(20_000..)
        .map(|(container, port)| Attachment::new(container).publish("", port, 80, "tcp"))
        .collect();

    all_at_once(&mut attachments, |attachment| {
        Ok(site.runtime().add(&network, attachment).map(drop)?)
    })?;
    for v6 in [false, true] {
        let addresses: BTreeSet<String> = attachments
            .iter()
            .filter_map(|attachment| attachment.address(v6))
            .collect();
        if addresses.len() != CONTAINERS {
            return Err(Failure::new(format!(
                "{CONTAINERS} containers have {} addresses",
                addresses.len()
            )));
        }
    }
    all_at_once(&mut attachments, |attachment| {
        Ok(site.runtime().check(&network, attachment)?)
    })?;
    all_at_once(&mut attachments, |attachment| {
        Ok(site.runtime().del(&network, attachment)?)
    })?;
    site.nothing_left(&before, &[&network], "200 ADDs and DELs")
}

#[test]
fn two_hundred_with_nftables() -> Outcome {
    parallel(Backend::Nftables)
}

#[test]
fn two_hundred_with_iptables_nft() -> Outcome {
    parallel(Backend::IptablesNft)
}

#[test]
fn two_hundred_with_iptables_legacy() -> Outcome {
    parallel(Backend::IptablesLegacy)
}
