//! `pontoon leases NET`: the addresses of a network.

use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use pontoon_attach::reference;
use pontoon_ipam::{Boot, Note, Span};
use pontoon_netlink::IpNetwork;
use serde::Serialize;

use crate::conflist::Places;
use crate::facts::{Host, Network};
use crate::report::{AS_ROOT, Failure, Outcome, Style, Table, print, short};

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
    /// Addresses that nobody has, without network, broadcast and one gateway. Ranges narrower than
    /// the subnet leave fewer.
    pub(crate) free: u128,
    /// The next address in turn, as far as the subnet tells.
    pub(crate) next: Option<IpAddr>,
}

/// One address that somebody has.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) address: IpAddr,
    pub(crate) container: String,
    pub(crate) interface: Option<String>,
    pub(crate) name: Option<String>,
    /// Somebody of that id is attached to the network.
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
    let pool = || pool(&host, &networks, &options.places, &options.network);
    let leases = read(&host, &options.network, &folder, pool)?;
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

/// The subnets of a network whose note is lost: as it is configured, else as its bridge and its
/// containers have them.
pub(crate) fn pool(
    host: &Host,
    networks: &[Network],
    places: &Places,
    network: &str,
) -> Vec<String> {
    let configured = places.network(network).ok();
    let plugins = configured
        .iter()
        .flat_map(|list| list["plugins"].as_array());
    let mut found: Vec<String> = plugins
        .flatten()
        .map(|plugin| &plugin["ipam"])
        .flat_map(|ipam| {
            let sets = ipam["ranges"].as_array().into_iter().flatten();
            let ranges = sets.flat_map(|set| set.as_array().into_iter().flatten());
            let subnets = std::iter::once(ipam).chain(ranges);
            subnets.filter_map(|range| range["subnet"].as_str().map(str::to_owned))
        })
        .filter(|text| text.parse::<IpNetwork>().is_ok())
        .collect();
    if found.is_empty() {
        let own = networks.iter().filter(|one| one.name == network);
        let gateways = own.flat_map(|one| one.gateways.clone());
        let attachments = host.attachments();
        let addresses = attachments.iter().filter(|one| one.network == network);
        let addresses = addresses.flat_map(|one| one.addresses.clone());
        let subnets = gateways.chain(addresses).filter_map(|cidr| {
            let subnet: IpNetwork = cidr.parse().ok()?;
            Some(format!("{}/{}", subnet.network(), subnet.prefix()))
        });
        found.extend(subnets);
    }
    found.sort();
    found.dedup();
    found
}

/// Reads the leases; `pool` is asked for the subnets where the note beside them is lost.
pub(crate) fn read(
    host: &Host,
    network: &str,
    folder: &Path,
    pool: impl FnOnce() -> Vec<String>,
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
        false => boot.began().ok(),
    };
    let mut leases = Vec::new();
    let mut last = Vec::new();
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let path = entry.path();
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return Err(refused(&path, &error));
            }
            text => text.unwrap_or_default(),
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
    if subnets.is_empty() {
        subnets = pool();
    }
    subnets.dedup();
    Ok(Leases {
        folder: folder.to_owned(),
        subnets: subnets
            .into_iter()
            .filter_map(|text| subnet(&text, &leases, &last))
            .collect(),
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

/// Counts a subnet, and finds the address after the last one given out that nobody has.
pub(crate) fn subnet(text: &str, leases: &[Lease], last: &[IpAddr]) -> Option<Subnet> {
    let network: IpNetwork = text.parse().ok()?;
    let span = Span::network(network.ip(), network.prefix());
    let used: Vec<IpAddr> = leases
        .iter()
        .filter(|lease| !lease.earlier_boot)
        .map(|lease| lease.address)
        .filter(|address| span.contains(*address))
        .collect();
    let number = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    };
    let address = |number: u128| match network {
        IpNetwork::V4(_) => IpAddr::V4((u32::try_from(number).unwrap_or(u32::MAX)).into()),
        IpNetwork::V6(_) => IpAddr::V6(number.into()),
    };
    let (first, end) = (number(span.first()), number(span.last()));
    // Network address and gateway; the last one is the broadcast address.
    let usable = end.saturating_sub(first).saturating_sub(2);
    let begin = last
        .iter()
        .find(|last| span.contains(**last))
        .map_or(first + 1, |last| number(*last));
    let around = (begin + 1..end).chain(first + 2..=begin);
    // Never more than there are leases, plus one.
    let next = around
        .take(used.len() + 1)
        .map(address)
        .find(|candidate| !used.contains(candidate));
    Some(Subnet {
        subnet: text.to_owned(),
        used: used.len() as u64,
        free: usable.saturating_sub(used.len() as u128),
        next,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(addresses: &[&str]) -> Vec<Lease> {
        let lease = |address: &&str| Lease {
            address: address.parse().unwrap(),
            container: "c".into(),
            interface: None,
            name: None,
            attached: true,
            earlier_boot: false,
        };
        addresses.iter().map(lease).collect()
    }

    #[track_caller]
    fn check(text: &str, used: &[&str], last: &[&str], free: u128, next: Option<&str>) {
        let last: Vec<IpAddr> = last.iter().map(|last| last.parse().unwrap()).collect();
        let found = subnet(text, &taken(used), &last).unwrap();
        assert_eq!(found.free, free);
        assert_eq!(found.next, next.map(|next| next.parse().unwrap()));
    }

    #[test]
    fn subnets_are_counted() {
        check("10.1.0.0/24", &[], &[], 253, Some("10.1.0.2"));
        check(
            "10.1.0.0/24",
            &["10.1.0.2"],
            &["10.1.0.2"],
            252,
            Some("10.1.0.3"),
        );
        check("10.1.0.0/24", &["10.2.0.2"], &[], 253, Some("10.1.0.2"));
        check(
            "10.1.0.0/29",
            &["10.1.0.6"],
            &["10.1.0.6"],
            4,
            Some("10.1.0.2"),
        );
        let all = ["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6"];
        check("10.1.0.0/29", &all, &["10.1.0.3"], 0, None);
        check("fd00::/64", &[], &[], (1 << 64) - 3, Some("fd00::2"));
    }
}
