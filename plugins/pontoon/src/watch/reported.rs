//! What has been told, and what is to be told next.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{Event, Key, Seen, What, event};
use crate::facts::Attachment;

/// A DEL that removes nothing more for so long is told as `lost`, and as `detached` when its record goes. The
/// plugins of a chain are processes of their own: on a busy host each of them takes its time.
const DEL_TIME: Duration = Duration::from_secs(3);

/// Whether everything is there that its records speak of.
fn whole(one: &Attachment) -> bool {
    one.alive && one.wired
}

/// What was told last, and what is seen that has not been told, since its last change.
pub(super) struct ReportedState {
    pub(super) attachments: Seen,
    untold: BTreeMap<Key, (Attachment, Instant)>,
}

impl ReportedState {
    pub(super) fn new(attachments: Seen) -> Self {
        Self {
            attachments,
            untold: BTreeMap::new(),
        }
    }

    /// What has to be told of what is seen now.
    pub(super) fn update(&mut self, seen: Seen, now: Instant) -> Vec<Event> {
        let told = std::mem::take(&mut self.attachments);
        let gone = told.iter().filter(|(key, _)| !seen.contains_key(*key));
        let mut events: Vec<Event> = gone.map(|(_, one)| event(What::Detached, one)).collect();
        self.untold.retain(|key, _| seen.contains_key(key));
        for (key, one) in seen {
            let Some(old) = told.get(&key) else {
                events.push(event(What::Attached, &one));
                self.attachments.insert(key, one);
                continue;
            };
            if may_be_leaving(old, &one) {
                let untold = self.untold.entry(key.clone());
                let (last, since) = untold.or_insert_with(|| (one.clone(), now));
                if !same(last, &one) {
                    (*last, *since) = (one.clone(), now);
                }
                if now.duration_since(*since) < DEL_TIME {
                    self.attachments.insert(key, old.clone());
                    continue;
                }
            }
            self.untold.remove(&key);
            if whole(old) && !whole(&one) {
                events.push(event(What::Lost, &one));
            }
            if old.ports != one.ports {
                events.push(event(What::Ports, &one));
            }
            self.attachments.insert(key, one);
        }
        events
    }
}

/// Whether nothing of it has been removed, or made, in between.
fn same(one: &Attachment, other: &Attachment) -> bool {
    let parts = |one: &Attachment| {
        let (names, addresses) = (one.names.clone(), one.addresses.clone());
        (one.alive, one.wired, names, addresses, one.ports.clone())
    };
    parts(one) == parts(other)
}

/// Whether a DEL that has not come to its end would leave it so. A namespace is gone without a DEL: a
/// runtime deletes it after the DEL.
fn may_be_leaving(old: &Attachment, one: &Attachment) -> bool {
    let unplugged = old.wired && !one.wired && one.alive;
    let withdrawn = old.ports.iter().any(|port| !one.ports.contains(port));
    let died = old.alive && !one.alive;
    (unplugged || withdrawn) && !died
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Port;

    fn attachment(ports: &[u16]) -> Attachment {
        let port = |number: &u16| Port {
            host_ip: None,
            host_port: *number,
            container_port: 80,
            protocol: "tcp".to_owned(),
            backend: "nftables".to_owned(),
        };
        Attachment {
            id: "c".to_owned(),
            names: Vec::new(),
            network: "n".to_owned(),
            interface: "eth0".to_owned(),
            mode: "bridge",
            addresses: Vec::new(),
            ports: ports.iter().map(port).collect(),
            netns: String::new(),
            alive: true,
            bridge: None,
            host_interface: None,
            shares: None,
            links: Vec::new(),
            age_seconds: 0,
            wired: true,
            about: None,
        }
    }

    fn seen(one: Option<Attachment>) -> Seen {
        let key = ("n".to_owned(), "c".to_owned(), "eth0".to_owned());
        one.into_iter().map(|one| (key.clone(), one)).collect()
    }

    /// What is told after each look, the looks so many milliseconds after the first.
    #[track_caller]
    fn check(first: Attachment, looks: &[(u64, Option<Attachment>, &[What])]) {
        let start = Instant::now();
        let mut told = ReportedState::new(seen(Some(first)));
        for (after, one, expected) in looks {
            let now = start + Duration::from_millis(*after);
            let events = told.update(seen(one.clone()), now);
            let found: Vec<What> = events.iter().map(|event| event.what).collect();
            assert_eq!(found, *expected, "after {after} ms");
        }
    }

    fn unplugged(ports: &[u16]) -> Attachment {
        Attachment {
            wired: false,
            ..attachment(ports)
        }
    }

    fn dead() -> Attachment {
        Attachment {
            alive: false,
            ..unplugged(&[8080])
        }
    }

    #[test]
    fn what_a_slow_del_removes_first_is_detached_and_nothing_else() {
        check(
            attachment(&[8080]),
            &[
                (0, Some(attachment(&[])), &[]),
                (2900, Some(unplugged(&[])), &[]),
                (5800, None, &[What::Detached]),
            ],
        );
    }

    #[test]
    fn what_no_del_takes_further_is_lost() {
        check(
            attachment(&[8080]),
            &[
                (0, Some(unplugged(&[8080])), &[]),
                (2999, Some(unplugged(&[8080])), &[]),
                (3000, Some(unplugged(&[8080])), &[What::Lost]),
                (3100, Some(unplugged(&[8080])), &[]),
                (9000, None, &[What::Detached]),
            ],
        );
    }

    #[test]
    fn a_namespace_that_is_gone_is_lost_at_once() {
        check(
            attachment(&[8080]),
            &[
                (0, Some(dead()), &[What::Lost]),
                (10, None, &[What::Detached]),
            ],
        );
        // Also where its interface went first.
        check(
            attachment(&[8080]),
            &[
                (0, Some(unplugged(&[8080])), &[]),
                (10, Some(dead()), &[What::Lost]),
            ],
        );
    }

    #[test]
    fn an_interface_that_comes_back_is_not_lost() {
        check(
            attachment(&[]),
            &[
                (0, Some(unplugged(&[])), &[]),
                (10, Some(attachment(&[])), &[]),
                (5000, Some(unplugged(&[])), &[]),
            ],
        );
    }

    #[test]
    fn ports_are_told_at_once_when_published_and_after_a_while_when_withdrawn() {
        check(
            attachment(&[]),
            &[
                (0, Some(attachment(&[80])), &[What::Ports]),
                (10, Some(attachment(&[])), &[]),
                (3010, Some(attachment(&[])), &[What::Ports]),
            ],
        );
    }
}
