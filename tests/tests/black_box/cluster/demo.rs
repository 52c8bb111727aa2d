//! `cargo xtask demo --hosts 3`, as a person runs it: what it shows, and that nothing is left.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use pontoon_lab::{Failure, Outcome, Programs, Scratch, processes_with};

use super::scene::{PATIENCE, wait_for};

fn demo(plugins: &Path, temporary: &Path) -> Outcome<Output> {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["demo", "--hosts", "3"])
        .env("XTASK_PLUGINS", plugins)
        .env("TMPDIR", temporary)
        .output()
        .map_err(Failure::act("run the demo"))
}

/// The folders of state that the demo has told.
fn told(words: &str) -> Vec<String> {
    let paths = words
        .lines()
        .filter_map(|line| line.split_once("state in "));
    paths.map(|(_, path)| path.to_owned()).collect()
}

/// What is left of a demo: files, and processes.
fn left(paths: &[String], temporary: &Path) -> Vec<String> {
    let files = std::fs::read_dir(temporary).into_iter().flatten().flatten();
    let mut left: Vec<String> = files
        .map(|file| file.path().display().to_string())
        .collect();
    left.extend(processes_with(&temporary.display().to_string()));
    for path in paths {
        left.extend(processes_with(path));
        let lasting = path.replace("/run/", "/var/lib/");
        for path in [path, &lasting] {
            if Path::new(path).exists() {
                left.push(path.clone());
            }
        }
    }
    left
}

#[test]
fn the_demo_of_three_hosts_shows_a_host_that_dies_and_leaves_nothing() -> Outcome {
    let temporary = Scratch::new("demo-test")?;
    let output = demo(Programs::built()?.dir(), temporary.path())?;
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    for expected in [
        "app on h2 -> db on h3, TCP: 10.5.",
        "outside client -> published port of h1, TCP: 198.18.60.1:8080 answered",
        "app on h2 -> db on h3, TCP: no answer in time",
        "name db is gone after",
        "h3    dead",
        "name db is back after",
        "Nothing is left",
    ] {
        if !words.contains(expected) {
            return Err(Failure::new(format!(
                "the demo does not say {expected:?}:\n{words}{errors}"
            )));
        }
    }
    let left = left(&told(&words), temporary.path());
    match (output.status.success(), left.is_empty()) {
        (true, true) => Ok(()),
        _ => Err(Failure::new(format!(
            "{}, left: {left:?}\n{words}",
            output.status
        ))),
    }
}

/// A plugin is missing: the demo fails while etcd, agents and a container are there.
#[test]
fn a_demo_that_fails_leaves_nothing() -> Outcome {
    let (temporary, plugins) = (Scratch::new("demo-test")?, Scratch::new("plugins")?);
    let built = Programs::built()?;
    let all = std::fs::read_dir(built.dir()).map_err(Failure::act("list the plugins"))?;
    for program in all.flatten() {
        if program.file_name() != "portmap" {
            let link = plugins.path().join(program.file_name());
            symlink(program.path(), link).map_err(Failure::act("link a plugin"))?;
        }
    }
    let output = demo(plugins.path(), temporary.path())?;
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let paths = told(&words);
    if output.status.success() || !errors.contains("portmap") || paths.len() != 3 {
        return Err(Failure::new(format!("{}: {words}{errors}", output.status)));
    }
    let gone = || Ok(left(&paths, temporary.path()).is_empty().then_some(()));
    wait_for("what a failed demo leaves", PATIENCE, gone)
        .map(drop)
        .map_err(|_| Failure::new(format!("left: {:?}", left(&paths, temporary.path()))))
}
