//! `pontoon network`, `nodes`, `node`, `services`: networks of several hosts, the hosts, and services. They need etcd, which no program but
//! `pontoon-node` is linked with: it takes over.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::report::{Failure, Outcome};

const PROGRAM: &str = "pontoon-node";
/// Where `pontoon install` puts programs.
const INSTALLED: &str = "/opt/cni/bin";

/// What `pontoon-node` is given as it stands.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Words {
    /// See `pontoon-node COMMAND --help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// Becomes `pontoon-node`; returns only when it cannot.
#[allow(
    clippy::disallowed_methods,
    reason = "the program that is linked with etcd's client takes over"
)]
pub(crate) fn hand_over(command: &str, words: &Words) -> Outcome {
    let places = places();
    let Some(program) = places.iter().find(|path| path.is_file()) else {
        let places: Vec<String> = places
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        return Err(Failure::Failed(format!(
            "there is no program {PROGRAM} at {}\nhint: pontoon install puts it there",
            places.join(", ")
        )));
    };
    let error = Command::new(program).arg(command).args(&words.words).exec();
    Err(Failure::Failed(format!(
        "cannot run {}: {error}",
        program.display()
    )))
}

/// The agent's program, for a command that a person can type.
pub(crate) fn program() -> String {
    let found = places().into_iter().find(|path| path.is_file());
    found.map_or(PROGRAM.to_owned(), |path| path.display().to_string())
}

/// Beside this program, and where programs are installed.
fn places() -> Vec<PathBuf> {
    let own = std::env::current_exe().ok();
    let beside = own.and_then(|path| Some(path.parent()?.join(PROGRAM)));
    beside
        .into_iter()
        .chain([Path::new(INSTALLED).join(PROGRAM)])
        .collect()
}
