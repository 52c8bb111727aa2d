//! A person's first five minutes, from README alone: every command of its sections "Install" and
//! "The first five minutes" is run, in this order, on a lab host, and what they print is what they
//! promise.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use xtask::{Backend, Failure, Outcome, Scratch, Screen, Site, find, missing, target_dir};

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
    let tool = target_dir()?.join("tools/cnitool-1.3.0");
    if !tool.is_file() {
        return Err(missing("cnitool 1.3.0"));
    }
    for needed in ["ip", "sysctl"] {
        find(needed).ok_or_else(|| missing(needed))?;
    }
    Backend::ALL.into_iter().try_for_each(|backend| {
        run(backend, &tool).map_err(|error| Failure::new(format!("{backend}: {error}")))
    })
}

fn run(backend: Backend, tool: &Path) -> Outcome {
    let site = Site::new(backend)?;
    let before = site.snapshot()?;
    let programs = Scratch::new("programs")?;
    symlink(tool, programs.path().join("cnitool")).map_err(Failure::act("link cnitool"))?;
    let built = site.runtime().programs().dir().display().to_string();
    // What was built in a minute or two is there already; each line is told before it is run.
    let lines: Vec<String> = commands(&["Install", "The first five minutes"])?
        .into_iter()
        .filter(|line| line != "cargo xtask dist")
        .map(|line| line.replace("target/dist", &built))
        .collect();
    if lines.len() < 15 {
        return Err(Failure::new(format!("README has lost commands: {lines:?}")));
    }
    let mut path = programs.path().as_os_str().to_owned();
    path.push(":/usr/local/bin:");
    path.push(site.admins_path());
    let script = lines
        .iter()
        .map(|line| format!("echo '$ {}'\n{line}\n", line.replace('\'', "'\\''")))
        .collect::<String>();
    let mut command = Command::new("/bin/sh");
    command.args(["-ec", &script]).env("PATH", path);
    let (done, text) = Screen::new(&OWN)?.output(&site.host, &mut command)?;
    if !done {
        return Err(Failure::new(text));
    }
    for (command, words) in [
        ("pontoon ls", "172.17.0.2/16"),
        ("pontoon ports", "8080"),
        ("pontoon leases docker0", "172.17.0.2"),
        ("pontoon graph", "docker0"),
        ("pontoon trace outside host:8080", "verdict: arrives"),
        ("pontoon trace host 127.0.0.1:8080 --live", "as predicted"),
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
