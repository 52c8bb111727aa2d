//! The definition of the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use pontoon_conf::{Cidr, NetworkName};

use crate::settings;

/// The options.
#[derive(Parser)]
#[command(
    name = "pontoon-node",
    version,
    about = "Looks after this host's part of networks of several hosts, by etcd"
)]
pub(crate) struct Cli {
    /// The configuration: of this host, or for the admin's commands one with the admin's certificate
    #[arg(long, global = true, value_name = "FILE", default_value = settings::FILE)]
    pub(crate) config: PathBuf,
    /// Bring etcd, files and kernel into line, and end
    #[arg(long)]
    pub(crate) once: bool,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What else it does.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Say how the agent of this host does
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Print Prometheus's text format
        #[arg(long, conflicts_with = "json")]
        metrics: bool,
    },
    /// Make, list and remove networks of several hosts
    #[command(subcommand)]
    Network(Network),
    /// List the hosts: alive or dead, addresses, blocks
    Nodes(Shape),
    /// List the services: addresses, ports, containers and their hosts
    Services(Shape),
    /// Empty a host, or forget one that is dead
    #[command(subcommand)]
    Node(Node),
}

/// About networks.
#[derive(Subcommand)]
pub(crate) enum Network {
    /// Make a network
    Create(Create),
    /// List the networks
    Ls(Shape),
    /// Remove a network that no host has blocks of
    Rm {
        /// The network
        name: NetworkName,
        /// Remove it although hosts have blocks of it: their containers are not reached from other hosts any more
        #[arg(long)]
        force: bool,
    },
}

/// A new network.
#[derive(Args)]
pub(crate) struct Create {
    /// Its name, as in the configurations on the hosts
    pub(crate) name: NetworkName,
    /// Its subnet; once for each family
    #[arg(long = "subnet", value_name = "SUBNET", required = true)]
    pub(crate) subnets: Vec<Cidr>,
    /// Prefix length of the block that a host gets, IPv4
    #[arg(long, value_name = "BITS", default_value_t = 24)]
    pub(crate) block: u8,
    /// Prefix length of the block that a host gets, IPv6
    #[arg(long, value_name = "BITS", default_value_t = 64)]
    pub(crate) block6: u8,
    /// The part of a subnet that services have their addresses of, once for each family, or `none` [default: the last
    /// block of each subnet that has four or more]
    #[arg(long, value_name = "SUBNET")]
    pub(crate) services: Vec<String>,
    /// Its number in the tunnel [default: the first free one from 4096]
    #[arg(long)]
    pub(crate) vni: Option<u32>,
    /// UDP port of the tunnel
    #[arg(long, default_value_t = 4789)]
    pub(crate) port: u16,
    /// How packets get to other hosts
    #[arg(long, value_parser = ["vxlan", "direct", "auto"], default_value = "auto")]
    pub(crate) mode: String,
}

/// About hosts.
#[derive(Subcommand)]
pub(crate) enum Node {
    /// Let a host take no more containers on networks of several hosts; its empty blocks are given back
    Drain {
        /// The host's id
        host: String,
        /// Let it take containers again
        #[arg(long)]
        undo: bool,
    },
    /// Take its blocks from a host that is dead for good
    Forget {
        /// The host's id
        host: String,
    },
}

/// For what only prints.
#[derive(Args)]
pub(crate) struct Shape {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
