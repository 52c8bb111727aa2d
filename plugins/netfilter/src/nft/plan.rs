//! What a ruleset means in chains and elements. Pure: nothing here asks the kernel.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use ipnetwork::IpNetwork;
use sha2::{Digest, Sha256};

use super::condition::{self, Condition};
use super::element::{
    Data, Element, interface_key, interface_mac_key, port_key, subnet_keys, target,
};
use super::error::Error;
use super::expression::{Compare, Meta, Rule, Verdict};
use super::message::Family;
use super::sets::{ALLOWED, BRIDGES, GUARDED, maps};
use super::skeleton::Part;
use super::subnets::LOOPBACK;
use crate::interface::interface;
use crate::owner::Owner;
use crate::protocol::Protocol;
use crate::rules::{Egress, NetworkRules, Port, Published, Resolver, SpoofGuard};

/// What one table must hold.
pub(super) struct Plan {
    pub(super) part: Part,
    pub(super) family: Family,
    pub(super) chains: Vec<PlannedChain>,
    pub(super) elements: Vec<PlannedElement>,
    /// The fixed chains are wanted even without an element.
    pub(super) base: bool,
}

/// A chain that only jumps from elements lead to. Named by a hash of its contents, so that a chain
/// of this name never holds other rules.
pub(super) struct PlannedChain {
    pub(super) name: String,
    pub(super) rules: Vec<Rule>,
    pub(super) comment: String,
    pub(super) users: ChainUsers,
}

/// Who refers to a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChainUsers {
    /// One element of the network.
    Network,
    /// The containers of one subnet.
    Containers,
    /// One element of an attachment.
    Attachment,
}

/// An element, and what it is for.
#[derive(Debug, Clone)]
pub(super) struct PlannedElement {
    pub(super) element: Element,
    pub(super) purpose: ElementPurpose,
}

/// What an element is for, which decides what happens when its key is there already.
#[derive(Debug, Clone, Copy)]
pub(super) enum ElementPurpose {
    /// A published port: another owner's is an error.
    Port(Port),
    /// The way back of a container: what another owner left there is replaced, since addresses
    /// are given out by the allocator, which knows.
    Hairpin,
    /// A subnet: another owner's will do when it says the same.
    Egress(IpNetwork),
    /// A bridge: any will do.
    Bridge,
    /// A bridge port: as hairpin.
    Spoof,
    /// A link: as hairpin.
    Link,
    /// What a policy says of a bridge: another network's will do when it says the same. A chain that it leads to is
    /// its own.
    Policy,
    /// What a policy does not say of a bridge: another network's must not say it either.
    Absent,
    /// What the policy of our network said before.
    Gone,
    /// The resolver at a gateway: what leads elsewhere is replaced.
    Resolver,
}

impl ElementPurpose {
    /// Belongs to the network and is therefore usually there already.
    pub(super) fn shared(self) -> bool {
        matches!(
            self,
            Self::Egress(_)
                | Self::Bridge
                | Self::Policy
                | Self::Absent
                | Self::Gone
                | Self::Resolver
        )
    }
}

impl Plan {
    pub(super) fn new(part: Part) -> Self {
        Self {
            part,
            family: part.family(),
            chains: Vec::new(),
            elements: Vec::new(),
            base: false,
        }
    }

    pub(super) fn element(
        &mut self,
        purpose: ElementPurpose,
        set: &'static str,
        key: Vec<u8>,
        data: Data,
        tag: &str,
    ) {
        let element = Element {
            set,
            key,
            end: None,
            data,
            tag: tag.to_owned(),
        };
        self.elements.push(PlannedElement { element, purpose });
    }

    pub(super) fn network(&mut self, network: &NetworkRules) -> Result<(), Error> {
        let tag = Owner::network(&network.network).tag();
        interface(&network.bridge)?;
        self.element(
            ElementPurpose::Bridge,
            BRIDGES,
            interface_key(&network.bridge),
            Data::Nothing,
            &tag,
        );
        for egress in &network.egress {
            let subnet = egress.subnet;
            let name = format!("egress-{}", hash(&spelled(egress)));
            let (key, end) = subnet_keys(subnet);
            let element = Element {
                set: maps(subnet.is_ipv6()).egress,
                key,
                end,
                data: Data::Jump(name.clone()),
                tag: tag.clone(),
            };
            self.elements.push(PlannedElement {
                element,
                purpose: ElementPurpose::Egress(subnet),
            });
            self.chains.push(PlannedChain {
                name,
                rules: egress_rules(egress)?,
                comment: tag.clone(),
                users: ChainUsers::Network,
            });
        }
        Ok(())
    }

    pub(super) fn published(&mut self, published: &Published) -> Result<(), Error> {
        let v4 = condition::parse(&published.conditions_v4, false)?;
        let v6 = condition::parse(&published.conditions_v6, true)?;
        self.ports(published, &v4, &v6);
        match self.drop_repeated() {
            Some(port) => Err(Error::PortTwice { port }),
            None => Ok(()),
        }
    }

    /// As [`Self::published`], for what is to be found and removed: keys do not depend on what
    /// the conditions say.
    pub(super) fn published_keys(&mut self, published: &Published) {
        let dummy = |given: &[String]| given.iter().map(|_| Condition::default()).collect();
        let v4: Vec<_> = dummy(&published.conditions_v4);
        let v6: Vec<_> = dummy(&published.conditions_v6);
        self.ports(published, &v4, &v6);
        self.drop_repeated();
    }

    /// One key, one element: a transaction would trip over itself. Tells a port that is to lead to
    /// two targets.
    pub(super) fn drop_repeated(&mut self) -> Option<Port> {
        let mut seen: HashMap<(&'static str, Vec<u8>), Data> = HashMap::new();
        let mut twice = None;
        self.elements.retain(|PlannedElement { element, purpose }| {
            match seen.entry((element.set, element.key.clone())) {
                Entry::Vacant(place) => {
                    place.insert(element.data.clone());
                    true
                }
                Entry::Occupied(there) => {
                    if let (ElementPurpose::Port(port), true) =
                        (purpose, *there.get() != element.data)
                    {
                        twice = Some(*port);
                    }
                    false
                }
            }
        });
        twice
    }

    fn ports(&mut self, published: &Published, v4: &[Condition], v6: &[Condition]) {
        let tag = published.owner.tag();
        for (container, conditions) in [(published.v4, v4), (published.v6, v6)] {
            let Some(container) = container else { continue };
            let ours = published.ports.iter().filter(|port| {
                port.host_ip
                    .is_none_or(|host| host.is_ipv6() == container.is_ipv6())
            });
            if conditions.is_empty() {
                for port in ours {
                    self.plain_port(container, *port, &tag);
                }
            } else {
                let mut ours: Vec<Port> = ours.copied().collect();
                // The narrower address first, as in the maps.
                ours.sort_by_key(|port| (port.protocol, port.host_port, port.host_ip.is_none()));
                for same_port in ours.chunk_by(|one, next| {
                    (one.protocol, one.host_port) == (next.protocol, next.host_port)
                }) {
                    self.conditional_port(container, same_port, conditions, &tag);
                }
            }
            if published.snat || published.masquerade_all {
                let all = published.masquerade_all;
                self.hairpin(container, &published.nearby(container), all, &tag);
            }
        }
    }

    fn plain_port(&mut self, container: IpNetwork, port: Port, tag: &str) {
        let maps = maps(container.is_ipv6());
        // `0.0.0.0` and `::` mean every address of their family.
        let at = port.host_ip.filter(|host| !host.is_unspecified());
        let set = if at.is_some() {
            maps.ports_at
        } else {
            maps.ports
        };
        let key = port_key(at, port.protocol, port.host_port);
        let data = target(container.ip(), port.container_port);
        self.element(ElementPurpose::Port(port), set, key, data, tag);
    }

    fn conditional_port(
        &mut self,
        container: IpNetwork,
        ports: &[Port],
        conditions: &[Condition],
        tag: &str,
    ) {
        let Some(first) = ports.first() else { return };
        let v6 = container.is_ipv6();
        let name = format!(
            "cond-{}",
            hash(&format!("{tag} {container} {ports:?} {conditions:?}"))
        );
        let rules = ports
            .iter()
            .map(|port| {
                let at = port.host_ip.filter(|host| !host.is_unspecified());
                let rule = conditions
                    .iter()
                    .fold(Rule::default(), |rule, one| one.apply(rule));
                let rule = match at {
                    Some(at) => rule.address(false, Compare::Equal, IpNetwork::from(at)),
                    None => rule.family(v6),
                };
                rule.dnat(container.ip(), port.container_port)
            })
            .collect();
        self.element(
            ElementPurpose::Port(*first),
            maps(v6).conditional,
            port_key(None, first.protocol, first.host_port),
            Data::Jump(name.clone()),
            tag,
        );
        self.chains.push(PlannedChain {
            name,
            rules,
            comment: tag.to_owned(),
            users: ChainUsers::Attachment,
        });
    }

    fn hairpin(&mut self, container: IpNetwork, nearby: &[IpNetwork], all: bool, tag: &str) {
        let v6 = container.is_ipv6();
        let subnets: Vec<String> = nearby.iter().map(IpNetwork::to_string).collect();
        let subnets = subnets.join(" ");
        let name = format!("hairpin-{}", hash(&format!("{subnets} {all}")));
        let mut rules = Vec::new();
        if all {
            rules.push(Rule::default().masquerade());
        } else {
            let loopback = (!v6).then_some(LOOPBACK);
            rules.extend(nearby.iter().copied().chain(loopback).map(|source| {
                Rule::default()
                    .address(true, Compare::Equal, source)
                    .masquerade()
            }));
        }
        self.element(
            ElementPurpose::Hairpin,
            maps(v6).hairpin,
            super::expression::octets(container.ip()),
            Data::Jump(name.clone()),
            tag,
        );
        // Network and container share it, so the comment says what it is for. The kernel takes 128
        // bytes of it.
        let mut comment = format!("hairpin {subnets}");
        comment.truncate(120);
        self.chains.push(PlannedChain {
            name,
            rules,
            comment,
            users: ChainUsers::Containers,
        });
    }

    pub(super) fn resolver(&mut self, resolver: &Resolver) {
        const DOMAIN: u16 = 53;
        let tag = Owner::network(&resolver.network).tag();
        for gateway in &resolver.gateways {
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                self.element(
                    ElementPurpose::Resolver,
                    maps(gateway.is_ipv6()).resolver,
                    port_key(Some(*gateway), protocol, DOMAIN),
                    target(*gateway, resolver.port),
                    &tag,
                );
            }
        }
        self.drop_repeated();
    }

    pub(super) fn spoof_guard(&mut self, guard: &SpoofGuard) -> Result<(), Error> {
        interface(&guard.port)?;
        let tag = guard.owner.tag();
        let allowed = interface_mac_key(&guard.port, guard.mac);
        self.element(ElementPurpose::Spoof, ALLOWED, allowed, Data::Nothing, &tag);
        let guarded = interface_key(&guard.port);
        self.element(ElementPurpose::Spoof, GUARDED, guarded, Data::Nothing, &tag);
        Ok(())
    }
}

/// What an egress chain does, in a spelling that stays: chains are found again by its hash.
fn spelled(egress: &Egress) -> String {
    let subnet = egress.subnet;
    let mut text = format!("{}/{}", subnet.network(), subnet.prefix());
    for snat in &egress.snat {
        text.push_str(&format!(
            " {} {}",
            snat.source,
            snat.out.as_deref().unwrap_or_default()
        ));
    }
    text
}

fn egress_rules(egress: &Egress) -> Result<Vec<Rule>, Error> {
    let subnet = egress.subnet;
    let mut rules = vec![
        Rule::default()
            .address(false, Compare::Equal, subnet)
            .verdict(Verdict::Return),
    ];
    for snat in &egress.snat {
        if snat.source.is_ipv6() != subnet.is_ipv6() {
            return Err(Error::WrongFamily {
                subnet,
                source_address: snat.source,
            });
        }
        let rule = match &snat.out {
            Some(out) => {
                interface(out)?;
                Rule::default().named(Meta::OutputName, Compare::Equal, out)
            }
            None => Rule::default(),
        };
        rules.push(rule.snat(snat.source));
    }
    if egress.snat.iter().all(|snat| snat.out.is_some()) {
        rules.push(Rule::default().masquerade());
    }
    Ok(rules)
}

pub(super) fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes())
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
