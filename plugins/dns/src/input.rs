//! The INPUT hook: a question to the resolver arrives there with the resolver's own port, and a host whose
//! INPUT chain drops takes none of them. In iptables a rule of Pontoon lets the network's containers in, of
//! whichever variant the chain is, and goes with the network. In the nftables table of another program
//! only they can let it in: that is said.

use std::net::IpAddr;

use pontoon_attach::foreign_filters::{self, CheckOutcome, PacketCheck};
use pontoon_attach::rules;
use pontoon_conf::Error;
use pontoon_dns::record::Record;
use pontoon_ledger::{DnsRecord, OpeningsRecord};
use pontoon_netfilter::Ruleset;
use pontoon_netfilter::nft::{FilterHook, ForeignFilters};
use pontoon_netlink::RouteSocket;
use pontoon_plugin::Context;

use crate::error::StatusError;
use crate::{plan, resolver};

/// Lets the questions of a container's network in where iptables' INPUT chain drops. `first` of the network, what
/// takes programs is looked at too, and what cannot be opened is said.
pub(crate) fn open(
    context: &Context,
    record: &Record,
    port: u16,
    others: Option<ForeignFilters>,
    first: bool,
) -> Result<(), Error> {
    let network = &record.network;
    let noted: Option<OpeningsRecord> = context.state.read_network(network)?;
    let noted = noted.unwrap_or_default().openings;
    let known = noted.last().map(|(kind, _)| *kind);
    if known.is_none() && !first && others.is_none_or(|others| !others.input_drops) {
        return Ok(());
    }
    let Ok(mut host) = RouteSocket::open() else {
        return Ok(());
    };
    let kind = known.or_else(|| {
        let mut checks =
            || foreign_filters::questions(&mut host, &record.addresses, &record.gateways, port);
        let checks = first.then_some(&mut checks as &mut dyn FnMut() -> Vec<PacketCheck>);
        let others = others.unwrap_or_default();
        foreign_filters::dropping(&context.search, FilterHook::Input, None, others, checks)
    });
    if let Some(kind) = kind {
        let resolver = plan::redirect(record, port);
        let opening = foreign_filters::opening(&mut host, &resolver, &record.addresses);
        let opening = foreign_filters::note_opening(&context.state, kind, opening)?;
        let mut backend = rules::open(context, kind)?;
        let done = backend.apply(&Ruleset {
            opening: Some(opening),
            ..Ruleset::default()
        });
        rules::close_in_detached_child(backend.into_sockets());
        done.map_err(rules::error)?;
    }
    if first {
        warn(context, &mut host, record, port);
    }
    Ok(())
}

/// Warns of chains of others in which nothing can be done.
fn warn(context: &Context, host: &mut RouteSocket, record: &Record, port: u16) {
    let first = record.addresses.first();
    let Some(link) = first.and_then(|address| foreign_filters::interface_to(host, *address)) else {
        return;
    };
    let obstacles = foreign_filters::obstacles(FilterHook::Input, &link.name);
    if obstacles.is_empty() {
        return;
    }
    let checks = foreign_filters::questions(host, &record.addresses, &record.gateways, port);
    match foreign_filters::judge(&context.search, FilterHook::Input, &checks) {
        CheckOutcome::Passes => {}
        CheckOutcome::Dropped(what, drop) => pontoon_plugin::warn(format_args!(
            "dns: warning: {drop} drops {what}: containers of network {} find no names; {}",
            record.network,
            advice(&drop.to_string(), &drop.base, &drop.table, &link.name, port)
        )),
        CheckOutcome::Unknown(_) | CheckOutcome::Unreadable(_) => {
            for obstacle in obstacles {
                let table = format!("{} {}", obstacle.family, obstacle.table);
                pontoon_plugin::warn(format_args!(
                    "dns: warning: {obstacle} may drop questions to the resolver: {}",
                    advice("", &obstacle.chain, &table, &link.name, port)
                ));
            }
        }
    }
}

/// What the admin can do.
fn advice(what: &str, chain: &str, table: &str, interface: &str, port: u16) -> String {
    if table.ends_with("firewalld") {
        return format!("firewall-cmd --zone=trusted --add-interface={interface}");
    }
    if what.contains("tables-") || (chain == "INPUT" && table.ends_with(" filter")) {
        return "pontoon repair makes a way through it for the network".to_owned();
    }
    format!(
        "accept udp and tcp to port {port} from iifname {interface} in chain {chain} of table {table}, or in a chain that leads there"
    )
}

/// What is missing of the ways in that were made.
pub(crate) fn differences(context: &Context, network: &str) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    let noted: Option<OpeningsRecord> = context.state.read_network(network)?;
    for (kind, opening) in noted.unwrap_or_default().openings {
        let mut backend = rules::open(context, kind)?;
        let differences = backend.verify(&Ruleset {
            opening: Some(opening),
            ..Ruleset::default()
        });
        rules::close_in_detached_child(backend.into_sockets());
        found.extend(differences.map_err(rules::error)?);
    }
    Ok(found)
}

/// Whether the host's filters let the network's questions in. Without containers there is nothing to ask.
pub(crate) fn passes(context: &Context) -> Result<(), Error> {
    let network = context.config.name.as_ref();
    let records = context.state.records_of::<DnsRecord>();
    let mut entry: Option<DnsRecord> = None;
    for key in records.attachments(network)? {
        entry = context.state.read(&key)?;
        if entry.is_some() {
            break;
        }
    }
    let port = resolver::noted_port(context, network)?;
    let (Some(entry), Some(port), Ok(mut host)) = (entry, port, RouteSocket::open()) else {
        return Ok(());
    };
    let record = entry.record;
    let link = record
        .addresses
        .first()
        .and_then(|address: &IpAddr| foreign_filters::interface_to(&mut host, *address));
    let Some(link) = link else {
        return Ok(());
    };
    let limited = |chain: &str, details: String| {
        Err(StatusError::Dropped {
            chain: chain.to_owned(),
            network: network.to_string(),
            details,
        }
        .into())
    };
    let checks = foreign_filters::questions(&mut host, &record.addresses, &record.gateways, port);
    match foreign_filters::judge(&context.search, FilterHook::Input, &checks) {
        CheckOutcome::Passes => Ok(()),
        CheckOutcome::Dropped(what, drop) => {
            let text = drop.to_string();
            let advice = advice(&text, &drop.base, &drop.table, &link.name, port);
            limited(&text, format!("it drops {what}; {advice}"))
        }
        CheckOutcome::Unknown(why) => {
            pontoon_plugin::warn(format_args!(
                "dns: warning: questions of network {network} may not pass the host's filters: {}",
                why.join("; ")
            ));
            Ok(())
        }
        CheckOutcome::Unreadable(why) => {
            let told = |advice: String| format!("{advice}; judged by names alone, without {why}");
            if let Some(obstacle) =
                foreign_filters::obstacles(FilterHook::Input, &link.name).first()
            {
                let table = format!("{} {}", obstacle.family, obstacle.table);
                let advice = advice("", &obstacle.chain, &table, &link.name, port);
                return limited(&obstacle.to_string(), told(advice));
            }
            let opened = context.state.has_network::<OpeningsRecord>(network);
            if foreign_filters::others().input_drops && !opened {
                let advice = advice("", "INPUT", "ip filter", &link.name, port);
                return limited("chain INPUT of iptables-nft", told(advice));
            }
            Ok(())
        }
    }
}
