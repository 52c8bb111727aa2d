//! Every README is a session: its `sh` blocks are run from top to bottom by one shell on a lab
//! host, and a `text` block below one of them shows what it prints.
//!
//! In a `text` block `…` stands for anything within a line, a line of `…` alone for any lines, and
//! blanks count as one. `text exit 1` says that a command of the block before fails. A README says
//! "after the [Install]" where the plugins have to be in `/opt/cni/bin`; the test puts them there,
//! but for the top README, which does it itself. With `PONTOON_README=write` each `text` block that
//! differs is written anew, as it was printed.

use std::ffi::OsString;
use std::fs;
use std::process::Command;

use super::readmes::{all, read, top, wrong};
use pontoon_lab::{Backend, Failure, Outcome, Screen, Site, find, missing, target_dir};

/// Folders of the machine that the commands write to: empty ones of the test's own lie over them.
const OWN: [&str; 7] = [
    "/etc/cni",
    "/etc/netns",
    "/opt",
    "/run/netns",
    "/usr/local/bin",
    "/var/lib/cni",
    "/var/lib/pontoon",
];

/// Commands that a session leaves out: the suite itself runs them, or is made of them.
const ELSEWHERE: [&str; 3] = ["cargo xtask ", "cargo build ", "cargo test "];

/// Before each line of a session: a mark, so that its output can be told from the next one's.
const MARK: &str = "\u{1}";
/// Printed when a command has failed.
const FAILED: &str = "\u{2}";

/// The tests, and the READMEs that they run.
macro_rules! sessions {
    ($($test:ident: $path:literal,)*) => {
        const RUN: &[&str] = &["README.md", $($path),*];
        $(
            #[test]
            fn $test() -> Outcome {
                session($path, Backend::IptablesNft, "1.3.0")
            }
        )*
    };
}

sessions! {
    bandwidth: "plugins/bandwidth/README.md",
    bridge: "plugins/bridge/README.md",
    container: "plugins/container/README.md",
    dns: "plugins/dns/README.md",
    firewall: "plugins/firewall/README.md",
    host: "plugins/host/README.md",
    host_device: "plugins/host-device/README.md",
    loopback: "plugins/loopback/README.md",
    macvlan: "plugins/macvlan/README.md",
    none: "plugins/none/README.md",
    overlay: "plugins/overlay/README.md",
    pontoon: "plugins/pontoon/README.md",
    ipam: "ipam/README.md",
    conf: "conf/README.md",
    resolver: "dns/README.md",
    plugins: "plugins/README.md",
    tests: "tests/README.md",
    portmap: "plugins/portmap/README.md",
    ptp: "plugins/ptp/README.md",
    sbr: "plugins/sbr/README.md",
    tuning: "plugins/tuning/README.md",
}

/// An `sh` block of a README, and the `text` block that follows it.
#[derive(Debug, Default)]
struct Block {
    commands: String,
    printed: Option<String>,
    fails: bool,
}

/// The blocks of a README in their order.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = text.lines();
    // Only the fence right below a block is its output: headings and other fences end that.
    let mut open = false;
    while let Some(line) = lines.next() {
        if line.starts_with('#') {
            open = false;
        }
        let Some(info) = line.strip_prefix("```") else {
            continue;
        };
        let content: String = lines
            .by_ref()
            .take_while(|line| !line.starts_with("```"))
            .map(|line| format!("{line}\n"))
            .collect();
        match (info, blocks.last_mut()) {
            ("sh", _) => {
                blocks.push(Block {
                    commands: content,
                    ..Block::default()
                });
                open = true;
                continue;
            }
            ("text" | "text exit 1", Some(block)) if open => {
                block.printed = Some(content);
                block.fails = info != "text";
            }
            _ => {}
        }
        open = false;
    }
    blocks
}

/// Whether a line with `…` in it describes another one. Blanks count as one.
fn fits(line: &str, printed: &str) -> bool {
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (line, printed) = (squeeze(line), squeeze(printed));
    let mut parts = line.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        // What ends the line must end the other one too.
        (last, rest) = (Some(part), after);
    }
    match last {
        None => rest.is_empty(),
        Some(part) => rest.is_empty() || part.is_empty() || printed.ends_with(part),
    }
}

/// Whether the lines of a `text` block describe those that were printed.
pub(crate) fn same(shown: &[&str], printed: &[&str]) -> bool {
    match shown.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first.trim() == "…" => {
            (0..=printed.len()).any(|at| same(rest, &printed[at..]))
        }
        Some((first, rest)) => printed
            .split_first()
            .is_some_and(|(line, others)| fits(first, line) && same(rest, others)),
    }
}

fn session(path: &str, backend: Backend, version: &str) -> Outcome {
    for needed in ["ip", "sysctl", "busybox"] {
        find(needed).ok_or_else(|| missing(needed))?;
    }
    let tools = target_dir()?.join("tools");
    let cnitool = tools.join(format!("cnitool-{version}"));
    if !cnitool.is_file() {
        return Err(missing(&format!("cnitool {version}")));
    }
    let text = read(path)?;
    let blocks = blocks(&text);
    if blocks.is_empty() {
        return Err(Failure::new(format!("{path} has lost its commands")));
    }
    let site = Site::new(backend)?;
    let before = site.snapshot()?;
    let built = site.runtime().programs().dir().display().to_string();
    let mut script = format!("exec 2>&1\ntrap 'printf \"{FAILED}%s\\n\" \"$BASH_COMMAND\"' ERR\n");
    if path != "README.md" {
        script.push_str(&format!(
            "mkdir -p /opt/cni/bin /etc/cni/net.d\nln -s {built}/* /opt/cni/bin/\n\
             ln -s {built}/pontoon {} /usr/local/bin/\nmv /usr/local/bin/cnitool-* /usr/local/bin/cnitool\n",
            cnitool.display()
        ));
    }
    for block in &blocks {
        script.push_str(&format!("printf '{MARK}'\n"));
        for line in block.commands.lines() {
            if ELSEWHERE.iter().any(|command| line.starts_with(command)) {
                continue;
            }
            let line = line
                .replace("target/dist", &built)
                .replace("cnitool-1.3.0", &format!("cnitool-{version}"))
                .replace("target/tools", &tools.display().to_string());
            script.push_str(&line);
            script.push('\n');
        }
    }
    let mut path_variable = OsString::from("/usr/local/bin:");
    path_variable.push(site.runtime().path());
    path_variable.push(":/usr/sbin:/usr/bin:/sbin:/bin");
    let mut command = Command::new("/bin/bash");
    command
        .args(["-c", &script])
        .current_dir(top())
        .env("PATH", path_variable)
        .env("LANG", "C.UTF-8");
    let (_, output) = Screen::new(&OWN)?.output(&site.host, &mut command)?;
    let mut wrong = Vec::new();
    let (mut written, mut rest) = (String::new(), text.as_str());
    let mut printed = output.split(MARK);
    let prelude = printed.next().unwrap_or_default();
    if !prelude.is_empty() {
        return Err(Failure::new(format!("{path}: {prelude}")));
    }
    for block in &blocks {
        let told = printed.next().unwrap_or("it was not run");
        let failed: Vec<&str> = told.lines().filter(|line| line.contains(FAILED)).collect();
        let told: String = told
            .lines()
            .filter(|line| !line.starts_with(FAILED))
            .map(|line| format!("{}\n", line.split(FAILED).next().unwrap_or(line)))
            .collect();
        let commands = &block.commands;
        if failed.is_empty() == block.fails {
            let how = if block.fails {
                "does not fail"
            } else {
                "fails"
            };
            wrong.push(format!("{commands}{how}: {failed:?}\n{told}"));
        }
        let Some(shown) = &block.printed else {
            continue;
        };
        let lines: Vec<&str> = told.lines().collect();
        let agrees = same(&shown.lines().collect::<Vec<_>>(), &lines);
        if let Some((head, tail)) = rest.split_once(&format!("\n{shown}```")) {
            let kept = if agrees { shown } else { &told };
            written.push_str(&format!("{head}\n{kept}```"));
            rest = tail;
        }
        if !agrees {
            wrong.push(format!("{commands}prints\n{told}and not\n{shown}"));
        }
    }
    if !wrong.is_empty() {
        if std::env::var_os("PONTOON_README").is_some_and(|word| word == "write") {
            written.push_str(rest);
            fs::write(top().join(path), written).map_err(Failure::act("write a README"))?;
        }
        return Err(Failure::new(format!("{path}: {}", wrong.join("\n"))));
    }
    // Forwarding stays on, as the first network of a host has left it; rules of a network and the
    // resolver go a second after the last container.
    let act = format!("the commands of {path}");
    before
        .without("sysctls")
        .settles(|| Ok(site.snapshot()?.without("sysctls")), &act)
}

#[test]
fn a_person_begins_with_the_top_readme_alone() -> Outcome {
    // The one of Debian 12's own source, whose libcni knows 1.0.0 at most, and the newest.
    for version in ["1.1.2", "1.3.0"] {
        for backend in Backend::ALL {
            session("README.md", backend, version)
                .map_err(|error| Failure::new(format!("cnitool {version}, {backend}: {error}")))?;
        }
    }
    Ok(())
}

#[test]
fn every_readme_with_commands_is_run() -> Outcome {
    let mut lines = Vec::new();
    for name in all()? {
        let text = read(&name)?;
        let mut within = false;
        for (number, line) in text.lines().enumerate() {
            let Some(info) = line.strip_prefix("```") else {
                continue;
            };
            within = !within;
            // Commands behind another word would be run by no test.
            let known = ["sh", "text", "text exit 1", "json", "rust", "toml"];
            if within && !known.contains(&info) {
                lines.push(format!("{name}:{}: a block of \"{info}\"", number + 1));
            }
        }
        if !blocks(&text).is_empty() && !RUN.contains(&name.as_str()) {
            lines.push(format!("{name}: its commands are run by no test"));
        }
    }
    wrong(&lines)
}

#[test]
fn a_shown_line_stands_for_what_is_printed() {
    for (shown, printed, expected) in [
        ("a  b", "a b", true),
        ("a", "a b", false),
        ("a …", "a b c", true),
        ("… c", "a b c", true),
        ("a … d", "a b c", false),
        ("a … c", "a c c", true),
        ("… ms", "3 ms later", false),
    ] {
        assert_eq!(fits(shown, printed), expected, "{shown} and {printed}");
    }
    assert!(same(&["a", "…", "d"], &["a", "b", "c", "d"]));
    assert!(!same(&["a", "…", "d"], &["a", "b", "c"]));
}
