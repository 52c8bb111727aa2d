//! What the resolver knows: built from records one by one, asked by name, by address, and by who
//! asks. A change costs the same however many records there are.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;

// Each query takes up to six lookups, some by ids of 64 bytes. The seed is random.
use foldhash::fast::RandomState;
pub use pontoon_ledger::Key;
use pontoon_netlink::IpNetwork;

use crate::name::{Name, is_localhost, strip};
use crate::record::{Link, Record, RemoteNames, Upstream};
use crate::wire::{CLASS_IN, HEADER, kind};

/// One container on one network. There may be tens of thousands: what they have in common is held once.
#[derive(Debug)]
pub struct Attachment {
    /// Container id.
    pub container: Rc<str>,
    /// What others of the network have too.
    pub shared: Rc<Shared>,
    /// What its addresses are called.
    pub own: Option<Name>,
    /// All its names, the first one included, each once.
    pub names: Box<[Name]>,
    /// Those of them that are the container's id, whole and short, or the name of the service whose own address this
    /// is: another container's name or alias that is the same does not count.
    pub ids: Box<[Name]>,
    /// Alias and target of each link.
    pub links: Box<[(Name, Name)]>,
    /// Its addresses.
    pub addresses: Box<[IpAddr]>,
    /// The same as A and as AAAA records whose owner is the name that was asked for: what a reply has
    /// behind the question.
    pub ready: [Box<[u8]>; 2],
    /// The container's own servers; when there are any, only these are asked.
    pub servers: Box<[IpAddr]>,
    /// Where they are asked from.
    pub netns: Option<Box<Path>>,
}

impl Attachment {
    /// What its record's file is called by.
    #[must_use]
    pub fn key(&self) -> Key {
        Key {
            network: self.shared.network.clone(),
            container: self.container.to_string(),
            interface: self.shared.interface.clone(),
        }
    }

    fn is_of(&self, key: &Key) -> bool {
        *self.container == *key.container
            && self.shared.network == key.network
            && self.shared.interface == key.interface
    }
}

/// What the attachments of a network have in common, as a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shared {
    /// Network name.
    pub network: String,
    /// Interface name in the container.
    pub interface: String,
    /// The network's name as a domain name.
    pub label: Option<Name>,
    /// The network's domain.
    pub domain: Name,
    /// Where its containers reach the resolver.
    pub gateways: Vec<IpAddr>,
    /// Time to live of answers about them, in seconds.
    pub ttl: u32,
    /// Whether the network has no way to the outside.
    pub internal: bool,
    /// The subnets of the addresses.
    pub subnets: Vec<IpNetwork>,
    /// The network's servers, else those that `resolv_conf` names.
    pub upstreams: Vec<Upstream>,
    /// The network's servers for names below a domain, which come before those.
    pub domains: Vec<(Name, Vec<Upstream>)>,
    /// File of the certificate authorities of servers over TLS; `None` is the host's.
    pub upstreams_ca: Option<PathBuf>,
    /// A file of the host.
    pub resolv_conf: PathBuf,
}

impl Shared {
    /// The domain that has servers of its own, the longest one that the name is or ends with, and
    /// its servers. The name is in lower case.
    #[must_use]
    pub fn servers_for(&self, name: &[u8]) -> Option<(&Name, &[Upstream])> {
        self.domains
            .iter()
            .filter(|(domain, _)| strip(name, domain.wire()).is_some())
            .max_by_key(|(domain, _)| domain.wire().len())
            .map(|(domain, servers)| (domain, servers.as_slice()))
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Querier<'z> {
    /// A container, by its id.
    Container(&'z str),
    /// A process of the host.
    Host,
    /// A sender that no record tells of.
    Stranger,
}

type Map<K, V> = HashMap<K, V, RandomState>;

/// Places in the zone's list: one, as a rule.
#[derive(Debug)]
enum Indices {
    One(u32),
    #[expect(
        clippy::box_collection,
        reason = "the usual case, one index, stays as small as a pointer"
    )]
    Many(Box<Vec<u32>>),
}

impl Indices {
    fn as_slice(&self) -> &[u32] {
        match self {
            Self::One(index) => std::slice::from_ref(index),
            Self::Many(indices) => indices,
        }
    }

    fn push(&mut self, index: u32) {
        match self {
            Self::One(first) => *self = Self::Many(Box::new(vec![*first, index])),
            Self::Many(indices) => indices.push(index),
        }
    }

    /// Takes an index out; `true` when there is none left.
    fn remove(&mut self, index: u32) -> bool {
        match self {
            Self::One(known) => *known == index,
            Self::Many(indices) => {
                indices.retain(|known| *known != index);
                indices.is_empty()
            }
        }
    }
}

/// All records, and where to find what in them.
#[derive(Debug, Default)]
pub struct Zone {
    slots: Vec<Option<Box<Attachment>>>,
    free: Vec<u32>,
    shared: HashSet<Rc<Shared>, RandomState>,
    names: Map<Name, Indices>,
    addresses: Map<IpAddr, Indices>,
    containers: Map<Rc<str>, Indices>,
    /// How many attachments of each network reach the resolver there, and how many of them say that
    /// the network is internal.
    gateways: Map<IpAddr, HashMap<Box<str>, (usize, usize)>>,
    changes: u64,
    networks: Map<Name, usize>,
    domains: Map<Name, usize>,
}

impl Zone {
    /// Grows whenever a gateway has come or gone.
    #[must_use]
    pub fn gateway_changes(&self) -> u64 {
        self.changes
    }

    /// Takes a record in, in place of an older one of the same key. Returns what of it can be no
    /// domain name and is left out.
    pub fn insert(&mut self, record: Record) -> Vec<String> {
        let mut unfit = Vec::new();
        let mut attachment = attachment(record, &mut unfit);
        self.remove(&attachment.key());
        match self.shared.get(&attachment.shared) {
            Some(shared) => attachment.shared = Rc::clone(shared),
            None => drop(self.shared.insert(Rc::clone(&attachment.shared))),
        }
        let known = self.containers.get_key_value(&attachment.container);
        if let Some((container, _)) = known {
            attachment.container = Rc::clone(container);
        }
        let index = self.free.pop().unwrap_or(self.slots.len() as u32);
        for name in &attachment.names {
            push(&mut self.names, name, index);
        }
        // The containers of a service have records of their own, by which they are known when they ask.
        let is_list = RemoteNames::service_of(&attachment.container).is_some();
        if !is_list || attachment.own.is_some() {
            for address in &attachment.addresses {
                push(&mut self.addresses, address, index);
            }
        }
        push(&mut self.containers, &attachment.container, index);
        let shared = &attachment.shared;
        for gateway in &shared.gateways {
            let users = self.gateways.entry(*gateway).or_default();
            self.changes += u64::from(users.is_empty());
            let (all, internal) = users.entry(shared.network.as_str().into()).or_default();
            *all += 1;
            *internal += usize::from(shared.internal);
        }
        if let Some(label) = &shared.label {
            *self.networks.entry(label.clone()).or_default() += 1;
        }
        *self.domains.entry(shared.domain.clone()).or_default() += 1;
        let attachment = Some(Box::new(attachment));
        match self.slots.get_mut(index as usize) {
            Some(slot) => *slot = attachment,
            None => self.slots.push(attachment),
        }
        unfit
    }

    /// Forgets a record; `false` when there was none.
    pub fn remove(&mut self, key: &Key) -> bool {
        let indices = self.containers.get(key.container.as_str());
        let mut indices = indices.map_or(&[][..], Indices::as_slice).iter().copied();
        let Some(index) =
            indices.find(|index| self.get(*index).is_some_and(|found| found.is_of(key)))
        else {
            return false;
        };
        let Some(attachment) = self.slots.get_mut(index as usize).and_then(Option::take) else {
            return false;
        };
        for name in &attachment.names {
            drop_index(&mut self.names, name, index);
        }
        for address in &attachment.addresses {
            drop_index(&mut self.addresses, address, index);
        }
        drop_index(&mut self.containers, &attachment.container, index);
        let shared = attachment.shared;
        for gateway in &shared.gateways {
            let Entry::Occupied(mut users) = self.gateways.entry(*gateway) else {
                continue;
            };
            if let Some((all, internal)) = users.get_mut().get_mut(key.network.as_str()) {
                *all -= 1;
                *internal -= usize::from(shared.internal);
                if *all == 0 {
                    users.get_mut().remove(key.network.as_str());
                }
            }
            if users.get().is_empty() {
                users.remove();
                self.changes += 1;
            }
        }
        if let Some(label) = &shared.label {
            discount(&mut self.networks, label);
        }
        discount(&mut self.domains, &shared.domain);
        // This one and the set's own.
        if Rc::strong_count(&shared) == 2 {
            self.shared.remove(&shared);
        }
        self.free.push(index);
        true
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The keys of all records.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.attachments().map(Attachment::key)
    }

    /// The attachment of a record.
    #[must_use]
    pub fn of_key(&self, key: &Key) -> Option<&Attachment> {
        self.of_container(&key.container)
            .find(|attachment| attachment.is_of(key))
    }

    /// All attachments.
    pub fn attachments(&self) -> impl Iterator<Item = &Attachment> {
        self.slots.iter().flatten().map(Box::as_ref)
    }

    /// Where the resolver is reached.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.gateways.keys().copied()
    }

    /// Whether the resolver is reached there.
    #[must_use]
    pub fn is_gateway(&self, address: IpAddr) -> bool {
        self.gateways.contains_key(&address)
    }

    /// The networks whose containers reach the resolver there, and whether a record says that the
    /// network is internal.
    pub fn networks_at(&self, gateway: IpAddr) -> impl Iterator<Item = (&str, bool)> {
        self.gateways
            .get(&gateway)
            .into_iter()
            .flatten()
            .map(|(network, (_, internal))| (&**network, *internal > 0))
    }

    /// Who asks from this address. A container's address beats all else; a host asks from the
    /// address that it asks at.
    #[must_use]
    pub fn querier(&self, source: IpAddr) -> Querier<'_> {
        match self.at(source) {
            Some(attachment) => Querier::Container(&attachment.container),
            None if source.is_loopback() || self.is_gateway(source) => Querier::Host,
            None => Querier::Stranger,
        }
    }

    /// The attachment with this address; the last one that said so.
    #[must_use]
    pub fn at(&self, address: IpAddr) -> Option<&Attachment> {
        self.get(*self.addresses.get(&address)?.as_slice().last()?)
    }

    fn get(&self, index: u32) -> Option<&Attachment> {
        self.slots.get(index as usize)?.as_deref()
    }

    /// The attachments of a container.
    pub fn of_container(&self, id: &str) -> impl Iterator<Item = &Attachment> {
        self.indices(self.containers.get(id))
    }

    fn indices<'z>(&'z self, indices: Option<&'z Indices>) -> impl Iterator<Item = &'z Attachment> {
        indices
            .map_or(&[][..], Indices::as_slice)
            .iter()
            .filter_map(|index| self.get(*index))
    }

    /// Whether the asker is on a network.
    #[must_use]
    pub fn on_network(&self, querier: Querier<'_>, network: &str) -> bool {
        match querier {
            Querier::Host => true,
            Querier::Stranger => false,
            Querier::Container(id) => self
                .of_container(id)
                .any(|attachment| attachment.shared.network == network),
        }
    }

    /// Attachments of a name that the asker may know of.
    pub fn named<'z>(
        &'z self,
        querier: Querier<'z>,
        name: &'z [u8],
    ) -> impl Iterator<Item = &'z Attachment> {
        let known = move || {
            self.indices(self.names.get(name))
                .filter(move |attachment| self.on_network(querier, &attachment.shared.network))
        };
        let is_id = move |one: &&Attachment| one.ids.iter().any(|id| id.wire() == name);
        let by_id = known().any(|one| is_id(&one));
        known().filter(move |one| !by_id || is_id(one))
    }

    /// The domain of the asker's networks that a name ends with, the longest one, and what stands
    /// before it.
    #[must_use]
    pub fn domain<'n, 'z>(
        &'z self,
        querier: Querier<'_>,
        name: &'n [u8],
    ) -> Option<(&'z Name, &'n [u8])> {
        let longest = |found: Option<(&'z Name, &'n [u8])>, domain: &'z Name| {
            let head = strip(name, domain.wire());
            match (found, head) {
                (Some((known, _)), Some(_)) if known.wire().len() >= domain.wire().len() => found,
                (_, Some(head)) => Some((domain, head)),
                (_, None) => found,
            }
        };
        match querier {
            Querier::Stranger => None,
            Querier::Host => self.domains.keys().fold(None, longest),
            Querier::Container(id) => self
                .of_container(id)
                .map(|attachment| &attachment.shared.domain)
                .fold(None, longest),
        }
    }

    /// The asker's network that a name ends with, and what stands before it.
    #[must_use]
    pub fn network<'n, 'z>(
        &'z self,
        querier: Querier<'_>,
        name: &'n [u8],
    ) -> Option<(&'z Name, &'n [u8])> {
        let ends = |network: &'z Name| strip(name, network.wire()).map(|head| (network, head));
        match querier {
            Querier::Stranger => None,
            Querier::Host => self.networks.keys().find_map(ends),
            Querier::Container(id) => self
                .of_container(id)
                .filter_map(|attachment| attachment.shared.label.as_ref())
                .find_map(ends),
        }
    }

    /// What a container calls others by its links: the target of an alias.
    #[must_use]
    pub fn link(&self, querier: Querier<'_>, alias: &[u8]) -> Option<&Name> {
        let Querier::Container(id) = querier else {
            return None;
        };
        self.of_container(id)
            .flat_map(|attachment| &attachment.links)
            .find_map(|(known, target)| (known.wire() == alias).then_some(target))
    }
}

/// Address records behind a question, the owner's name a pointer to it (RFC 1035 section 4.1.4).
fn prepare(addresses: &[IpAddr], v4: bool, ttl: u32) -> Box<[u8]> {
    let mut records = Vec::new();
    let mut known: Vec<IpAddr> = Vec::new();
    for address in addresses.iter().filter(|address| address.is_ipv4() == v4) {
        if known.contains(address) {
            continue;
        }
        known.push(*address);
        let kind = if v4 { kind::A } else { kind::AAAA };
        records.extend_from_slice(&[0xc0, HEADER as u8, 0, kind as u8, 0, CLASS_IN as u8]);
        records.extend_from_slice(&ttl.to_be_bytes());
        match address {
            IpAddr::V4(ip) => {
                records.extend_from_slice(&[0, 4]);
                records.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                records.extend_from_slice(&[0, 16]);
                records.extend_from_slice(&ip.octets());
            }
        }
    }
    records.into()
}

fn push<K: Hash + Eq + Clone>(map: &mut Map<K, Indices>, key: &K, index: u32) {
    match map.entry(key.clone()) {
        Entry::Occupied(mut there) => there.get_mut().push(index),
        Entry::Vacant(place) => drop(place.insert(Indices::One(index))),
    }
}

fn drop_index<K: Hash + Eq + Clone>(map: &mut Map<K, Indices>, key: &K, index: u32) {
    if let Entry::Occupied(mut there) = map.entry(key.clone())
        && there.get_mut().remove(index)
    {
        there.remove();
    }
}

/// Whether that was the last one.
fn discount<K: Hash + Eq + Clone>(map: &mut Map<K, usize>, key: &K) -> bool {
    let Entry::Occupied(mut there) = map.entry(key.clone()) else {
        return false;
    };
    *there.get_mut() -= 1;
    let last = *there.get() == 0;
    if last {
        there.remove();
    }
    last
}

/// Characters of Docker's short container ids.
const SHORT_ID: usize = 12;

/// The domain of networks that say none, or none that can be.
pub const DOMAIN: &str = "dns.pontoon";

fn attachment(record: Record, unfit: &mut Vec<String>) -> Attachment {
    let mut read = |text: &str| {
        // RFC 6761 section 6.3: such a name means the asking machine.
        let name = Name::parse(text).filter(|name| !is_localhost(name.wire()));
        if name.is_none() {
            unfit.push(text.to_owned());
        }
        name
    };
    let own = record.names.first().and_then(|name| read(name));
    let mut names: Vec<Name> = own.clone().into_iter().collect();
    for text in record.names.iter().skip(1).chain(&record.aliases) {
        if let Some(name) = read(text)
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    let service = RemoteNames::service_of(&record.container);
    let id = service.unwrap_or(&record.container);
    let short = id.get(..SHORT_ID).filter(|_| service.is_none());
    let ids = [Some(id), short];
    let ids: Vec<_> = ids.into_iter().flatten().filter_map(Name::parse).collect();
    let links = record
        .links
        .iter()
        .filter_map(|Link { target, alias }| Some((read(alias)?, read(target)?)))
        .collect();
    let domain = read(&record.domain)
        .or_else(|| Name::parse(DOMAIN))
        .unwrap_or_else(|| unreachable!("the default domain is a name"));
    let label = read(&record.network);
    let domains = record
        .domains
        .into_iter()
        .filter_map(|domain| Some((read(&domain.name)?, domain.servers)))
        .collect();
    Attachment {
        own,
        names: names.into(),
        ids: ids.into(),
        links,
        ready: [true, false].map(|v4| prepare(&record.addresses, v4, record.ttl)),
        addresses: record.addresses.into(),
        servers: record.servers.into(),
        netns: record.netns.map(PathBuf::into_boxed_path),
        container: record.container.into(),
        shared: Rc::new(Shared {
            network: record.network,
            interface: record.interface,
            label,
            domain,
            gateways: record.gateways,
            ttl: record.ttl,
            internal: record.internal,
            subnets: record.subnets,
            upstreams: record.upstreams,
            domains,
            upstreams_ca: record.upstreams_ca,
            resolv_conf: record.resolv_conf,
        }),
    }
}

#[cfg(test)]
#[path = "zone_tests.rs"]
mod tests;
