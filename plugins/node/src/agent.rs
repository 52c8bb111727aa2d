//! The agent: a task that talks to etcd, one that looks at this host, and one that answers at the control socket. Its
//! end changes nothing in the kernel and in files, and lets its lease run out: one that is started again within ten
//! seconds was never away.

use std::fs;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use pontoon_ledger::State;
use pontoon_ledger::overlay::OverlayFiles;
use pontoon_netlink::{Netns, RouteSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use crate::deletions::Deletions;
use crate::etcd::{self, EtcdError};
use crate::key::Key;
use crate::local::Local;
use crate::records_watch::RecordsWatch;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::{control, say, session};

/// How often leases and configurations are looked at: a look costs a few system calls where nothing has changed.
const LOOK: Duration = Duration::from_secs(1);
/// How often the kernel is compared with what is wanted, whatever it tells.
const AUDIT: Duration = Duration::from_secs(10);
/// The least time between two comparisons that deletions make necessary.
const BETWEEN: Duration = Duration::from_millis(200);
/// What etcd tells is gathered for so long.
const GATHER: Duration = Duration::from_millis(20);
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Of `--once`: how often blocks are decided about.
const TURNS: usize = 16;

/// Runs the agent until it is told to end, or once.
pub(crate) fn run(settings: Settings, once: bool) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            say!("cannot set up the event loop: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = LocalSet::new().block_on(&runtime, async {
        match once {
            true => Box::pin(look_once(settings)).await,
            false => serve(settings).await,
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            say!("{text}");
            ExitCode::FAILURE
        }
    }
}

/// What both ways of running need.
fn set_up(settings: Settings) -> Result<(Rc<Shared>, Local, State), String> {
    let state = State::locate().map_err(|error| error.to_string())?;
    let files = OverlayFiles::locate().map_err(|error| error.to_string())?;
    let socket = RouteSocket::open().map_err(|error| error.to_string())?;
    let shared = Rc::new(Shared::new(settings, boot()?));
    let local = Local::new(Rc::clone(&shared), state.clone(), files, socket);
    Ok((shared, local, state))
}

/// This boot of this machine, and the network namespace: two agents of one machine in different namespaces are two
/// hosts.
fn boot() -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot read {BOOT_ID}: {error}");
    let boot = fs::read_to_string(BOOT_ID).map_err(failed)?;
    let cookie = Netns::cookie().map_err(|error| error.to_string())?;
    Ok(format!("{}/{cookie}", boot.trim()))
}

async fn serve(settings: Settings) -> Result<(), String> {
    let (shared, mut local, state) = set_up(settings)?;
    let listener = control::listen(&state)?;
    let signal = |kind| signal(kind).map_err(|error| format!("cannot wait for signals: {error}"));
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let mut deletions = Deletions::listen()
        .inspect_err(|error| {
            say!(
                "{error}: deletions are found within {} s only",
                AUDIT.as_secs()
            )
        })
        .ok();
    let mut records = RecordsWatch::new()
        .inspect_err(|error| say!("{error}: names are told with the next look"))
        .ok();
    // The tunnels come first: they need no etcd.
    local.look(true);
    local.sweep();
    spawn_local(control::serve(Rc::clone(&shared), listener));
    spawn_local(session::keep_talking(Rc::clone(&shared)));
    say!("host {} is looked after", shared.settings.host);
    let mut ticker = interval(LOOK);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Instant::now();
    let mut next = last + AUDIT;
    loop {
        let deleted = async {
            match &mut deletions {
                Some(deletions) => deletions.wait(&shared.devices).await,
                None => std::future::pending().await,
            }
        };
        if let Some(records) = &records {
            records.watch(&state, shared.own.borrow().keys());
        }
        let recorded = async {
            match &mut records {
                Some(records) => records.changed().await,
                None => std::future::pending().await,
            }
        };
        let mut audit = false;
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = shared.cluster_changed.notified() => sleep(GATHER).await,
            () = recorded => {}
            () = deleted => {
                next = next.min((last + BETWEEN).max(Instant::now()));
                continue;
            }
            () = sleep_until(next) => audit = true,
            _ = ticker.tick() => {}
        }
        if audit {
            last = Instant::now();
            next = last + AUDIT;
        }
        local.look(audit);
    }
    let _ = fs::remove_file(control::path(&state));
    say!("ends; the tunnels stay");
    Ok(())
}

/// Brings etcd, files and kernel into line once. What needs no etcd is done without.
async fn look_once(settings: Settings) -> Result<(), String> {
    let (shared, mut local, _) = set_up(settings)?;
    local.look(true);
    local.sweep();
    let talked = talk_once(&shared, &mut local).await;
    local.look(true);
    talked
        .map_err(|error| format!("{error}; files and kernel are as what was known before says"))?;
    match shared.warnings.borrow().is_empty() {
        true => Ok(()),
        false => Err("not all is well, see above".to_owned()),
    }
}

async fn talk_once(shared: &Rc<Shared>, local: &mut Local) -> Result<(), EtcdError> {
    let (mut client, cluster, _) = etcd::connect_to_any(&shared.settings.etcd).await?;
    shared.set_cluster(cluster);
    if let Some(info) = shared.info() {
        let key = Key::Info(shared.settings.host.clone()).path();
        let info = serde_json::to_vec(&info).unwrap_or_default();
        etcd::answered("tell etcd of this host", client.put(key, info, None)).await?;
    }
    for _ in 0..TURNS {
        local.look(false);
        let acts = shared.with_cluster(|cluster| session::acts(shared, cluster));
        let acts = acts.unwrap_or_default();
        if acts.is_empty() {
            break;
        }
        for (network, act) in acts {
            etcd::carry_out(&mut client, &shared.settings.host, &network, &act).await?;
        }
        let (cluster, _) = etcd::list(&mut client).await?;
        shared.set_cluster(cluster);
    }
    Ok(())
}
