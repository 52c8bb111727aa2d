//! `pontoon`: the admin's command. It reads the kernel and the state directory, and asks no daemon to
//! be alive. One module per subcommand: its options, and `run`.
//!
//! Exit codes: 0 all is well; 1 something was found, or failed; 2 wrong usage; 3 there is nothing of
//! that name.

mod cli;
mod conflist;
mod dns;
mod doctor;
mod facts;
mod findings;
mod gc;
mod graph;
mod inspect;
mod install;
mod ip_forward;
mod leases;
mod linked;
mod lint;
mod ls;
mod manual;
mod networks;
mod node;
mod ports;
mod repair;
mod report;
mod trace;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use cli::{Cli, Command};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Completions(options) => manual::completions(&options, Cli::command()),
        Command::Dns(command) => report::finish(dns::run(&command)),
        Command::Doctor(options) => report::finish(doctor::run(&options)),
        Command::Gc(options) => report::finish(gc::run(&options)),
        Command::Graph(options) => report::finish(graph::run(&options)),
        Command::Inspect(options) => report::finish(inspect::run(&options)),
        Command::Install(options) => report::finish(install::install(&options)),
        Command::IpForward(options) => ip_forward::run(options.fix, options.json),
        Command::Leases(options) => report::finish(leases::run(&options)),
        Command::Lint(options) => report::finish(lint::run(&options)),
        Command::Ls(options) => report::finish(ls::run(&options)),
        Command::Man(options) => report::finish(manual::pages(&options, Cli::command())),
        Command::Network(words) => report::finish(node::hand_over("network", &words)),
        Command::Node(words) => report::finish(node::hand_over("node", &words)),
        Command::Nodes(words) => report::finish(node::hand_over("nodes", &words)),
        Command::Services(words) => report::finish(node::hand_over("services", &words)),
        Command::Networks(options) => report::finish(networks::run(&options)),
        Command::Ports(options) => report::finish(ports::run(&options)),
        Command::Repair(options) => report::finish(repair::run(&options)),
        Command::Trace(options) => report::finish(trace::run(&options)),
        Command::Uninstall(options) => report::finish(install::uninstall(&options)),
        Command::Watch(options) => report::finish(watch::run(&options)),
    }
}
