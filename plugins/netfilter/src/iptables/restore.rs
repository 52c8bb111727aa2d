//! Running the programs: `iptables-restore` to write, `iptables -S` to read.
//!
//! The `iptables` crate reads the same in the tests, as a second opinion. It is not in the plugins: it
//! starts the program of a fixed name (`iptables::new` takes no path, so the variant cannot be chosen),
//! waits for the xtables lock without a limit, and brings `regex`, 1.4 MB in every plugin.

use std::io::{self, ErrorKind};
use std::mem;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pontoon_netlink::{EndedProgram, run_program};
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::listing::Listing;
use super::text::Table;
use crate::nft::generation;

/// How long a program may wait for the lock that all users of xtables share.
const WAIT_SECONDS: u32 = 5;
/// `RESOURCE_PROBLEM` in iptables' own exit codes: the legacy variant ends with it when the lock
/// stays taken.
const EXIT_RESOURCE: i32 = 4;

/// The two kinds of iptables. Rules of one are invisible to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// Writes to nf_tables.
    Nft,
    /// Writes to the old xtables.
    Legacy,
}

impl Variant {
    /// What distributions put into the names of the programs of one variant.
    pub(super) fn infix(self) -> &'static str {
        match self {
            Self::Nft => "-nft",
            Self::Legacy => "-legacy",
        }
    }
}

/// The programs of one family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Programs {
    /// `iptables-restore` or `ip6tables-restore` of one variant.
    pub restore: PathBuf,
    /// `iptables` or `ip6tables` of the same variant, for reading.
    pub list: PathBuf,
}

impl Programs {
    /// Feeds `script` to one restore run. `act` says for whom and what, for the error.
    pub(super) fn restore(&self, variant: Variant, script: &str, act: &str) -> Result<(), Error> {
        let program = &self.restore;
        let wait = format!("--wait={WAIT_SECONDS}");
        let feed = || run(program, &["--noflush", &wait], script);
        let before = (variant == Variant::Nft).then(generation).flatten();
        let mut output = feed()?;
        if output.status.success() && before.is_some() && before == generation() {
            // It says success also when a message of the kernel is lost before it has sent anything. If it has
            // nothing to change, doing that twice does no harm.
            output = feed()?;
        }
        if output.status.success() {
            return Ok(());
        }
        // With nftables underneath there is no lock, and 4 is any refusal of the kernel.
        if variant == Variant::Legacy && output.status.code() == Some(EXIT_RESOURCE) {
            return Err(Error::Busy {
                program: program.clone(),
                seconds: WAIT_SECONDS,
            });
        }
        Err(refused(program, act, &output))
    }

    /// Reads one table.
    pub(super) fn read(&self, variant: Variant, table: Table) -> Result<Listing, Error> {
        let program = &self.list;
        let wait = format!("--wait={WAIT_SECONDS}");
        let output = run(program, &["-t", table.name(), "-S", &wait], "")?;
        if output.status.success() {
            return Ok(Listing::parse(&String::from_utf8_lossy(&output.stdout)));
        }
        if variant == Variant::Legacy && output.status.code() == Some(EXIT_RESOURCE) {
            return Err(Error::Busy {
                program: program.clone(),
                seconds: WAIT_SECONDS,
            });
        }
        Err(refused(
            program,
            &format!("list table {}", table.name()),
            &output,
        ))
    }
}

/// What `program --version` prints.
pub(super) fn version(program: &Path) -> Result<String, Error> {
    let output = run(program, &["--version"], "")?;
    if !output.status.success() {
        return Err(refused(program, "tell its version", &output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[allow(
    clippy::disallowed_methods,
    reason = "the one place where this crate starts a program"
)]
fn run(program: &Path, arguments: &[&str], input: &str) -> Result<EndedProgram, Error> {
    let mut command = Command::new(program);
    command.args(arguments).stderr(Stdio::piped());
    let talk = |source: io::Error| Error::Talk {
        program: program.to_owned(),
        source,
    };
    let mut ended = run_program(&mut command, input.as_bytes()).map_err(|source| {
        let program = program.to_owned();
        match source.kind() {
            ErrorKind::NotFound | ErrorKind::PermissionDenied => Error::Start { program, source },
            _ => talk(source),
        }
    })?;
    match mem::replace(&mut ended.fed, Ok(())) {
        Err(source) if ended.status.success() => Err(talk(source)),
        _ => Ok(ended),
    }
}

fn refused(program: &Path, act: &str, output: &EndedProgram) -> Error {
    let stderr = String::from_utf8_lossy(&output.stderr);
    // The last line only points at the manual.
    let words: Vec<&str> = stderr
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with("Try `"))
        .collect();
    Error::Refused {
        program: program.to_owned(),
        act: act.to_owned(),
        status: output.status.to_string(),
        stderr: words.join("; "),
    }
}
