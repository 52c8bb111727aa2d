//! `cargo xtask test`: what a change must pass.

use std::process::Command;
use std::time::Instant;

use pontoon_lab::{Failure, Outcome, find, target_dir};

use crate::build::{self, cargo, must, root};
use crate::{demo, require_privileges};

/// Tests that are run with the release binaries too, which have no fault points: the main paths.
const RELEASED: [&str; 8] = [
    "admin::commands",
    "admin::changes",
    "doctor::cures",
    "names::basic",
    "names::forward",
    "house::readme_commands",
    "ports::matrix",
    "trace::matrix",
];

/// What the tests call, and the Debian package that has it.
const TOOLS: [(&str, &str); 10] = [
    ("xtables-nft-multi", "iptables"),
    ("xtables-legacy-multi", "iptables"),
    ("nft", "nftables"),
    ("xz", "xz-utils"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("sysctl", "procps"),
    ("dig", "bind9-dnsutils"),
    ("busybox", "busybox"),
    // For firewalld, which is only unpacked.
    ("python3", "python3"),
];

pub(crate) fn run(filter: Option<&str>) -> Outcome {
    require_privileges()?;
    install()?;
    let tools = target_dir()?.join("tools");
    step(
        "cnitool 1.1.2 and 1.3.0",
        Command::new("bash")
            .arg(root().join("tests/scripts/cnitool.sh"))
            .arg(&tools),
    )?;
    for version in ["1.1.1", "1.9.1"] {
        step(
            &format!("reference plugins {version}"),
            Command::new("bash")
                .arg(root().join("tests/scripts/reference.sh"))
                .arg(&tools)
                .arg(version)
                .stdout(std::process::Stdio::null()),
        )?;
    }
    for (name, script) in [
        ("dockerd 20.10", "tests/scripts/dockerd.sh"),
        ("firewalld 1.3", "tests/scripts/firewalld.sh"),
        ("name servers", "tests/scripts/nameservers.sh"),
        ("musl's resolver", "tests/scripts/musl.sh"),
        ("podman 4.3", "tests/scripts/podman.sh"),
        ("containerd 1.6", "tests/scripts/containerd.sh"),
    ] {
        step(
            name,
            Command::new("bash")
                .arg(root().join(script))
                .arg(&tools)
                .stdout(std::process::Stdio::null()),
        )?;
    }
    if filter.is_none() {
        step(
            "cargo fmt --check",
            &mut cargo(&["fmt", "--all", "--check"]),
        )?;
        let clippy = [
            "clippy",
            "--quiet",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ];
        step("cargo clippy", &mut cargo(&clippy))?;
    }
    step(
        "cargo build (the binaries under test)",
        &mut cargo(&["build", "--quiet", "--locked", "--workspace", "--bins"]),
    )?;
    let mut test = cargo(&["test", "--locked", "--workspace", "--no-fail-fast"]);
    test.args(filter);
    step("cargo test", &mut test)?;
    if filter.is_none() {
        println!("== demo");
        demo::run()?;
        // What is installed is linked otherwise: another C library, no debugging.
        let built = build::dist()?;
        let mut released = cargo(&["test", "--locked", "--package", "xtask"]);
        released.args(["--test", "black_box", "--"]).args(RELEASED);
        released.env("XTASK_PLUGINS", built.dir);
        step(
            "a part of the tests with the release binaries",
            &mut released,
        )?;
    }
    println!("\nall passed");
    Ok(())
}

/// Announces a step, runs it, and says how long it took.
fn step(name: &str, command: &mut Command) -> Outcome {
    println!("== {name}");
    let started = Instant::now();
    must(command, name)?;
    println!(
        "== {name}: passed in {:.1} s",
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Installs Debian's packages for tools that are missing.
fn install() -> Outcome {
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
    step("apt-get update", &mut quiet(&["update"]))?;
    let mut install = quiet(&["install", "-y", "--no-install-recommends"]);
    step(
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
