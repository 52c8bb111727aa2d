//! A person's first five minutes, from README alone: every command of its sections "Install" and
//! "The first five minutes" is run, in this order, on a lab host, and what they print is what they
//! promise.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use pontoon_lab::{Backend, Failure, Outcome, Screen, Site, find, missing, target_dir};

/// Folders of the machine that the commands write to: empty ones of the test's own lie over them.
const OWN: [&str; 5] = [
    "/etc/cni",
    "/opt",
    "/run/netns",
    "/usr/local/bin",
    "/var/lib/cni",
];

/// The commands in code blocks of README's sections of these names.
fn commands(sections: &[&str]) -> Outcome<Vec<String>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = fs::read_to_string(file).map_err(Failure::act("read README"))?;
    let mut commands = Vec::new();
    let (mut within, mut code) = (false, false);
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            within = sections.contains(&heading);
        } else if within && line.starts_with("```") {
            code = !code;
        } else if within && code && !line.is_empty() {
            commands.push(line.to_owned());
        }
    }
    Ok(commands)
}

#[test]
fn every_command_of_the_first_five_minutes() -> Outcome {
    for needed in ["ip", "sysctl"] {
        find(needed).ok_or_else(|| missing(needed))?;
    }
    // The one of Debian 12's own source, whose libcni knows 1.0.0 at most, and the newest.
    for version in ["1.1.2", "1.3.0"] {
        let tools = target_dir()?.join("tools");
        if !tools.join(format!("cnitool-{version}")).is_file() {
            return Err(missing(&format!("cnitool {version}")));
        }
        for backend in Backend::ALL {
            let told = |error| Failure::new(format!("cnitool {version}, {backend}: {error}"));
            run(backend, &tools, version).map_err(told)?;
        }
    }
    Ok(())
}

fn run(backend: Backend, tools: &Path, version: &str) -> Outcome {
    let site = Site::new(backend)?;
    let before = site.snapshot()?;
    let tools = tools.display().to_string();
    let built = site.runtime().programs().dir().display().to_string();
    // What was built in a minute or two is there already; each line is told before it is run.
    let lines: Vec<String> = commands(&["Install", "The first five minutes"])?
        .into_iter()
        .filter(|line| line != "cargo xtask dist")
        .map(|line| line.replace("target/dist", &built))
        .map(|line| line.replace("cnitool-1.3.0", &format!("cnitool-{version}")))
        .map(|line| line.replace("target/tools", &tools))
        .collect();
    if lines.len() < 15 {
        return Err(Failure::new(format!("README has lost commands: {lines:?}")));
    }
    let mut path = OsString::from("/usr/local/bin:");
    path.push(site.admins_path());
    let script = lines
        .iter()
        .map(|line| format!("echo '$ {}'\n{line}\n", line.replace('\'', "'\\''")))
        .collect::<String>();
    let mut command = Command::new("/bin/sh");
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    command
        .args(["-ec", &script])
        .current_dir(top)
        .env("PATH", path);
    let (done, text) = Screen::new(&OWN)?.output(&site.host, &mut command)?;
    if !done {
        return Err(Failure::new(text));
    }
    for (command, words) in [
        ("pontoon ls", "172.17.0.2/16"),
        ("pontoon ports", "8080"),
        ("pontoon leases docker0", "172.17.0.2"),
        ("pontoon graph", "docker0"),
        (
            "pontoon trace outside host:8080 || true",
            "verdict: arrives",
        ),
        (
            "pontoon trace outside host:8080 || true",
            "nobody listens on 80/tcp",
        ),
        (
            "pontoon trace host 127.0.0.1:8080 --live || true",
            "as predicted",
        ),
        ("pontoon ip-forward || true", "net.ipv4.ip_forward"),
        ("pontoon doctor || pontoon doctor --fix", "forwarding-off"),
        ("pontoon doctor", "no findings"),
    ] {
        let told = text.split(&format!("$ {command}\n")).nth(1);
        let told = told.and_then(|told| told.split("\n$ ").next());
        if !told.is_some_and(|told| told.contains(words)) {
            return Err(Failure::new(format!("{command}: no {words}\n{text}")));
        }
    }
    // Forwarding stays on, as the first network of a host has left it.
    let after = site.snapshot()?.without("sysctls");
    before
        .without("sysctls")
        .same_as(&after, "README's commands")
}
