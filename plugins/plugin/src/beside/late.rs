//! Others who came after the ADDs, such as a `ufw enable`: what has to stand beside them is noted, so that
//! `pontoon repair` makes it and DEL takes it away.

use std::net::IpAddr;
use std::path::PathBuf;

use pontoon_conf::Error;
use pontoon_netfilter::iptables::Variant;
use pontoon_netfilter::nft::{Gate, Others};
use pontoon_netfilter::{BackendKind, Opening, Resolver};
use pontoon_netlink::{IpNetwork, RouteSocket};
use serde::Deserialize;
use serde_json::Value;

use super::{Ask, dropping, forwarded, interface_to, others, questions};
use crate::policy::Stance;
use crate::{Key, State, backends, kernel_error};

/// What of the record of `firewall` is needed here.
#[derive(Deserialize)]
struct Held {
    backend: BackendKind,
    bridge: Option<String>,
    addresses: Vec<IpAddr>,
    #[serde(default)]
    companion: Option<BackendKind>,
}

/// What of the record of `dns` is needed here.
#[derive(Deserialize)]
struct Named {
    addresses: Vec<IpAddr>,
    gateways: Vec<IpAddr>,
}

/// Notes of the plugin `dns` about networks.
#[must_use]
pub fn names(state: &State) -> State {
    state.within("dns")
}

/// The ways into the host that were made for a network's questions to the resolver, by backend.
#[must_use]
pub fn openings(state: &State, network: &str) -> Vec<(BackendKind, Opening)> {
    names(state).read_policy(network).unwrap_or_default()
}

/// Notes a way into the host that is about to be made; what is noted of the network already is kept in
/// it. Returns all of it.
///
/// # Errors
/// Code 5 with the path.
pub fn note_opening(state: &State, kind: BackendKind, opening: Opening) -> Result<Opening, Error> {
    let mut noted = openings(state, &opening.network);
    let network = opening.network.clone();
    backends::claim_for(state, "dns", &network, kind)?;
    let known = noted.iter().position(|(known, _)| *known == kind);
    let all = match known.map(|at| noted.swap_remove(at).1) {
        None => opening,
        Some(former) => {
            let all = joined(former.clone(), opening);
            if all == former {
                return Ok(all);
            }
            all
        }
    };
    noted.push((kind, all.clone()));
    names(state).write_policy(&network, &noted)?;
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

/// Looks again whether somebody drops what a network needs, and notes what has to stand beside it. The
/// caller holds the network's locks exclusively, and makes what is noted.
pub(crate) fn meet(state: &State, search: &[PathBuf], network: &str) -> Result<(), Error> {
    let mut host =
        RouteSocket::open().map_err(|error| kernel_error("cannot open a route socket", &error))?;
    let look = Look {
        state,
        search,
        others: others(),
    };
    look.forwarding(&mut host, network)?;
    look.names(&mut host, network)
}

struct Look<'a> {
    state: &'a State,
    search: &'a [PathBuf],
    others: Others,
}

impl Look<'_> {
    fn dropping(
        &self,
        gate: Gate,
        own: Option<Variant>,
        mut asks: impl FnMut() -> Vec<Ask>,
    ) -> Option<BackendKind> {
        let asks = Some(&mut asks as &mut dyn FnMut() -> Vec<Ask>);
        dropping(self.search, self.state, gate, own, self.others, asks)
    }

    fn forwarding(&self, host: &mut RouteSocket, network: &str) -> Result<(), Error> {
        let records = self.state.records("firewall");
        let keys = records.attachments(network).into_iter();
        let held: Vec<(Key, Held)> = keys
            .filter_map(|key| Some((key.clone(), records.read(&key)?)))
            .collect();
        if let Some(mut stance) = self.state.read_policy::<Stance>(network)
            && stance.companion.is_none()
        {
            let addresses: Vec<IpAddr> = held
                .iter()
                .flat_map(|(_, one)| one.addresses.clone())
                .collect();
            let bridge = stance.policy.bridge.clone();
            let asks = || forwarded(host, &bridge, &addresses);
            if let Some(kind) = self.dropping(Gate::Forward, variant(stance.backend), asks) {
                backends::claim_for(self.state, "firewall", network, kind)?;
                stance.companion = Some((kind, stance.policy.beside()));
                self.state.write_policy(network, &stance)?;
            }
        }
        for (key, one) in held {
            if one.bridge.is_some() || one.companion.is_some() {
                continue;
            }
            let asks = || {
                let first = one.addresses.first();
                let link = first.and_then(|address| interface_to(host, *address));
                link.map_or(Vec::new(), |link| {
                    forwarded(host, &link.name, &one.addresses)
                })
            };
            let Some(kind) = self.dropping(Gate::Forward, variant(one.backend), asks) else {
                continue;
            };
            backends::claim_for(self.state, "firewall", network, kind)?;
            if let (Some(Value::Object(mut record)), Ok(kind)) =
                (records.read(&key), serde_json::to_value(kind))
            {
                record.insert("companion".to_owned(), kind);
                records.write(&key, &record)?;
            }
        }
        Ok(())
    }

    fn names(&self, host: &mut RouteSocket, network: &str) -> Result<(), Error> {
        let made: Option<Vec<(BackendKind, Resolver)>> = names(self.state).read_network(network);
        let Some((_, resolver)) = made.and_then(|mut made| made.pop()) else {
            return Ok(());
        };
        if !openings(self.state, network).is_empty() {
            return Ok(());
        }
        let records = self.state.records("dns/records");
        let keys = records.attachments(network).into_iter();
        let named: Vec<Named> = keys.filter_map(|key| records.read(&key)).collect();
        let addresses: Vec<IpAddr> = named.iter().flat_map(|one| one.addresses.clone()).collect();
        let gateways: Vec<IpAddr> = named.iter().flat_map(|one| one.gateways.clone()).collect();
        let asks = || questions(host, &addresses, &gateways, resolver.port);
        if let Some(kind) = self.dropping(Gate::Input, None, asks) {
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
