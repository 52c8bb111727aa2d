//! Others who came after the ADDs, such as a `ufw enable`: what has to stand beside them is noted, so that
//! `pontoon repair` makes it and DEL takes it away.

use std::net::IpAddr;
use std::path::PathBuf;

use pontoon_conf::Error;
use pontoon_ledger::{
    AttachmentRecord, DnsRecord, FirewallRecord, Key, NetworkPolicyRecord, OpeningsRecord,
    ResolverRecord, State,
};
use pontoon_netfilter::iptables::Variant;
use pontoon_netfilter::nft::{FilterHook, ForeignFilters};
use pontoon_netfilter::{BackendKind, Opening, Resolver};
use pontoon_netlink::{IpNetwork, RouteSocket};

use super::{PacketCheck, dropping, forwarded, interface_to, others, questions};
use crate::{backends, sockets};

/// Notes a way into the host that is about to be made; what is noted of the network already is kept in
/// it. Returns all of it.
///
/// # Errors
/// Code 5 with the path.
pub fn note_opening(state: &State, kind: BackendKind, opening: Opening) -> Result<Opening, Error> {
    let network = opening.network.clone();
    let noted: Option<OpeningsRecord> = state.read_network(&network)?;
    let mut noted = noted.unwrap_or_default();
    backends::claim_for(state, "dns", &network, kind)?;
    let known = noted.openings.iter().position(|(known, _)| *known == kind);
    let all = match known.map(|at| noted.openings.swap_remove(at).1) {
        None => opening,
        Some(former) => {
            let all = joined(former.clone(), opening);
            if all == former {
                return Ok(all);
            }
            all
        }
    };
    noted.openings.push((kind, all.clone()));
    state.write_network(&network, &noted)?;
    Ok(all)
}

fn joined(former: Opening, new: Opening) -> Opening {
    fn add<T: PartialEq>(mut all: Vec<T>, more: Vec<T>) -> Vec<T> {
        for one in more {
            if !all.contains(&one) {
                all.push(one);
            }
        }
        all
    }
    Opening {
        sources: add(former.sources, new.sources),
        gateways: add(former.gateways, new.gateways),
        network: new.network,
        interface: new.interface,
        port: new.port,
    }
}

/// The way into the host that containers with these addresses need: by their bridge, or from their own
/// addresses where they are on none.
#[must_use]
pub fn opening(host: &mut RouteSocket, resolver: &Resolver, addresses: &[IpAddr]) -> Opening {
    let first = addresses.first();
    let link = first.and_then(|address| interface_to(host, *address));
    let bridge = link.filter(|link| link.kind.as_deref() == Some("bridge"));
    Opening {
        network: resolver.network.clone(),
        sources: match &bridge {
            Some(_) => Vec::new(),
            None => addresses.iter().copied().map(IpNetwork::from).collect(),
        },
        interface: bridge.map(|link| link.name),
        gateways: resolver.gateways.clone(),
        port: resolver.port,
    }
}

/// Looks again whether another program drops what a network needs, and notes what has to stand beside it. The
/// caller holds the network's locks exclusively, and makes what is noted.
pub(crate) fn meet(state: &State, search: &[PathBuf], network: &str) -> Result<(), Error> {
    let mut host = sockets::of_host()?;
    let look = LateFilters {
        state,
        search,
        others: others(),
    };
    look.forwarding(&mut host, network)?;
    look.names(&mut host, network)
}

struct LateFilters<'a> {
    state: &'a State,
    search: &'a [PathBuf],
    others: ForeignFilters,
}

impl LateFilters<'_> {
    fn dropping(
        &self,
        gate: FilterHook,
        own: Option<Variant>,
        mut checks: impl FnMut() -> Vec<PacketCheck>,
    ) -> Option<BackendKind> {
        let checks = Some(&mut checks as &mut dyn FnMut() -> Vec<PacketCheck>);
        dropping(self.search, gate, own, self.others, checks)
    }

    /// The records of a network. One that cannot be read is told by whatever repairs the network.
    fn records<R: AttachmentRecord>(&self, network: &str) -> Vec<(Key, R)> {
        let keys = self.state.records_of::<R>().attachments(network);
        keys.into_iter()
            .flatten()
            .filter_map(|key| {
                let record = self.state.read(&key).ok()??;
                Some((key, record))
            })
            .collect()
    }

    fn forwarding(&self, host: &mut RouteSocket, network: &str) -> Result<(), Error> {
        let attached = self.records::<FirewallRecord>(network);
        if let Some(mut record) = self.state.read_network::<NetworkPolicyRecord>(network)?
            && record.companion.is_none()
        {
            let addresses: Vec<IpAddr> = attached
                .iter()
                .flat_map(|(_, one)| one.addresses.clone())
                .collect();
            let bridge = record.policy.bridge.clone();
            let checks = || forwarded(host, &bridge, &addresses);
            if let Some(kind) = self.dropping(FilterHook::Forward, variant(record.backend), checks)
            {
                backends::claim_for(self.state, "firewall", network, kind)?;
                record.companion = Some((kind, record.policy.beside()));
                self.state.write_network(network, &record)?;
            }
        }
        for (key, mut one) in attached {
            if one.bridge.is_some() || one.companion.is_some() {
                continue;
            }
            let checks = || {
                let first = one.addresses.first();
                let link = first.and_then(|address| interface_to(host, *address));
                link.map_or(Vec::new(), |link| {
                    forwarded(host, &link.name, &one.addresses)
                })
            };
            let Some(kind) = self.dropping(FilterHook::Forward, variant(one.backend), checks)
            else {
                continue;
            };
            backends::claim_for(self.state, "firewall", network, kind)?;
            one.companion = Some(kind);
            self.state.write(&key, &one)?;
        }
        Ok(())
    }

    fn names(&self, host: &mut RouteSocket, network: &str) -> Result<(), Error> {
        let made: Option<ResolverRecord> = self.state.read_network(network)?;
        let Some((_, resolver)) = made.and_then(|mut made| made.resolvers.pop()) else {
            return Ok(());
        };
        if self.state.has_network::<OpeningsRecord>(network) {
            return Ok(());
        }
        let named: Vec<DnsRecord> = self
            .records(network)
            .into_iter()
            .map(|(_, record)| record)
            .collect();
        let named = || named.iter().map(|one| &one.record);
        let addresses: Vec<IpAddr> = named().flat_map(|one| one.addresses.clone()).collect();
        let gateways: Vec<IpAddr> = named().flat_map(|one| one.gateways.clone()).collect();
        let checks = || questions(host, &addresses, &gateways, resolver.port);
        if let Some(kind) = self.dropping(FilterHook::Input, None, checks) {
            note_opening(self.state, kind, opening(host, &resolver, &addresses))?;
        }
        Ok(())
    }
}

/// The variant of iptables that a backend is.
fn variant(kind: BackendKind) -> Option<Variant> {
    match kind {
        BackendKind::Nftables => None,
        BackendKind::IptablesNft => Some(Variant::Nft),
        BackendKind::IptablesLegacy => Some(Variant::Legacy),
    }
}
