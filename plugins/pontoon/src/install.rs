//! `pontoon install` and `pontoon uninstall`: the plugins and a sample configuration in place, and
//! whatever was there before kept aside, and put back.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::report::{Failure, Outcome, write};

/// The plugins, by the names under which runtimes look for them, and the resolver that `dns` starts.
pub(crate) const PLUGINS: [&str; 18] = [
    "bandwidth",
    "bridge",
    "container",
    "dns",
    "dnsname",
    "firewall",
    "host",
    "host-device",
    "host-local",
    "loopback",
    "macvlan",
    "none",
    "pontoon-dns",
    "portmap",
    "ptp",
    "sbr",
    "static",
    "tuning",
];
const SAMPLE: &str = include_str!("../../../conf/samples/docker0.conflist");
const SAMPLE_NAME: &str = "10-docker0.conflist";
/// Where what was there before is kept, below each folder.
const BACKUP: &str = ".pontoon-backup";

#[derive(Args)]
pub(crate) struct Folders {
    /// Folder of the plugins
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    bin_dir: PathBuf,
    /// Folder of the network configurations
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    conf_dir: PathBuf,
}

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    folders: Folders,
    /// Where the plugins to install are [default: where this program is]
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Replace another vendor's plugins; they are kept aside until pontoon uninstall
    #[arg(long)]
    force: bool,
}

/// What is at the place of a file that is to be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum There {
    Nothing,
    Ours,
    AnotherVendors,
}

/// Whether a program is one of ours, by the words in it.
pub(crate) fn is_ours(path: &Path) -> bool {
    // What a plugin says of itself, and the place that the programs beside them look at.
    const MARKS: [&[u8]; 2] = [b"Part of Pontoon", b"/run/pontoon"];
    fs::read(path).is_ok_and(|bytes| {
        let has = |mark: &[u8]| bytes.windows(mark.len()).any(|part| part == mark);
        MARKS.into_iter().any(has)
    })
}

fn there(path: &Path) -> There {
    if !path.exists() {
        There::Nothing
    } else if is_ours(path) {
        There::Ours
    } else {
        There::AnotherVendors
    }
}

fn failed(act: &str, path: &Path) -> impl Fn(io::Error) -> Failure {
    let text = format!("cannot {act} {}", path.display());
    move |error| Failure::Failed(format!("{text}: {error}"))
}

pub(crate) fn install(options: &Options) -> Outcome {
    let bin = &options.folders.bin_dir;
    let from = match &options.from {
        Some(from) => from.clone(),
        None => {
            let own = std::env::current_exe().map_err(failed("find", Path::new("this program")))?;
            own.parent().unwrap_or(Path::new("/")).to_owned()
        }
    };
    let present: Vec<&str> = PLUGINS
        .into_iter()
        .filter(|name| from.join(name).is_file())
        .collect();
    if present.is_empty() {
        return Err(Failure::NotFound(format!(
            "there are no plugins in {}\nhint: --from says where they are",
            from.display()
        )));
    }
    // Everything that can be refused is refused before anything is changed.
    let foreign: Vec<&str> = present
        .iter()
        .copied()
        .filter(|name| there(&bin.join(name)) == There::AnotherVendors)
        .collect();
    if !foreign.is_empty() && !options.force {
        return Err(Failure::Failed(format!(
            "{} in {} are another vendor's\nhint: --force replaces them, and pontoon uninstall puts them back; or choose another --bin-dir",
            foreign.join(", "),
            bin.display()
        )));
    }
    let mut text = String::new();
    for name in present {
        let target = bin.join(name);
        if there(&target) == There::AnotherVendors {
            keep_aside(bin, name)?;
            text += &format!("kept {} in {BACKUP}\n", target.display());
        }
        place(
            &fs::read(from.join(name)).map_err(failed("read", &from.join(name)))?,
            &target,
            0o755,
        )?;
        text += &format!("installed {}\n", target.display());
    }
    let conf = options.folders.conf_dir.join(SAMPLE_NAME);
    if conf.exists() {
        // It may have been edited: it is the admin's now.
        text += &format!("left {} as it is\n", conf.display());
    } else {
        place(SAMPLE.as_bytes(), &conf, 0o644)?;
        text += &format!("installed {}\n", conf.display());
    }
    write(&text)?;
    Ok(true)
}

fn keep_aside(dir: &Path, name: &str) -> Result<(), Failure> {
    let backup = dir.join(BACKUP);
    fs::create_dir_all(&backup).map_err(failed("make", &backup))?;
    let kept = backup.join(name);
    fs::rename(dir.join(name), &kept).map_err(failed("keep aside", &kept))
}

/// A file is there whole or not at all, and a running one is replaced, not written over.
fn place(bytes: &[u8], target: &Path, mode: u32) -> Result<(), Failure> {
    let dir = target.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(dir).map_err(failed("make", dir))?;
    let name = target
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let draft = dir.join(format!(".{name}.pontoon"));
    fs::write(&draft, bytes)
        .and_then(|()| fs::set_permissions(&draft, fs::Permissions::from_mode(mode)))
        .and_then(|()| fs::rename(&draft, target))
        .map_err(failed("write", target))
}

pub(crate) fn uninstall(folders: &Folders) -> Outcome {
    let bin = &folders.bin_dir;
    let mut text = String::new();
    for name in PLUGINS {
        let target = bin.join(name);
        let kept = bin.join(BACKUP).join(name);
        let now = there(&target);
        if now == There::Ours {
            fs::remove_file(&target).map_err(failed("remove", &target))?;
            text += &format!("removed {}\n", target.display());
        }
        if kept.exists() {
            if now == There::AnotherVendors {
                text += &format!("left {}: it is not ours any more\n", target.display());
                continue;
            }
            fs::rename(&kept, &target).map_err(failed("put back", &target))?;
            text += &format!("put back {}\n", target.display());
        }
    }
    // Fails while something is kept that could not be put back.
    let _ = fs::remove_dir(bin.join(BACKUP));
    let conf = folders.conf_dir.join(SAMPLE_NAME);
    match fs::read_to_string(&conf) {
        Ok(found) if found == SAMPLE => {
            fs::remove_file(&conf).map_err(failed("remove", &conf))?;
            text += &format!("removed {}\n", conf.display());
        }
        Ok(_) => text += &format!("left {}: it has been edited\n", conf.display()),
        Err(_) => {}
    }
    if text.is_empty() {
        text = "nothing of ours is there\n".to_owned();
    }
    write(&text)?;
    Ok(true)
}
