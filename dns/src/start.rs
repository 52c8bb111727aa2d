//! How the program `pontoon-dns` is found and started by the program that needs it.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pontoon_netlink::run_program;

/// Its name.
pub const PROGRAM: &str = "pontoon-dns";
/// For how long its start is waited for, in milliseconds.
const PATIENCE: u16 = 10_000;

/// The first of these folders that has it, as a program.
#[must_use]
pub fn find(folders: &[PathBuf]) -> Option<PathBuf> {
    let runnable = |path: &PathBuf| {
        std::fs::metadata(path)
            .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    let mut paths = folders.iter().map(|folder| folder.join(PROGRAM));
    paths.find(runnable)
}

/// Whether it says of itself that it is built without DNS over TLS. One that says nothing of it is older
/// than that and cannot do it either.
#[must_use]
#[allow(
    clippy::disallowed_methods,
    reason = "what a program was built with is asked of the program, and only for a server over TLS"
)]
pub fn is_without_tls(program: &Path) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").env_clear();
    let output = run_program(command.stderr(Stdio::piped()), b"");
    output.is_ok_and(|output| {
        let text = [output.stdout, output.stderr].concat();
        !String::from_utf8_lossy(&text).contains("with DNS over TLS")
    })
}

/// Starts it for a state directory, and waits until it listens: its port. It stays when the caller
/// ends, and keeps nothing of the caller's.
///
/// # Errors
/// In its own words why it did not start.
#[allow(
    clippy::disallowed_methods,
    reason = "the resolver is started here and nowhere else"
)]
pub fn start(program: &Path, state: &Path) -> Result<u16, String> {
    let mut child = Command::new(program)
        .arg("--detached")
        .arg("--state")
        .arg(state)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let (Some(out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err("it has no standard streams".to_owned());
    };
    let mut wait = [PollFd::new(out.as_fd(), PollFlags::POLLIN)];
    if poll(&mut wait, PollTimeout::from(PATIENCE)) == Ok(0) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("it was not ready within {PATIENCE} ms"));
    }
    let mut line = String::new();
    let _ = BufReader::new(out).read_line(&mut line);
    let port = line.trim().strip_prefix("ready ").map(str::parse);
    if let Some(Ok(port)) = port {
        return Ok(port);
    }
    let mut text = String::new();
    let _ = err.read_to_string(&mut text);
    let _ = child.wait();
    Err(text.trim().to_owned())
}
