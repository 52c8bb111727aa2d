//! The directory of records is followed, and the program ends when nobody needs it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::birth::Departure;
use super::state::Daemon;

/// For how long a resolver without records waits for the next one.
const GRACE: Duration = Duration::from_secs(1);
/// How often records are looked through when the kernel does not tell of changes.
const SWEEP: Duration = Duration::from_secs(1);
/// How often a resolver looks whether there is still a container.
const LOOK: Duration = Duration::from_secs(5);
/// How long it waits for somebody who has the lock when it is time to go.
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
    // Directories in which namespaces of containers can be seen from here.
    let mut visible = HashSet::new();
    let mut empty_since: Option<Instant> = None;
    let mut looked = Instant::now();
    loop {
        if daemon.zone.borrow().is_empty() {
            empty_since.get_or_insert_with(Instant::now);
        } else {
            empty_since = None;
        }
        let until = empty_since.map_or(looked + LOOK, |since| since + GRACE);
        if timeout_at(until, daemon.changed.notified()).await.is_ok() {
            continue;
        }
        looked = Instant::now();
        if is_over(daemon, &mut visible) {
            if may_leave(daemon, &mut visible) {
                return;
            }
            // Somebody may have the lock: not asked for in a tight loop.
            sleep(AGAIN).await;
        }
    }
}

fn is_over(daemon: &Daemon, visible: &mut HashSet<PathBuf>) -> bool {
    daemon.zone.borrow().is_empty() || is_abandoned(daemon, visible)
}

/// With the lock that whoever starts a resolver takes, so that no record comes unseen: either it is
/// there now, or its writer finds nobody and starts another one.
fn may_leave(daemon: &Rc<Daemon>, visible: &mut HashSet<PathBuf>) -> bool {
    let _lock = match daemon.files.try_start_lock() {
        Departure::Contested => return false,
        Departure::Homeless => return true,
        Departure::Locked(lock) => lock,
    };
    daemon.read_all();
    daemon.fit();
    if !is_over(daemon, visible) {
        return false;
    }
    daemon.files.remove();
    true
}

/// Whether the containers of all records are gone without a word: nobody is left to ask, and a
/// namespace is not kept alive for nobody. Their records stay for whoever comes, and the next ADD
/// starts another resolver. A namespace that was never to be seen from here is nobody's proof.
fn is_abandoned(daemon: &Daemon, visible: &mut HashSet<PathBuf>) -> bool {
    let mut alive = |path: Option<&Path>| {
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
    let zone = daemon.zone.borrow();
    !zone
        .attachments()
        .any(|found| alive(found.netns.as_deref()))
}
