//! `pontoon gc NET`: removes what dead containers left.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use clap::{ArgGroup, Args};
use pontoon_ledger::{Key, NetworkRecord, files, kinds};
use pontoon_netlink::{Netns, NetnsError};
use serde::Serialize;
use serde_json::Value;

use crate::conflist::{KeptAttachments, Places};
use crate::facts::Host;
use crate::leases::Lease;
use crate::report::{Failure, Outcome, print};
use crate::{inspect, leases};

/// Where libcni keeps the results of ADDs, in all of its versions.
const RESULTS: &str = "/var/lib/cni/results";
/// Bytes of such a result that are read: with the configuration that it holds, which has 6 MB at most.
const LARGEST: u64 = 16 << 20;

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
struct Removal {
    what: &'static str,
    name: String,
    why: &'static str,
    /// The attachment, of a container.
    #[serde(skip)]
    key: Option<Key>,
}

/// Why what a network has once goes.
const UNUSED: &str = "no container of the network is attached any more";

#[derive(Serialize)]
struct Report {
    /// Whether anything was removed.
    removed: bool,
    doomed: Vec<Removal>,
}

pub(crate) fn run(options: &Options) -> Outcome {
    let mut host = Host::look()?;
    let network = options.places.network(&options.network)?;
    let kind = network["plugins"][0]["type"].as_str().unwrap_or_default();
    if options.all_dead && kinds::of(kind).is_none() {
        return Err(Failure::Failed(format!(
            "{kind} is another vendor's plugin, whose containers leave no record here: which of them are dead is not known\nhint: name those that live by --keep"
        )));
    }
    let known = Known::of(&host, &options.network, &network)?;
    let mut kept = Vec::new();
    for wanted in &options.keep {
        kept.push(known.id(&host, wanted)?);
    }
    let why = if options.all_dead {
        "its namespace is gone"
    } else {
        "it is not among those to keep"
    };
    let mut doomed = Vec::new();
    let mut keep = Vec::new();
    for (one, alive) in &known.recorded {
        let stays = if options.all_dead {
            *alive
        } else {
            kept.contains(&one.0)
        };
        if stays {
            keep.push(one.clone());
        } else {
            doomed.push(Removal {
                what: "container",
                name: format!("{} {}", one.0, one.1),
                why,
                key: Some(Key {
                    network: options.network.clone(),
                    container: one.0.clone(),
                    interface: one.1.clone(),
                }),
            });
        }
    }
    // What no record of Pontoon's tells of is another vendor's, or its record is lost.
    let unrecorded = known.unrecorded.iter();
    let living = living(&options.network)?;
    let stays = |one: &&Pair| match options.all_dead {
        true => living.contains(one),
        false => kept.contains(&one.0),
    };
    let spared: Vec<Pair> = unrecorded.filter(stays).cloned().collect();
    keep.extend(spared.iter().cloned());
    keep.dedup();
    let lost = known.leases.iter().filter(|lease| {
        let holder = |one: &(String, String)| one.0 == lease.container;
        !lease.attached && !keep.iter().any(holder)
    });
    doomed.extend(lost.map(|lease| Removal {
        what: "lease",
        name: lease_name(lease),
        why: "no such container is attached",
        key: None,
    }));
    let own = host.attachments();
    let bridge = host.bridge_of(&options.network).cloned();
    if keep.is_empty() {
        if host.state.has_network::<NetworkRecord>(&options.network) {
            doomed.push(Removal {
                what: "rules",
                name: format!("of network {}", options.network),
                why: UNUSED,
                key: None,
            });
        }
        let configured = network["plugins"][0]["bridge"].as_str().unwrap_or("cni0");
        let goes = bridge
            .iter()
            .filter(|bridge| kinds::is_bridged(kind) && bridge.name == configured);
        // Ports of the containers that go do not hold it; another program's do.
        let goes = goes.filter(|bridge| {
            let mut ports = host
                .links
                .iter()
                .filter(|link| link.master == Some(bridge.index));
            ports.all(|port| {
                let name = Some(&port.name);
                let ours = own.iter().filter(|one| one.network == options.network);
                ours.clone().any(|one| one.host_interface.as_ref() == name)
            })
        });
        doomed.extend(goes.map(|bridge| Removal {
            what: "bridge",
            name: bridge.name.clone(),
            why: UNUSED,
            key: None,
        }));
    }
    if !options.dry_run {
        let rest = match options.all_dead {
            // Whether an attachment is dead is asked again when it is its turn: this command's look is
            // old by then, and containers have come since.
            true => KeptAttachments::Living(spared),
            false => KeptAttachments::Listed(keep),
        };
        options.places.gc(&network, &rest)?;
        // What the plugins did counts, not what they were thought to do.
        let left = Known::of(&host, &options.network, &network)?;
        doomed.retain(|one| !left.has(&host, one));
        let gone = match &bridge {
            Some(bridge) => host.socket.link_by_index(bridge.index)?.is_none(),
            None => false,
        };
        doomed.retain(|one| one.what != "bridge" || gone);
        if let Some(bridge) = bridge.filter(|_| gone)
            && !doomed.iter().any(|one| one.what == "bridge")
        {
            doomed.push(Removal {
                what: "bridge",
                name: bridge.name,
                why: UNUSED,
                key: None,
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

/// Container id and interface name.
type Pair = (String, String);

/// Who is attached to a network, by everything that tells.
struct Known {
    /// By the records of our plugins, with whether the namespace is there.
    recorded: Vec<(Pair, bool)>,
    /// By leases, and by the results that runtimes keep: attachments of other vendors' plugins too.
    unrecorded: Vec<Pair>,
    leases: Vec<Lease>,
}

impl Known {
    fn of(host: &Host, name: &str, network: &Value) -> Result<Self, Failure> {
        let own = host.attachments().to_vec().into_iter();
        let recorded: Vec<(Pair, bool)> = own
            .filter(|one| one.network == name)
            .map(|one| ((one.id, one.interface), one.alive))
            .collect();
        let folder = match network["plugins"][0]["ipam"]["dataDir"].as_str() {
            Some(dir) if !dir.is_empty() => Path::new(dir).join(name),
            _ => leases::folder(host, name),
        };
        // What is not known is not spared: only a folder that is not there has no leases.
        let leases = match leases::read(host, name, &folder, None) {
            Ok(found) => found.leases,
            Err(Failure::NotFound(_)) => Vec::new(),
            Err(failure) => return Err(failure),
        };
        let leased = leases.iter().map(|lease| {
            let interface = lease.interface.clone();
            // The reference plugin's oldest leases have the id alone.
            let interface = interface.unwrap_or_else(|| "eth0".to_owned());
            (lease.container.clone(), interface)
        });
        let results = cached(name)?.into_iter().map(|(pair, _)| pair);
        let mut unrecorded: Vec<Pair> = leased.chain(results).collect();
        unrecorded.sort_unstable();
        unrecorded.dedup();
        unrecorded.retain(|pair| !recorded.iter().any(|(known, _)| known == pair));
        Ok(Self {
            recorded,
            unrecorded,
            leases,
        })
    }

    /// Whether what was to go is there still.
    fn has(&self, host: &Host, doomed: &Removal) -> bool {
        match &doomed.key {
            Some(key) => host.state.is_recorded(key),
            None => {
                doomed.what == "lease"
                    && self
                        .leases
                        .iter()
                        .any(|lease| lease_name(lease) == doomed.name)
            }
        }
    }

    /// The id of the container that is called so: on this host by our records, else on this network
    /// by what else tells of it.
    fn id(&self, host: &Host, wanted: &str) -> Result<String, Failure> {
        let unknown = match inspect::attachments_of(host, wanted) {
            Ok(found) => {
                return Ok(found
                    .into_iter()
                    .next()
                    .map(|one| one.id)
                    .unwrap_or_default());
            }
            Err(error) => error,
        };
        let ids = self.unrecorded.iter().map(|(id, _)| id.as_str());
        let mut found: Vec<&str> = ids.clone().filter(|id| *id == wanted).collect();
        if found.is_empty() && !wanted.is_empty() {
            found = ids.filter(|id| id.starts_with(wanted)).collect();
        }
        found.dedup();
        match found[..] {
            [only] => Ok(only.to_owned()),
            _ => Err(unknown),
        }
    }
}

fn lease_name(lease: &Lease) -> String {
    format!("{} of {}", lease.address, lease.container)
}

/// The attachments of a network of which a runtime keeps the result (libcni's cache), with the result.
///
/// # Errors
/// When a result that may be of this network cannot be read: its container would count as unknown.
fn cached(network: &str) -> Result<Vec<(Pair, Value)>, Failure> {
    let failed = |path: &Path, error: &dyn std::fmt::Display| {
        Failure::Failed(format!(
            "cannot read {}, where a runtime keeps the result of an ADD: {error}\nhint: a container that only this tells of would be taken for dead; remove the file if its container is gone",
            path.display()
        ))
    };
    let folder = Path::new(RESULTS);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(folder, &error)),
    };
    let prefix = format!("{network}-");
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed(folder, &error))?;
        if !entry.file_name().to_string_lossy().starts_with(&prefix) {
            continue;
        }
        let path = entry.path();
        let text = match files::read(&path, LARGEST) {
            Ok(text) => text,
            // Its DEL has come meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(&path, &error)),
        };
        let mut value: Value =
            serde_json::from_slice(&text).map_err(|error| failed(&path, &error))?;
        // The name of another network may begin like this one's.
        if value["networkName"] != network {
            continue;
        }
        let word = |key: &str| value[key].as_str().map(str::to_owned);
        if let (Some(container), Some(interface)) = (word("containerId"), word("ifName")) {
            found.push(((container, interface), value["result"].take()));
        }
    }
    Ok(found)
}

/// The attachments of a network whose result names a namespace that is there: those of other vendors'
/// plugins, which leave no record, are known to be alive by this alone.
fn living(network: &str) -> Result<Vec<Pair>, Failure> {
    let mut living = Vec::new();
    for (pair, result) in cached(network)? {
        for interface in result["interfaces"].as_array().into_iter().flatten() {
            let Some(path) = interface["sandbox"]
                .as_str()
                .filter(|path| !path.is_empty())
            else {
                continue;
            };
            match Netns::open(Path::new(path)) {
                Ok(_) => living.push(pair.clone()),
                Err(NetnsError::NotFound { .. } | NetnsError::NotNamespace { .. }) => {}
                Err(error) => return Err(Failure::Failed(error.to_string())),
            }
        }
    }
    Ok(living)
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
