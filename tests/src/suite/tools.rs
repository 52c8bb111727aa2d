//! What the tests need beside this repository: Debian's packages, and programs that are only
//! unpacked below `target/tools`.

use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use pontoon_lab::{Failure, Outcome, find, target_dir};

use super::steps::Times;
use crate::build::root;

/// What the tests call, and the Debian package that has it.
const TOOLS: [(&str, &str); 11] = [
    ("xtables-nft-multi", "iptables"),
    ("xtables-legacy-multi", "iptables"),
    ("nft", "nftables"),
    ("xz", "xz-utils"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("sysctl", "procps"),
    ("dig", "bind9-dnsutils"),
    ("busybox", "busybox"),
    ("openssl", "openssl"),
    // For firewalld, which is only unpacked.
    ("python3", "python3"),
];

/// Scripts in `tests/scripts`, and their arguments after the folder that they unpack into. One that
/// finds its work done ends at once.
const SCRIPTS: [(&str, &str, &[&str]); 10] = [
    ("cnitool 1.1.2 and 1.3.0", "cnitool.sh", &[]),
    ("reference plugins 1.1.1", "reference.sh", &["1.1.1"]),
    ("reference plugins 1.9.1", "reference.sh", &["1.9.1"]),
    ("dockerd 20.10", "dockerd.sh", &[]),
    ("firewalld 1.3", "firewalld.sh", &[]),
    ("name servers", "nameservers.sh", &[]),
    ("musl's resolver", "musl.sh", &[]),
    ("podman 4.3", "podman.sh", &[]),
    ("containerd 1.6", "containerd.sh", &[]),
    ("etcd 3.4", "etcd.sh", &[]),
];

/// Programs that are being unpacked.
pub(crate) struct Fetching(JoinHandle<Outcome<Vec<(String, f64)>>>);

/// Starts to unpack, one after the other and beside other work: it is mostly waiting for a mirror.
pub(crate) fn fetch() -> Outcome<Fetching> {
    let tools = target_dir()?.join("tools");
    Ok(Fetching(thread::spawn(move || {
        let mut times = Vec::new();
        for (name, script, arguments) in SCRIPTS {
            let started = Instant::now();
            let output = Command::new("bash")
                .arg(root().join("tests/scripts").join(script))
                .arg(&tools)
                .args(arguments)
                .output()
                .map_err(Failure::act(format!("run {script}")))?;
            if !output.status.success() {
                let words = [output.stdout, output.stderr].concat();
                return Err(Failure::new(format!(
                    "{name}: {}\n{}",
                    output.status,
                    String::from_utf8_lossy(&words)
                )));
            }
            times.push((name.to_owned(), started.elapsed().as_secs_f64()));
        }
        Ok(times)
    })))
}

impl Fetching {
    /// Waits for the last one, and says how long each took.
    pub(crate) fn wait(self) -> Outcome {
        let times = self
            .0
            .join()
            .map_err(|_| Failure::new("the thread that unpacks has panicked"))??;
        for (name, seconds) in times {
            println!("{seconds:>8.1} s  {name}");
        }
        Ok(())
    }
}

/// Installs Debian's packages for tools that are missing.
pub(crate) fn install(times: &mut Times) -> Outcome {
    let mut packages: Vec<&str> = TOOLS
        .iter()
        .filter(|(tool, _)| find(tool).is_none())
        .map(|(_, package)| *package)
        .collect();
    let tools = target_dir()?.join("tools");
    let go = !tools.join("cnitool-1.3.0").exists() && !recent_go();
    if (go || !tools.join("cri/image.tar").exists()) && !has_pip() {
        packages.push("python3-pip");
    }
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let apt = find("apt-get").ok_or_else(|| {
        Failure::new(format!(
            "missing: {}; and no apt-get to install them: use your system's packages",
            packages.join(", ")
        ))
    })?;
    let quiet = |arguments: &[&str]| {
        let mut command = Command::new(&apt);
        command
            .args(["-q", "-o", "DPkg::Lock::Timeout=600"])
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    times.command("apt-get update", &mut quiet(&["update"]))?;
    let mut install = quiet(&["install", "-y", "--no-install-recommends"]);
    times.command(
        &format!("apt-get install {}", packages.join(" ")),
        install.args(&packages),
    )?;
    match TOOLS.iter().find(|(tool, _)| find(tool).is_none()) {
        None => Ok(()),
        Some((tool, package)) => Err(Failure::new(format!(
            "{tool} is missing although {package} is installed"
        ))),
    }
}

/// Go 1.21 or newer, which cnitool 1.3.0 needs.
fn recent_go() -> bool {
    let Ok(output) = Command::new("go").arg("version").output() else {
        return false;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let minor = text.split("go1.").nth(1).and_then(|rest| {
        rest.split(|c: char| !c.is_ascii_digit())
            .next()?
            .parse()
            .ok()
    });
    minor.is_some_and(|minor: u32| minor >= 21)
}

fn has_pip() -> bool {
    Command::new("python3")
        .args(["-m", "pip", "--version"])
        .output()
        .is_ok_and(|output| output.status.success())
}
