//! `pontoon gc NET`: removes what belongs to nobody alive.

use clap::{ArgGroup, Args};
use pontoon_plugin::MODES;
use serde::Serialize;

use crate::conflist::Places;
use crate::facts::{Attachment, Host};
use crate::report::{Failure, Outcome, print};
use crate::{inspect, leases};

#[derive(Args)]
#[command(group(ArgGroup::new("who").required(true).args(["keep", "all_dead"])))]
pub(crate) struct Options {
    /// Name of the network
    network: String,
    /// Containers that stay; everything else of the network goes
    #[arg(long, value_name = "ID", num_args = 1..)]
    keep: Vec<String>,
    /// Everything goes whose namespace is gone, or that no container is known for
    #[arg(long)]
    all_dead: bool,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    places: Places,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What goes.
#[derive(Serialize)]
struct Doomed {
    what: &'static str,
    name: String,
    why: &'static str,
}

/// Why what a network has once goes.
const UNUSED: &str = "no container of the network is attached any more";

#[derive(Serialize)]
struct Report {
    /// Whether anything was removed.
    removed: bool,
    doomed: Vec<Doomed>,
}

pub(crate) fn run(options: &Options) -> Outcome {
    let mut host = Host::look()?;
    let network = options.places.network(&options.network)?;
    let kind = network["plugins"][0]["type"].as_str().unwrap_or_default();
    if options.all_dead && !MODES.contains(&kind) {
        return Err(Failure::Failed(format!(
            "containers of type {kind} leave no record here: nobody can tell which of them are dead\nhint: name those that live by --keep"
        )));
    }
    let mut kept = Vec::new();
    for wanted in &options.keep {
        kept.extend(
            inspect::attachments_of(&host, wanted)?
                .into_iter()
                .map(|one| one.id),
        );
    }
    let mut own = host.attachments().to_vec();
    own.retain(|one| one.network == options.network);
    let stays = |one: &Attachment| {
        if options.all_dead {
            one.alive
        } else {
            kept.contains(&one.id)
        }
    };
    let why = if options.all_dead {
        "its namespace is gone"
    } else {
        "it is not among those to keep"
    };
    let mut doomed = Vec::new();
    let mut keep = Vec::new();
    for one in &own {
        if stays(one) {
            keep.push((one.id.clone(), one.interface.clone()));
        } else {
            doomed.push(Doomed {
                what: "container",
                name: format!("{} {}", one.id, one.interface),
                why,
            });
        }
    }
    let folder = leases::folder(&host, &options.network);
    if let Ok(found) = leases::read(&host, &options.network, &folder) {
        let nobodys = found.leases.iter().filter(|lease| !lease.attached);
        doomed.extend(nobodys.map(|lease| Doomed {
            what: "lease",
            name: format!("{} of {}", lease.address, lease.container),
            why: "no such container is attached",
        }));
    }
    let bridge = host.bridge_of(&options.network).cloned();
    if keep.is_empty() {
        if host.state.networks().contains(&options.network) {
            doomed.push(Doomed {
                what: "rules",
                name: format!("of network {}", options.network),
                why: UNUSED,
            });
        }
        let configured = network["plugins"][0]["bridge"].as_str().unwrap_or("cni0");
        let goes = bridge
            .iter()
            .filter(|bridge| kind == "bridge" && bridge.name == configured);
        // Ports of the containers that go do not hold it; another program's do.
        let goes = goes.filter(|bridge| {
            let mut ports = host
                .links
                .iter()
                .filter(|link| link.master == Some(bridge.index));
            ports.all(|port| {
                let name = Some(&port.name);
                own.iter().any(|one| one.host_interface.as_ref() == name)
            })
        });
        doomed.extend(goes.map(|bridge| Doomed {
            what: "bridge",
            name: bridge.name.clone(),
            why: UNUSED,
        }));
    }
    if !options.dry_run {
        options.places.gc(&network, &keep)?;
        // What the plugins did counts, not what they were thought to do.
        let gone = match &bridge {
            Some(bridge) => host.socket.link_by_index(bridge.index)?.is_none(),
            None => false,
        };
        doomed.retain(|one| one.what != "bridge" || gone);
        if let Some(bridge) = bridge.filter(|_| gone)
            && !doomed.iter().any(|one| one.what == "bridge")
        {
            doomed.push(Doomed {
                what: "bridge",
                name: bridge.name,
                why: UNUSED,
            });
        }
    }
    let report = Report {
        removed: !options.dry_run && !doomed.is_empty(),
        doomed,
    };
    print(options.json, &report, || text(&report, options.dry_run))?;
    Ok(true)
}

fn text(report: &Report, dry_run: bool) -> String {
    let act = if dry_run { "would remove" } else { "removed" };
    if report.doomed.is_empty() {
        return "nothing to remove\n".to_owned();
    }
    let lines = report.doomed.iter();
    lines
        .map(|one| format!("{act} {} {}: {}\n", one.what, one.name, one.why))
        .collect()
}
