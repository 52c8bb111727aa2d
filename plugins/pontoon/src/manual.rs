//! `pontoon completions` and `pontoon man`: made of the definitions of the command line, which come in.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

use crate::report::{Failure, Outcome, write};

#[derive(Args)]
pub(crate) struct Shells {
    /// The shell
    #[arg(value_parser = ["bash", "zsh", "fish"])]
    shell: String,
}

#[derive(Args)]
pub(crate) struct Folder {
    /// Where to put them, such as /usr/local/share/man/man1
    dir: PathBuf,
}

pub(crate) fn completions(options: &Shells, mut command: Command) -> ExitCode {
    let shell = match options.shell.as_str() {
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        _ => Shell::Bash,
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "pontoon", &mut text);
    crate::report::finish(write(&String::from_utf8_lossy(&text)).map(|()| true))
}

pub(crate) fn pages(options: &Folder, command: Command) -> Outcome {
    let failed = |error: std::io::Error| {
        Failure::Failed(format!(
            "cannot write man pages into {}: {error}\nhint: make the folder first",
            options.dir.display()
        ))
    };
    clap_mangen::generate_to(command, &options.dir).map_err(failed)?;
    Ok(true)
}
