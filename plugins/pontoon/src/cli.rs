//! The definition of the command line, from which help, completions and man pages come.

use clap::{Args, Parser, Subcommand};

use crate::{
    dns, doctor, gc, graph, inspect, install, leases, lint, manual, node, repair, trace, watch,
};

#[derive(Parser)]
#[command(
    name = "pontoon",
    version,
    about = "Looks after container networks made by Pontoon's CNI plugins"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Print a completion script for a shell
    Completions(manual::Shells),
    /// Look at the names of containers, and ask for them
    #[command(subcommand)]
    Dns(dns::Dns),
    /// Find what keeps containers from working, and the command that mends it
    Doctor(doctor::Options),
    /// Remove what dead containers left
    Gc(gc::Options),
    /// Draw the host: uplinks, networks, containers
    Graph(graph::Options),
    /// Show all that is known of a container
    Inspect(inspect::Options),
    /// Put the plugins in place, and a network when asked
    Install(install::Options),
    /// Say whether this host forwards packets between containers and the outside
    IpForward(IpForward),
    /// List the addresses of a network: used, free, next, and whose they are
    Leases(leases::Options),
    /// Say what is wrong with a network configuration
    Lint(lint::Options),
    /// List the attached containers
    Ls(Shape),
    /// Write the man pages into a folder
    Man(manual::Folder),
    /// Make, list and remove networks of several hosts: create, ls, rm
    Network(node::Words),
    /// List the networks
    Networks(Shape),
    /// Empty a host among several, or forget one that is dead: drain, forget
    Node(node::Words),
    /// List the hosts that share networks with this one
    Nodes(node::Words),
    /// List the published ports
    Ports(Shape),
    /// Make flushed rules again, and cut stale flows
    Repair(repair::Options),
    /// List the services of networks of several hosts: addresses, ports, containers and their hosts
    Services(node::Words),
    /// Tell the way of a packet, rule by rule
    Trace(trace::Options),
    /// Remove the plugins, and put back what was there before
    Uninstall(install::Uninstall),
    /// Tell of attachments, detachments and changes of ports as they happen
    Watch(watch::Options),
}

/// For what only prints.
#[derive(Args)]
pub(crate) struct Shape {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct IpForward {
    /// Switch on what is off
    #[arg(long)]
    pub(crate) fix: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
