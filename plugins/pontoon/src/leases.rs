//! `pontoon leases NET`: the addresses of a network.

use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use pontoon_attach::reference;
use pontoon_ipam::{Boot, Note};
use pontoon_ledger::files;
use serde::Serialize;

use crate::conflist::Places;
use crate::facts::Host;
use crate::report::{AS_ROOT, Failure, Outcome, Style, Table, print, short};

mod pool;

pub(crate) use pool::Source;

/// Bytes of a lease, or of a note of the last address: more than any program writes.
const LONGEST: u64 = 4096;

/// Where leases lie unless the configuration says otherwise.
pub(crate) const DATA_DIR: &str = "/var/lib/cni/networks";

#[derive(Args)]
pub(crate) struct Options {
    /// Name of the network
    network: String,
    /// `dataDir` of the network [default: as its containers have it, else /var/lib/cni/networks]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    places: Places,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The leases of a network.
#[derive(Debug, Serialize)]
pub(crate) struct Leases {
    pub(crate) folder: PathBuf,
    pub(crate) subnets: Vec<Subnet>,
    pub(crate) leases: Vec<Lease>,
}

/// A subnet that the network's addresses come from.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub(crate) struct Subnet {
    pub(crate) subnet: String,
    pub(crate) used: u64,
    /// Addresses that no lease has and that an ADD may give out: those of the configured ranges, without
    /// network, broadcast, gateway and excluded addresses. Where the configuration is not found, those of
    /// the whole subnet.
    pub(crate) free: u128,
    /// The next address in turn.
    pub(crate) next: Option<IpAddr>,
}

/// One address that a container has.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) address: IpAddr,
    pub(crate) container: String,
    pub(crate) interface: Option<String>,
    pub(crate) name: Option<String>,
    /// A container of that id is attached to the network.
    pub(crate) attached: bool,
    /// Left by an earlier boot, with which its container went: the next ADD of the network releases it.
    pub(crate) earlier_boot: bool,
}

pub(crate) fn run(options: &Options) -> Outcome {
    let mut host = Host::look()?;
    let networks = host.networks()?;
    let folder = match &options.data_dir {
        Some(dir) => dir.join(&options.network),
        None => folder(&host, &options.network),
    };
    let source = Source {
        places: &options.places,
        network: &options.network,
        host: &host,
        networks: &networks,
    };
    let leases = read(&host, &options.network, &folder, Some(source))?;
    print(options.json, &leases, || table(&leases))?;
    Ok(true)
}

/// Where the leases of a network lie.
pub(crate) fn folder(host: &Host, network: &str) -> PathBuf {
    let recorded = host.recorded.iter();
    let known = recorded
        .filter(|one| one.key.network == network)
        .find_map(|one| host.about(one)?.leases);
    known.unwrap_or_else(|| Path::new(DATA_DIR).join(network))
}

/// Reads the leases. Without a `source` the subnets are not counted.
pub(crate) fn read(
    host: &Host,
    network: &str,
    folder: &Path,
    source: Option<Source<'_>>,
) -> Result<Leases, Failure> {
    let refused = |path: &Path, error: &std::io::Error| {
        Failure::Failed(format!(
            "cannot read {}: {error}\n{AS_ROOT}",
            path.display()
        ))
    };
    let entries = fs::read_dir(folder).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => refused(folder, &error),
        _ => Failure::NotFound(format!(
            "network {network} has no leases in {}: {error}\nhint: pontoon networks lists the networks; --data-dir says where leases lie",
            folder.display()
        )),
    })?;
    let note = Note::read(folder).map_err(|error| Failure::Failed(error.to_string()))?;
    let boot = Boot::current()
        .map_err(|error| Failure::Failed(format!("cannot read the boot id: {error}")))?;
    // As the allocator judges: what is older than this boot, in a folder that no ADD of it has seen.
    let began = match note.boot() == Some(boot.id()) {
        true => None,
        false => Some(boot.began().map_err(|error| {
            Failure::Failed(format!("cannot read when this host has booted: {error}"))
        })?),
    };
    let mut leases = Vec::new();
    let mut last = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| refused(folder, &error))?;
        // A name that is no text is no address.
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if name.parse::<IpAddr>().is_err() && !name.starts_with("last_reserved_ip.") {
            continue;
        }
        let path = entry.path();
        let text = match files::read(&path, LONGEST) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            // Given back meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            // A directory, a fifo, a file without end: whatever it is, the address is taken by it.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::InvalidInput | ErrorKind::FileTooLarge
                ) =>
            {
                String::new()
            }
            Err(error) => return Err(refused(&path, &error)),
        };
        if name.starts_with("last_reserved_ip.") {
            last.extend(text.trim().parse::<IpAddr>());
        } else if let Ok(address) = name.parse() {
            let mut lease = lease(host, network, address, &text);
            let written = entry.metadata().and_then(|found| found.modified()).ok();
            let older = written
                .zip(began)
                .is_some_and(|(written, began)| written < began);
            lease.earlier_boot = older && !lease.attached;
            leases.push(lease);
        }
    }
    leases.sort_by_key(|lease| lease.address);
    let mut subnets: Vec<String> = note.auto().into_iter().map(str::to_owned).collect();
    subnets.extend(note.subnets().iter().cloned());
    let pool = source.map(|source| {
        if subnets.is_empty() {
            subnets = source.subnets();
        }
        source.pool(note.auto(), &mut subnets)
    });
    Ok(Leases {
        folder: folder.to_owned(),
        subnets: pool.map_or(Vec::new(), |pool| {
            let count = |text: &String| pool::count(text, &pool, &leases, &last);
            subnets.iter().filter_map(count).collect()
        }),
        leases,
    })
}

fn lease(host: &Host, network: &str, address: IpAddr, text: &str) -> Lease {
    let (container, interface) = reference::leaseholder(text).unwrap_or_default();
    let (container, interface) = (container.to_owned(), interface.map(str::to_owned));
    let mut recorded = host.recorded.iter();
    let recorded =
        recorded.find(|one| one.key.network == network && one.key.container == container);
    let about = recorded.and_then(|one| host.about(one));
    Lease {
        address,
        interface,
        name: about.and_then(|about| about.names.into_iter().next()),
        attached: recorded.is_some(),
        earlier_boot: false,
        container,
    }
}

fn table(leases: &Leases) -> String {
    let style = Style::of_stdout();
    let mut table = Table::new(&["SUBNET", "USED", "FREE", "NEXT"]);
    for subnet in &leases.subnets {
        table.row(vec![
            subnet.subnet.clone(),
            subnet.used.to_string(),
            subnet.free.to_string(),
            subnet.next.map_or(String::new(), |next| next.to_string()),
        ]);
    }
    let mut text = table.text(style);
    text.push('\n');
    let mut table = Table::new(&["ADDRESS", "CONTAINER", "NAME", "INTERFACE", "ATTACHED"]);
    for lease in &leases.leases {
        table.row(vec![
            lease.address.to_string(),
            short(&lease.container),
            lease.name.clone().unwrap_or_default(),
            lease.interface.clone().unwrap_or_default(),
            match (lease.attached, lease.earlier_boot) {
                (true, _) => "yes",
                (false, true) => "no (of an earlier boot)",
                (false, false) => "no",
            }
            .to_owned(),
        ]);
    }
    text + &table.text(style)
}
