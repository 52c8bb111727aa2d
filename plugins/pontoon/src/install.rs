//! `pontoon install` and `pontoon uninstall`: the plugins and a sample configuration in place, and
//! whatever was there before kept aside, and put back.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::PossibleValuesParser;
use pontoon_ledger::kinds;
use pontoon_netlink::{Link, RouteSocket};

use crate::facts::Host;
use crate::report::{AS_ROOT, Failure, Outcome, write};

/// The plugins, by the names under which runtimes look for them, the resolver that `dns` starts, and the agent of a
/// host among several.
pub(crate) fn programs() -> impl Iterator<Item = &'static str> {
    let plugins = kinds::KINDS.iter().map(|kind| kind.name);
    let aliases = kinds::ALIASES.iter().map(|(alias, _)| *alias);
    plugins
        .chain(aliases)
        .chain(["pontoon-dns", "pontoon-node"])
}

macro_rules! samples {
    ($($name:literal . $kind:literal),* $(,)?) => {
        /// The networks that can be asked for: name, ending of the file, text.
        const SAMPLES: [(&str, &str, &str); [$($name),*].len()] = [$((
            $name,
            $kind,
            include_str!(concat!("../../../conf/samples/", $name, ".", $kind)),
        )),*];
    };
}

samples![
    "auto-subnet"."conflist",
    "container"."conflist",
    "docker0"."conflist",
    "dual-stack"."conflist",
    "host"."conflist",
    "icc-off"."conflist",
    "internal"."conflist",
    "loopback"."conf",
    "names"."conflist",
    "none"."conflist",
    "point-to-point"."conflist",
    "snat"."conflist",
];
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
    /// Put a network into the folder of configurations too: one of Pontoon's samples
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(SAMPLES.map(|(name, _, _)| name)))]
    sample: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Uninstall {
    #[command(flatten)]
    folders: Folders,
    /// Remove the plugins although containers are attached, which nothing can detach then
    #[arg(long)]
    force: bool,
}

/// What is at the place of a file that is to be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InstalledFile {
    Nothing,
    Ours,
    AnotherVendors,
}

/// Whether a program is one of Pontoon's, by the words in it.
pub(crate) fn is_ours(path: &Path) -> bool {
    // What a plugin says of itself, and the place that the programs beside them look at.
    const MARKS: [&[u8]; 2] = [b"Part of Pontoon", b"/run/pontoon"];
    fs::read(path).is_ok_and(|bytes| {
        let has = |mark: &[u8]| bytes.windows(mark.len()).any(|part| part == mark);
        MARKS.into_iter().any(has)
    })
}

fn there(path: &Path) -> InstalledFile {
    if !path.exists() {
        InstalledFile::Nothing
    } else if is_ours(path) {
        InstalledFile::Ours
    } else {
        InstalledFile::AnotherVendors
    }
}

fn failed(act: &str, path: &Path) -> impl Fn(io::Error) -> Failure {
    let text = format!("cannot {act} {}", path.display());
    move |error| {
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => format!("\n{AS_ROOT}"),
            _ => String::new(),
        };
        Failure::Failed(format!("{text}: {error}{hint}"))
    }
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
    let present: Vec<&str> = programs()
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
        .filter(|name| there(&bin.join(name)) == InstalledFile::AnotherVendors)
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
        if there(&target) == InstalledFile::AnotherVendors {
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
    text += &networks(options)?;
    write(&text)?;
    Ok(true)
}

/// Installs the networks that were asked for. None is installed unasked: a runtime that takes the first
/// configuration of a folder, as containerd does on a Kubernetes node, would put its pods there.
fn networks(options: &Options) -> Result<String, Failure> {
    let conf_dir = &options.folders.conf_dir;
    let docker = docker_is_here()?;
    let mut text = String::new();
    if options.sample.is_empty() {
        text += &format!(
            "no network is installed: --sample NAME puts one into {}, docker0 for example\n",
            conf_dir.display()
        );
        if docker {
            text += "Docker is on this host: its docker0 stays its own, and --sample docker0 gets a bridge and a subnet beside it\n";
        }
    }
    for (name, kind, sample) in SAMPLES {
        if !options.sample.iter().any(|asked| asked == name) {
            continue;
        }
        let conf = conf_dir.join(file_name(name, kind));
        if conf.exists() {
            // It may have been edited: it is the admin's now.
            text += &format!("left {} as it is\n", conf.display());
            continue;
        }
        let beside = beside_docker(sample);
        let adapted = docker && beside != sample;
        let sample = if adapted { &beside } else { sample };
        place(sample.as_bytes(), &conf, 0o644)?;
        text += &format!("installed {}\n", conf.display());
        if adapted {
            text += &format!(
                "Docker is on this host, and bridge docker0 is Docker's: network {name} has bridge {BESIDE}, and a \
                 subnet that no other network has (\"subnet\": \"auto\")\n"
            );
        }
    }
    Ok(text)
}

fn file_name(name: &str, kind: &str) -> String {
    format!("10-{name}.{kind}")
}

/// The bridge that a network gets where docker0 is Docker's.
const BESIDE: &str = "pontoon0";

/// A sample whose bridge is docker0, as it can be used beside Docker; any other as it is.
fn beside_docker(sample: &str) -> String {
    let bridge = "\"bridge\": \"docker0\"";
    if !sample.contains(bridge) {
        return sample.to_owned();
    }
    let local = "\"type\": \"host-local\"";
    sample
        .replace(bridge, &format!("\"bridge\": \"{BESIDE}\""))
        .replace(local, &format!("{local},\n        \"subnet\": \"auto\""))
}

/// Whether Docker is on this host, or will be: its bridge, its socket, or its program.
#[allow(
    clippy::disallowed_methods,
    reason = "a plugin is called with the PATH of the admin"
)]
fn docker_is_here() -> Result<bool, Failure> {
    let bridge = RouteSocket::open()?.link_by_name("docker0")?;
    let theirs = |link: Link| {
        let alias = link.alias.unwrap_or_default();
        link.kind.as_deref() == Some("bridge") && !alias.starts_with("pontoon ")
    };
    if bridge.is_some_and(theirs) {
        return Ok(true);
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let programs = path
        .split(':')
        .filter(|dir| !dir.is_empty())
        .chain(["/usr/bin", "/usr/sbin", "/usr/local/bin"])
        .map(|dir| Path::new(dir).join("dockerd"));
    let sockets = ["/run/docker.sock", "/var/run/docker.sock"].map(PathBuf::from);
    Ok(programs.chain(sockets).any(|path| path.exists()))
}

fn keep_aside(dir: &Path, name: &str) -> Result<(), Failure> {
    let backup = dir.join(BACKUP);
    make_dir(&backup)?;
    let kept = backup.join(name);
    fs::rename(dir.join(name), &kept).map_err(failed("keep aside", &kept))
}

/// A file is there whole or not at all, and a running one is replaced, not written over.
fn place(bytes: &[u8], target: &Path, mode: u32) -> Result<(), Failure> {
    let dir = target.parent().unwrap_or(Path::new("/"));
    make_dir(dir)?;
    let name = target
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let draft = dir.join(format!(".{name}.pontoon"));
    let written = || {
        // One that a kill has left.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(bytes)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        fs::rename(&draft, target)
    };
    written().map_err(failed("write", target))
}

/// Makes a directory that all users may read and only root may write, whatever the umask is.
fn make_dir(dir: &Path) -> Result<(), Failure> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(dir);
    made.map_err(failed("make", dir))
}

pub(crate) fn uninstall(options: &Uninstall) -> Outcome {
    let folders = &options.folders;
    let bin = &folders.bin_dir;
    if !options.force {
        refuse_while_attached(bin)?;
    }
    let mut text = String::new();
    for name in programs() {
        let target = bin.join(name);
        let kept = bin.join(BACKUP).join(name);
        let now = there(&target);
        if now == InstalledFile::Ours {
            fs::remove_file(&target).map_err(failed("remove", &target))?;
            text += &format!("removed {}\n", target.display());
        }
        if kept.exists() {
            if now == InstalledFile::AnotherVendors {
                text += &format!("left {}: it is not ours any more\n", target.display());
                continue;
            }
            fs::rename(&kept, &target).map_err(failed("put back", &target))?;
            text += &format!("put back {}\n", target.display());
        }
    }
    // Fails while something is kept that could not be put back.
    let _ = fs::remove_dir(bin.join(BACKUP));
    for (name, kind, sample) in SAMPLES {
        let conf = folders.conf_dir.join(file_name(name, kind));
        match fs::read_to_string(&conf) {
            Ok(found) if found == sample || found == beside_docker(sample) => {
                fs::remove_file(&conf).map_err(failed("remove", &conf))?;
                text += &format!("removed {}\n", conf.display());
            }
            Ok(_) => text += &format!("left {}: it has been edited\n", conf.display()),
            Err(_) => {}
        }
    }
    if text.is_empty() {
        text = "nothing of Pontoon is there\n".to_owned();
    }
    write(&text)?;
    Ok(true)
}

/// Only the plugins can detach what they have attached.
fn refuse_while_attached(bin: &Path) -> Result<(), Failure> {
    let attached: Vec<String> = Host::look()?
        .attachments()
        .iter()
        .map(|one| {
            let dead = if one.alive {
                ""
            } else {
                ", its namespace is gone"
            };
            format!(
                "{} {} (network {}{dead})",
                one.id, one.interface, one.network
            )
        })
        .collect();
    if attached.is_empty() {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "{} attached, and only the plugins in {} can detach them:\n  {}\nhint: let the runtime detach them \
         (pontoon gc NETWORK --all-dead those whose namespace is gone), or --force leaves them as they are",
        match attached.len() {
            1 => "1 container is".to_owned(),
            count => format!("{count} containers are"),
        },
        bin.display(),
        attached.join("\n  ")
    )))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_sample_beside_docker_keeps_off_its_bridge_and_its_subnet() {
        for (name, _, sample) in SAMPLES {
            let beside: Value = serde_json::from_str(&beside_docker(sample)).expect(name);
            let bridge = &beside["plugins"][0];
            assert_ne!(bridge["bridge"], "docker0", "{name}");
            if name == "docker0" {
                assert_eq!(beside["name"], "docker0");
                assert_eq!(bridge["bridge"], BESIDE);
                assert_eq!(bridge["ipam"]["subnet"], "auto");
            }
        }
    }
}
