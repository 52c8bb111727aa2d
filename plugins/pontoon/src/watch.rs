//! `pontoon watch`: attachments, detachments and changes of ports, as they happen. The kernel tells
//! of links, the state directory of records; what is told is what then differs from before.
//!
//! A DEL takes its time: it removes the interface or withdraws the ports first, and its record last.
//! What it could be removing is told only when the record is gone, or nothing more has gone for three seconds.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use rtnetlink::MulticastGroup;
use serde::Serialize;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep, timeout_at};

use crate::facts::{Attachment, Host, Port};
use crate::report::{Failure, Outcome, Style, short};

mod reported;

use reported::ReportedState;

/// What belongs together comes with smaller gaps.
const GAP: Duration = Duration::from_millis(60);
/// A look comes at the latest so long after the first change, whatever else changes.
const TOGETHER: Duration = Duration::from_millis(500);
/// A folder of records that is made and filled between two looks is found after this time.
const AT_LEAST: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(crate) struct Options {
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Print JSON, an object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum What {
    Attached,
    Detached,
    /// Ports were published or withdrawn.
    Ports,
    /// The namespace or the interface is gone, and its DEL has not come.
    Lost,
}

impl What {
    fn word(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Detached => "detached",
            Self::Ports => "ports",
            Self::Lost => "lost",
        }
    }
}

/// One line.
#[derive(Debug, Serialize)]
struct Event {
    /// Seconds since 1970, UTC.
    time: f64,
    what: What,
    id: String,
    names: Vec<String>,
    network: String,
    interface: String,
    mode: &'static str,
    addresses: Vec<String>,
    /// Those that are published now.
    ports: Vec<String>,
}

/// Network, container and interface.
type Key = (String, String, String);

/// The attachments at one look.
type Seen = BTreeMap<Key, Attachment>;

pub(crate) fn run(options: &Options) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start the event loop: {error}")))?;
    runtime.block_on(follow(options))
}

async fn follow(options: &Options) -> Outcome {
    let end = options
        .seconds
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    // The handle keeps the connection open, although nothing is asked.
    let (connection, _handle, mut links) =
        rtnetlink::new_multicast_connection(&[MulticastGroup::Link])
            .map_err(|error| Failure::Failed(format!("cannot watch links: {error}")))?;
    tokio::spawn(connection);
    let files = Files::open()?;
    let root = Host::look()?.state.dir().to_owned();
    files.watch(&root);
    let mut told = ReportedState::new(look()?);
    eprintln!(
        "watching {}: {} attached",
        root.display(),
        told.attachments.len()
    );
    loop {
        let now = Instant::now();
        if end.is_some_and(|end| now >= end) {
            return Ok(true);
        }
        let most = end.map_or(now + AT_LEAST, |end| end.min(now + AT_LEAST));
        let mut change = async || {
            // What the message tells is of no matter, and so is one that the kernel has lost: all is
            // looked at.
            tokio::select! {
                message = links.recv() => message.is_ok(),
                () = files.changed() => true,
            }
        };
        match timeout_at(most, change()).await {
            Ok(true) => {
                let latest = Instant::now() + TOGETHER;
                while timeout_at(latest.min(Instant::now() + GAP), change()).await == Ok(true) {}
            }
            Ok(false) => {
                let words = "the kernel does not tell of links any more: its socket is closed";
                return Err(Failure::Failed(words.to_owned()));
            }
            Err(_) => {}
        }
        files.watch(&root);
        for event in told.update(look()?, Instant::now()) {
            if !tell(&event, options.json)? {
                return Ok(true);
            }
        }
    }
}

fn look() -> Result<Seen, Failure> {
    let attachments = Host::look()?.attachments().to_vec().into_iter();
    Ok(attachments
        .map(|one| {
            let key = (one.network.clone(), one.id.clone(), one.interface.clone());
            (key, one)
        })
        .collect())
}

/// The files that are watched.
struct Files(AsyncFd<Watcher>);

struct Watcher(Inotify);

impl AsRawFd for Watcher {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Files {
    #[expect(
        deprecated,
        reason = "`AsyncFd::register` is unsafe, and what it asks for is kept: the descriptor stays open for as long as the watcher lives"
    )]
    fn open() -> Result<Self, Failure> {
        let failed =
            |error: std::io::Error| Failure::Failed(format!("cannot watch files: {error}"));
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let files = Inotify::init(flags).map_err(|errno| failed(errno.into()))?;
        let files = AsyncFd::with_interest(Watcher(files), Interest::READABLE);
        files.map(Self).map_err(failed)
    }

    /// Watches the state directory and all folders of records in it, or what is above it until it is there.
    fn watch(&self, root: &Path) {
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_CLOSE_WRITE;
        let mut folders: Vec<PathBuf> = vec![root.to_owned()];
        for _ in 0..2 {
            let inner: Vec<PathBuf> = folders
                .iter()
                .filter_map(|folder| fs::read_dir(folder).ok())
                .flatten()
                .flatten()
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path())
                .filter(|path| !path.ends_with("lock"))
                .collect();
            folders.extend(inner);
        }
        for folder in folders {
            // A folder that is gone meanwhile has told so above it.
            let _ = self.0.get_ref().0.add_watch(&folder, flags);
        }
    }

    /// Waits for a change, and forgets it with all that came with it.
    async fn changed(&self) {
        let Ok(mut ready) = self.0.readable().await else {
            // The look that comes at the latest after a second finds what has changed.
            return sleep(AT_LEAST).await;
        };
        while let Ok(events) = self.0.get_ref().0.read_events() {
            if events.is_empty() {
                break;
            }
        }
        ready.clear_ready();
    }
}

fn event(what: What, one: &Attachment) -> Event {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Event {
        time: now.unwrap_or_default().as_secs_f64(),
        what,
        id: one.id.clone(),
        names: one.names.clone(),
        network: one.network.clone(),
        interface: one.interface.clone(),
        mode: one.mode,
        addresses: one.addresses.clone(),
        ports: one.ports.iter().map(Port::text).collect(),
    }
}

/// Prints it; false when the reader has closed its end.
fn tell(event: &Event, json: bool) -> Result<bool, Failure> {
    let line = if json {
        serde_json::to_string(event).map_err(|error| Failure::Failed(error.to_string()))?
    } else {
        text(event)
    };
    match writeln!(std::io::stdout().lock(), "{line}") {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Failed(format!(
            "cannot write to standard output: {error}"
        ))),
    }
}

fn text(event: &Event) -> String {
    let style = Style::of_stdout();
    let seconds = event.time as u64;
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    let word = format!("{:8}", event.what.word());
    let word = match event.what {
        What::Attached => style.good(&word),
        What::Lost => style.bad(&word),
        _ => word,
    };
    let mut words = vec![
        format!("{hours:02}:{minutes:02}:{:02}Z", seconds % 60),
        word,
        event.names.first().cloned().unwrap_or("-".to_owned()),
        short(&event.id),
        format!("{} ({})", event.network, event.mode),
    ];
    if event.what != What::Detached {
        words.extend(event.addresses.iter().cloned());
        words.extend(event.ports.iter().cloned());
    }
    words.join("  ")
}
