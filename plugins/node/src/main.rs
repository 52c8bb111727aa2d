//! `pontoon-node`: the agent of a host among several, and the admin's commands about networks and hosts that need
//! etcd.
//!
//! The agent claims blocks of networks in etcd, tells of this host there, writes what it knows of networks and peers
//! to files, which the plugin `overlay` reads on ADD, and keeps the kernel's tunnels as the files say. No plugin talks
//! to etcd, and none waits for the agent.
//!
//! | what | where | has |
//! | --- | --- | --- |
//! | decides | [`claims`], [`choose`], [`plan`], [`cluster`], [`services`], `admin::judge` | neither socket nor file |
//! | talks to etcd | [`session`], [`etcd`], [`admin`] | |
//! | looks at this host | [`local`], [`deletions`], [`usage`], [`conflists`], [`underlay`], [`names`], [`balance`] | |
//! | answers | [`control`], [`status`], [`check`], [`certificate`] | |
//!
//! Exit codes: 0 all is well; 1 something was found, or failed; 2 wrong usage; 3 there is nothing of that name.

mod admin;
mod agent;
mod balance;
mod certificate;
mod check;
mod choose;
mod claims;
mod cli;
mod cluster;
mod conflists;
mod control;
mod deletions;
mod etcd;
mod key;
mod local;
mod names;
mod plan;
mod records_watch;
mod say;
mod services;
mod session;
mod settings;
mod shared;
mod status;
mod underlay;
mod usage;
mod value;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use say::say;
use settings::Settings;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let settings = || Settings::read(&cli.config);
    let answer = match cli.command {
        Some(Command::Status { json, metrics }) => return admin::status(json, metrics),
        None => settings().map(|settings| agent::run(settings, cli.once)),
        Some(Command::Network(ref command)) => {
            settings().map(|settings| admin::network(&settings, command))
        }
        Some(Command::Nodes(ref shape)) => {
            settings().map(|settings| admin::nodes(&settings, shape))
        }
        Some(Command::Services(ref shape)) => {
            settings().map(|settings| admin::services(&settings, shape))
        }
        Some(Command::Node(ref command)) => {
            settings().map(|settings| admin::node(&settings, command))
        }
    };
    answer.unwrap_or_else(|error| {
        say!("{error}");
        ExitCode::FAILURE
    })
}
