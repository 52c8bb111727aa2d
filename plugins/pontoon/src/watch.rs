//! `pontoon watch`: attachments, detachments and changes of ports, as they happen. The kernel tells
//! of links, the state directory of records; what is told is what then differs from before.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use pontoon_netlink::{Group, Listener, Received};
use serde::Serialize;

use crate::facts::{Attachment, Host, Port};
use crate::report::{Failure, Outcome, Style, short};

/// What belongs together comes within this time.
const TOGETHER: Duration = Duration::from_millis(40);
/// Folders of records come and go; those that nobody told of are found after this time.
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

/// Who is attached, by network, container and interface.
type Seen = BTreeMap<(String, String, String), Attachment>;

pub(crate) fn run(options: &Options) -> Outcome {
    let end = options
        .seconds
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut links = Listener::open(&[Group::Links])?;
    let failed = |errno: nix::errno::Errno| Failure::Failed(format!("cannot watch files: {errno}"));
    let files = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(failed)?;
    let root = Host::look()?.state.dir().to_owned();
    watch(&files, &root);
    let mut before = look()?;
    eprintln!("watching {}: {} attached", root.display(), before.len());
    loop {
        let now = Instant::now();
        if end.is_some_and(|end| now >= end) {
            return Ok(true);
        }
        let most = end.map_or(AT_LEAST, |end| (end - now).min(AT_LEAST));
        wait(&files, &links, most);
        std::thread::sleep(TOGETHER);
        while let Ok(events) = files.read_events() {
            if events.is_empty() {
                break;
            }
        }
        // What is told is of no matter: all is looked at.
        while let Received::Messages(_) | Received::Lost = links.recv(Instant::now())? {}
        watch(&files, &root);
        let after = look()?;
        for event in differences(&before, &after) {
            if !tell(&event, options.json)? {
                return Ok(true);
            }
        }
        before = after;
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

/// Watches the state directory and all folders of records in it, or what is above it until it is there.
fn watch(files: &Inotify, root: &Path) {
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
        let _ = files.add_watch(&folder, flags);
    }
}

fn wait(files: &Inotify, links: &Listener, most: Duration) {
    let timeout = PollTimeout::try_from(most).unwrap_or(PollTimeout::ZERO);
    let mut fds = [
        PollFd::new(files.as_fd(), PollFlags::POLLIN),
        PollFd::new(links.as_fd(), PollFlags::POLLIN),
    ];
    // An interrupted wait ends early, and nothing is lost by that.
    let _ = poll(&mut fds, timeout);
}

/// Whether everything is there that its records speak of.
fn whole(one: &Attachment) -> bool {
    one.alive && one.wired
}

fn differences(before: &Seen, after: &Seen) -> Vec<Event> {
    let gone = before.iter().filter(|(key, _)| !after.contains_key(*key));
    let mut events: Vec<Event> = gone.map(|(_, one)| event(What::Detached, one)).collect();
    for (key, one) in after {
        match before.get(key) {
            None => events.push(event(What::Attached, one)),
            Some(old) => {
                if whole(old) && !whole(one) {
                    events.push(event(What::Lost, one));
                }
                if old.ports != one.ports {
                    events.push(event(What::Ports, one));
                }
            }
        }
    }
    events
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

/// Prints it; false when nobody reads any more.
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
