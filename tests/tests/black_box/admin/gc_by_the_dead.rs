//! GC takes what is dead at the moment of removal, and asks the kernel whether it is: an ADD that comes
//! meanwhile, or a namespace that is mounted elsewhere, is not garbage.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pontoon_lab::{
    Attachment, Backend, Container, Failure, Network, Outcome, Programs, Runtime, Scratch, Site,
};

/// How many containers come while garbage is collected.
const COMING: usize = 40;

fn yard(site: &Site, conf: &Scratch) -> Outcome<Network> {
    let network = site.network("yard", "yard0", &["10.81.0.0/24"]);
    fs::write(
        conf.path().join("10-yard.conflist"),
        network.list().to_string(),
    )
    .map_err(Failure::act("write the conflist"))?;
    Ok(network)
}

fn gc_arguments(site: &Site, conf: &Scratch) -> Vec<String> {
    let bin = site.runtime().programs().dir().display().to_string();
    let conf = conf.path().display().to_string();
    [
        "gc",
        "yard",
        "--all-dead",
        "--conf-dir",
        &conf,
        "--bin-dir",
        &bin,
    ]
    .map(str::to_owned)
    .to_vec()
}

#[test]
fn containers_that_come_during_gc_stay_attached() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let conf = Scratch::new("conf")?;
    let network = yard(&site, &conf)?;
    let arguments = gc_arguments(&site, &conf);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = AtomicBool::new(false);
    let mut attached = Vec::new();
    let collections = thread::scope(|scope| -> Outcome<usize> {
        let collector = scope.spawn(|| -> Outcome<usize> {
            let mut collections = 0;
            while !done.load(Ordering::Relaxed) {
                site.pontoon_ends(&arguments, 0)?;
                collections += 1;
            }
            Ok(collections)
        });
        let mut joined = Ok(());
        for number in 0..COMING {
            match site.join(&format!("coming{number}"), &network) {
                Ok(one) => attached.push(one),
                Err(error) => {
                    joined = Err(error);
                    break;
                }
            }
        }
        done.store(true, Ordering::Relaxed);
        let collections = collector
            .join()
            .unwrap_or_else(|_| Err(Failure::new("the collector panicked")));
        joined.and(collections)
    })?;
    if collections < 3 {
        return Err(Failure::new(format!(
            "only {collections} collections ran beside {COMING} ADDs"
        )));
    }
    let mut addresses: Vec<_> = attached
        .iter()
        .filter_map(|(_, one)| one.address(false))
        .collect();
    addresses.sort();
    addresses.dedup();
    if addresses.len() != COMING {
        return Err(Failure::new(format!(
            "{COMING} containers have {} addresses",
            addresses.len()
        )));
    }
    for (_, attachment) in &attached {
        site.runtime().check(&network, attachment)?;
        site.runtime().del(&network, attachment)?;
    }
    Ok(())
}

/// Programs of the same names that see an empty /run/netns, as a runtime does that has mounts of its own.
fn elsewhere(programs: &Programs) -> Outcome<Scratch> {
    let dir = Scratch::new("elsewhere")?;
    let entries = fs::read_dir(programs.dir()).map_err(Failure::act("list the programs"))?;
    for entry in entries.flatten() {
        let real = entry.path();
        let executable = |file: fs::Metadata| file.is_file() && file.mode() & 0o100 != 0;
        if !fs::metadata(&real).is_ok_and(executable) {
            continue;
        }
        let path = dir.path().join(entry.file_name());
        let script = format!(
            "#!/bin/sh\nexec unshare --mount sh -c 'mount -t tmpfs none /run/netns && exec \"$0\"' {}\n",
            real.display()
        );
        fs::write(&path, script).map_err(Failure::act("write a wrapper"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .map_err(Failure::act("make a wrapper executable"))?;
    }
    Ok(dir)
}

#[test]
fn a_namespace_that_is_mounted_elsewhere_is_alive() -> Outcome {
    for backend in [Backend::Nftables, Backend::IptablesNft] {
        let site = Site::new(backend)?;
        let conf = Scratch::new("conf")?;
        let network = yard(&site, &conf)?;
        let container = Container::new("elsewhere")?;
        let mut attachment = Attachment::new(&container).publish("", 8080, 80, "tcp");
        site.runtime().add(&network, &mut attachment)?;
        let wrappers = elsewhere(site.runtime().programs())?;
        let mut path = site.admins_path();
        path.push(":/usr/sbin:/usr/bin:/sbin:/bin");
        let hidden = Programs::at(wrappers.path())?;
        let runtime = Runtime::new(&site.host, &hidden, path);
        // GC without a list, by plugins that do not see the path.
        let mut arguments = gc_arguments(&site, &conf);
        if let Some(bin) = arguments.last_mut() {
            *bin = wrappers.path().display().to_string();
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        site.pontoon_ends(&arguments, 0)?;
        site.runtime().check(&network, &attachment)?;
        // Another container, whose namespace has a path that is seen everywhere, wants the port.
        let other = Container::new("other")?;
        let mut process = other
            .run(|| {
                Command::new("sleep")
                    .arg("60")
                    .stdout(Stdio::null())
                    .spawn()
            })?
            .map_err(Failure::act("start a process"))?;
        let seen = format!("/proc/{}/ns/net", process.id());
        let mut wants = Attachment::by_path(&other.id, seen).publish("", 8080, 80, "tcp");
        let added = runtime.add(&network, &mut wants);
        let _ = runtime.del(&network, &wants);
        let _ = process.kill();
        let _ = process.wait();
        match added {
            Ok(_) => {
                return Err(Failure::new(format!(
                    "{backend:?}: the port of a living container was taken away"
                )));
            }
            Err(error) if error.to_string().contains("8080") => {}
            Err(error) => return Err(error.into()),
        }
        site.runtime().check(&network, &attachment)?;
        site.runtime().del(&network, &attachment)?;
        if Path::new(&site.host.state_dir()).join("yard").exists() {
            return Err(Failure::new("state of the network is left"));
        }
    }
    Ok(())
}
