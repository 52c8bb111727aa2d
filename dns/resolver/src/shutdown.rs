//! The directory of records is followed, and the program ends when no container needs it.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::request::ShutdownPermission;
use super::state::Daemon;

/// For how long a resolver without records waits for the next one.
const GRACE: Duration = Duration::from_secs(1);
/// How often records are looked through when the kernel does not tell of changes.
const SWEEP: Duration = Duration::from_secs(1);
/// How often a resolver looks whether there is still a container.
const LOOK: Duration = Duration::from_secs(5);
/// How long it waits for a plugin that has the lock when it is time to go.
const AGAIN: Duration = Duration::from_millis(50);

/// Follows the records, for ever.
pub(crate) async fn follow(daemon: Rc<Daemon>) {
    let watch = daemon.store.borrow_mut().watch();
    match watch {
        Some(watch) => {
            while let Ok(mut guard) = watch.readable().await {
                guard.clear_ready();
                let warnings = daemon
                    .store
                    .borrow_mut()
                    .follow(&mut daemon.zone.borrow_mut());
                daemon.warn(warnings);
                daemon.fit();
            }
        }
        None => loop {
            sleep(SWEEP).await;
            daemon.read_all();
            daemon.fit();
        },
    }
}

/// Waits until the program may end.
pub(crate) async fn wait(daemon: &Rc<Daemon>) {
    if daemon.options.stay {
        return std::future::pending().await;
    }
    let mut empty_since: Option<Instant> = None;
    let mut looked = Instant::now();
    loop {
        if !daemon.has_records() {
            empty_since.get_or_insert_with(Instant::now);
        } else {
            empty_since = None;
        }
        let until = empty_since.map_or(looked + LOOK, |since| since + GRACE);
        if timeout_at(until, daemon.changed.notified()).await.is_ok() {
            continue;
        }
        looked = Instant::now();
        if is_over(daemon) {
            leave(daemon);
            // A plugin may have the lock: not asked for in a tight loop.
            sleep(AGAIN).await;
        }
    }
}

impl Daemon {
    /// Whether there is a record of a container of this host.
    fn has_records(&self) -> bool {
        self.zone.borrow().len() > self.store.borrow().remote_count()
    }
}

/// Whether there is no record, or the containers of all of them are gone without a word. Nothing keeps a
/// namespace alive for the resolver; the records stay, and the next ADD starts another resolver.
fn is_over(daemon: &Daemon) -> bool {
    let zone = daemon.zone.borrow();
    let mut keys = zone.attachments().map(|found| found.key().path());
    !daemon.has_records() || !daemon.keeper.is_any_alive(&mut keys)
}

/// Ends the resolver, with the lock that a plugin takes to start one, so that no record comes unseen:
/// either it is there now, or its writer finds no resolver and starts another one. Returns when it is
/// not to end now.
fn leave(daemon: &Rc<Daemon>) {
    match daemon.keeper.lock() {
        ShutdownPermission::Contested => return,
        ShutdownPermission::Homeless => return daemon.keeper.leave(),
        ShutdownPermission::Locked => {}
    }
    daemon.read_all();
    daemon.fit();
    if is_over(daemon) {
        daemon.keeper.leave();
    }
    daemon.keeper.unlock();
}
