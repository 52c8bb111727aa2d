//! `pontoon`: the admin's command. So far `ip-forward`.

mod findings;
mod ip_forward;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "pontoon",
    version,
    about = "Looks after container networks made by Pontoon's CNI plugins"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say whether this host forwards packets between containers and the outside
    IpForward(IpForward),
}

#[derive(Args)]
struct IpForward {
    /// Switch on what is off
    #[arg(long)]
    fix: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::IpForward(options) => ip_forward::run(options.fix, options.json),
    }
}
