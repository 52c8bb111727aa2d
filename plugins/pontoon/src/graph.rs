//! `pontoon graph`: the host drawn: uplinks, networks with their bridges, containers with names,
//! addresses, published ports and links, and what the networks keep from passing.

mod cluster;
mod plan;
mod svg;
mod words;

use clap::{ArgGroup, Args};

use crate::facts::{self, Host};
use crate::report::{Outcome, write};

#[derive(Args)]
#[command(group(ArgGroup::new("form").args(["svg", "dot", "mermaid"])))]
pub(crate) struct Options {
    /// Print an SVG picture
    #[arg(long)]
    svg: bool,
    /// Print the graph for Graphviz
    #[arg(long)]
    dot: bool,
    /// Print the graph for Mermaid
    #[arg(long)]
    mermaid: bool,
    /// Draw the other hosts of networks of several hosts, too
    #[arg(long)]
    cluster: bool,
}

pub(crate) fn run(options: &Options) -> Outcome {
    let mut host = Host::look()?;
    let networks = host.networks()?;
    let attachments = host.attachments();
    let mut uplinks = Vec::new();
    if let Some(link) = host.socket.uplink()? {
        uplinks.push(plan::Node {
            title: link.name.clone(),
            lines: facts::global(&mut host.socket, link.index)?,
        });
    }
    let mut plan = plan::draw(uplinks, &networks, &attachments);
    if options.cluster {
        cluster::add(&mut plan, &host)?;
    }
    let text = if options.svg {
        svg::print(&plan)
    } else if options.dot {
        words::dot(&plan)
    } else if options.mermaid {
        words::mermaid(&plan)
    } else {
        words::text(&plan)
    };
    write(&text)?;
    Ok(true)
}
