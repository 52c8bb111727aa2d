//! `pontoon leases NET`: the addresses of a network.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use pontoon_ipam::{Note, Span};
use pontoon_plugin::reference;
use serde::Serialize;

use crate::facts::Host;
use crate::report::{Failure, Outcome, Style, Table, print, short};

/// Where leases lie unless the configuration says otherwise.
pub(crate) const DATA_DIR: &str = "/var/lib/cni/networks";

#[derive(Args)]
pub(crate) struct Options {
    /// Name of the network
    network: String,
    /// `dataDir` of the network [default: as its containers have it, else /var/lib/cni/networks]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
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
}

pub(crate) fn run(options: &Options) -> Outcome {
    let host = Host::look()?;
    let folder = match &options.data_dir {
        Some(dir) => dir.join(&options.network),
        None => folder(&host, &options.network),
    };
    let leases = read(&host, &options.network, &folder)?;
    print(options.json, &leases, || table(&leases))?;
    Ok(true)
}

/// Where the leases of a network lie.
pub(crate) fn folder(host: &Host, network: &str) -> PathBuf {
    let of_members = host
        .members
        .iter()
        .filter(|member| member.key.network == network);
    let known = of_members
        .filter_map(|member| host.state.about(member)?.leases)
        .next();
    known.unwrap_or_else(|| Path::new(DATA_DIR).join(network))
}

pub(crate) fn read(host: &Host, network: &str, folder: &Path) -> Result<Leases, Failure> {
    let entries = fs::read_dir(folder).map_err(|error| {
        Failure::NotFound(format!(
            "network {network} has no leases in {}: {error}\nhint: pontoon networks lists the networks; --data-dir says where leases lie",
            folder.display()
        ))
    })?;
    let mut leases = Vec::new();
    let mut last = Vec::new();
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        if name.starts_with("last_reserved_ip.") {
            last.extend(text.trim().parse::<IpAddr>());
        } else if let Ok(address) = name.parse() {
            leases.push(lease(host, network, address, &text));
        }
    }
    leases.sort_by_key(|lease| lease.address);
    let note = Note::read(folder).map_err(|error| Failure::Failed(error.to_string()))?;
    let mut subnets: Vec<&str> = note.auto().into_iter().collect();
    subnets.extend(note.subnets().iter().map(String::as_str));
    subnets.dedup();
    Ok(Leases {
        folder: folder.to_owned(),
        subnets: subnets
            .into_iter()
            .filter_map(|text| subnet(text, &leases, &last))
            .collect(),
        leases,
    })
}

fn lease(host: &Host, network: &str, address: IpAddr, text: &str) -> Lease {
    let (container, interface) = reference::leaseholder(text).unwrap_or_default();
    let (container, interface) = (container.to_owned(), interface.map(str::to_owned));
    let member = host
        .members
        .iter()
        .find(|member| member.key.network == network && member.key.container == container);
    let about = member.and_then(|member| host.state.about(member));
    Lease {
        address,
        interface,
        name: about.and_then(|about| about.names.into_iter().next()),
        attached: member.is_some(),
        container,
    }
}

/// Counts a subnet, and finds the address after the last one given out that nobody has.
pub(crate) fn subnet(text: &str, leases: &[Lease], last: &[IpAddr]) -> Option<Subnet> {
    let network: pontoon_netlink::IpNetwork = text.parse().ok()?;
    let span = Span::network(network.ip(), network.prefix());
    let used: Vec<IpAddr> = leases
        .iter()
        .map(|lease| lease.address)
        .filter(|address| span.contains(*address))
        .collect();
    let number = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    };
    let address = |number: u128| match network {
        pontoon_netlink::IpNetwork::V4(_) => {
            IpAddr::V4((u32::try_from(number).unwrap_or(u32::MAX)).into())
        }
        pontoon_netlink::IpNetwork::V6(_) => IpAddr::V6(number.into()),
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
            if lease.attached { "yes" } else { "no" }.to_owned(),
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
