//! What the plugins write belongs to root alone, whatever umask the runtime has, but for the files that a
//! container reads; a state directory of others is refused; nothing is left after the last DEL.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use pontoon_lab::{
    Attachment, Backend, Container, Failure, Outcome, Programs, Runtime, Scratch, Site,
};
use serde_json::json;

/// The programs, each called by a shell that does `first` before.
fn wrapped(programs: &Programs, first: &str) -> Outcome<Scratch> {
    let dir = Scratch::new("wrapped")?;
    let entries = fs::read_dir(programs.dir()).map_err(Failure::act("list the programs"))?;
    for entry in entries.flatten() {
        let real = entry.path();
        let executable = |file: fs::Metadata| file.is_file() && file.mode() & 0o100 != 0;
        if !fs::metadata(&real).is_ok_and(executable) {
            continue;
        }
        let path = dir.path().join(entry.file_name());
        let script = format!("#!/bin/sh\n{first}\nexec {} \"$@\"\n", real.display());
        fs::write(&path, script).map_err(Failure::act("write a wrapper"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .map_err(Failure::act("make a wrapper executable"))?;
    }
    Ok(dir)
}

/// Everything below a directory, and the directory.
fn walk(path: &Path, found: &mut Vec<PathBuf>) -> Outcome {
    found.push(path.to_owned());
    if fs::symlink_metadata(path).is_ok_and(|there| there.is_dir()) {
        for entry in fs::read_dir(path).map_err(Failure::act("list the state"))? {
            let entry = entry.map_err(Failure::act("list the state"))?;
            walk(&entry.path(), found)?;
        }
    }
    Ok(())
}

/// What of the state others than root may list, read or write, and should not.
fn open_to_others(state: &Path) -> Outcome<Vec<String>> {
    let mut paths = Vec::new();
    walk(state, &mut paths)?;
    let mut wrong = Vec::new();
    for path in paths {
        let there = fs::symlink_metadata(&path).map_err(Failure::act("look at the state"))?;
        if there.is_symlink() {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let in_containers = path.starts_with(state.join("containers"));
        let mode = there.mode() & 0o777;
        let right = match () {
            () if in_containers && (name == "resolv.conf" || name == "hosts") => mode == 0o644,
            () if path == *state || in_containers && there.is_dir() => mode & !0o711 == 0,
            () => mode & 0o077 == 0,
        };
        if !right {
            wrong.push(format!("{mode:04o} {}", path.display()));
        }
    }
    Ok(wrong)
}

fn modes_with(umask: &str, backend: Backend) -> Outcome {
    let site = Site::new(backend)?;
    fs::write(
        site.leases.path().join("resolv.conf"),
        "nameserver 192.0.2.53\n",
    )
    .map_err(Failure::act("write a resolv.conf"))?;
    let mut list = site.named_network("modes", 86, json!({})).list().clone();
    if let Some(plugins) = list["plugins"].as_array_mut() {
        plugins.push(json!({
            "type": "firewall", "backend": backend.key(), "icc": false,
            "capabilities": { "links": true },
        }));
        plugins.push(json!({ "type": "tuning", "mtu": 1400 }));
    }
    let network = pontoon_lab::Network::from_list(list);
    let wrappers = wrapped(site.runtime().programs(), &format!("umask {umask}"))?;
    let programs = Programs::at(wrappers.path())?;
    let mut path = site.admins_path();
    path.push(":/usr/sbin:/usr/bin:/sbin:/bin");
    let runtime = Runtime::new(&site.host, &programs, path);
    let container = Container::new("modes")?;
    let mut attachment = Attachment::new(&container)
        .publish("", 8080, 80, "tcp")
        .publish("127.0.0.2", 8081, 80, "tcp")
        .named("modes");
    runtime.add(&network, &mut attachment)?;
    let state = site.host.state_dir();
    let wrong = open_to_others(&state)?;
    let files = state.join("containers").join(&container.id);
    let readable = ["resolv.conf", "hosts"].map(|file| files.join(file).is_file());
    runtime.del(&network, &attachment)?;
    if !wrong.is_empty() || readable != [true, true] {
        return Err(Failure::new(format!(
            "with umask {umask} on {backend}, files of containers {readable:?}, others may use:\n{}",
            wrong.join("\n")
        )));
    }
    site.state_is_gone(&format!(
        "with umask {umask} on {backend}, after the last DEL"
    ))
}

#[test]
fn only_root_reads_the_state_whatever_the_umask() -> Outcome {
    for backend in [Backend::Nftables, Backend::IptablesNft] {
        for umask in ["000", "022", "077"] {
            modes_with(umask, backend)?;
        }
    }
    Ok(())
}

#[test]
fn a_state_directory_of_others_is_refused_by_name() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = site.network("foreign", "foreign0", &["10.87.0.0/24"]);
    for (planted, words) in [
        ("mkdir -m 0777 /run/pontoon", "may be written by others"),
        ("mkdir -m 0770 /run/pontoon", "may be written by others"),
        (
            "mkdir -m 0755 /run/pontoon && chown 65534 /run/pontoon",
            "belongs to user 65534",
        ),
    ] {
        // In mounts of its own, so that the tests beside this one keep their state.
        let first = format!(
            "if [ -z \"$PLANTED\" ]; then PLANTED=1 exec unshare --mount \"$0\" \"$@\"; fi\n\
             mount -t tmpfs none /run && {planted}"
        );
        let wrappers = wrapped(site.runtime().programs(), &first)?;
        let programs = Programs::at(wrappers.path())?;
        let mut path = site.admins_path();
        path.push(":/usr/sbin:/usr/bin:/sbin:/bin");
        let runtime = Runtime::new(&site.host, &programs, path);
        let container = Container::new("foreign")?;
        let mut attachment = Attachment::by_path(&container.id, "/proc/1/ns/net".to_owned());
        match runtime.add(&network, &mut attachment) {
            Ok(_) => return Err(Failure::new(format!("{planted}: the ADD succeeded"))),
            Err(error) => {
                let text = error.to_string();
                if !text.contains("/run/pontoon") || !text.contains(words) {
                    return Err(Failure::new(format!("{planted}: {text}")));
                }
            }
        }
    }
    Ok(())
}
