//! Facts: who is attached, as the state directory and the kernel tell it.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::SystemTime;

use pontoon_conf::OperationError;
use pontoon_ledger::kinds::{self, Role};
use pontoon_ledger::{
    AttachmentRecord, AttachmentSummary, Key, NetworkPolicyRecord, NetworkRecord, PerNetworkRecord,
    PortmapRecord, RecordError, State, THIRD_PARTY, attachments,
};
use pontoon_netfilter::{BackendKind, Ingress, Owner, Policy};
use pontoon_netlink::{Link, Netns, RouteSocket};
use serde::Serialize;

use crate::linked::{self, Linked};
use crate::report::Failure;

/// One attachment.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Attachment {
    pub(crate) id: String,
    pub(crate) names: Vec<String>,
    pub(crate) network: String,
    pub(crate) interface: String,
    pub(crate) mode: &'static str,
    /// Its interface's addresses, with prefix lengths.
    pub(crate) addresses: Vec<String>,
    pub(crate) ports: Vec<Port>,
    /// `CNI_NETNS`, or for mode container the namespace that it shares.
    pub(crate) netns: String,
    /// The namespace is there.
    pub(crate) alive: bool,
    /// Its bridge on the host.
    pub(crate) bridge: Option<String>,
    /// The host's end of its veth pair.
    pub(crate) host_interface: Option<String>,
    /// Id of the container whose network it shares.
    pub(crate) shares: Option<String>,
    pub(crate) links: Vec<Linked>,
    pub(crate) age_seconds: u64,
    /// Its interface is there, where it has one of its own.
    #[serde(skip)]
    pub(crate) wired: bool,
    #[serde(skip)]
    pub(crate) about: Option<AttachmentSummary>,
}

/// One published port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Port {
    /// `None`: every address of the host.
    pub(crate) host_ip: Option<IpAddr>,
    pub(crate) host_port: u16,
    pub(crate) container_port: u16,
    pub(crate) protocol: String,
    pub(crate) backend: String,
}

/// One network.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Network {
    pub(crate) name: String,
    pub(crate) mode: &'static str,
    pub(crate) bridge: Option<String>,
    pub(crate) up: bool,
    /// Addresses of the bridge: the gateways.
    pub(crate) gateways: Vec<String>,
    /// How traffic leaves: `masquerade`, or the source addresses.
    pub(crate) egress: Vec<String>,
    pub(crate) backend: Option<String>,
    /// What its policy keeps from passing: `icc off`, `internal`, … Empty without a policy.
    pub(crate) closed: Vec<&'static str>,
    /// Its bridge has no way out.
    pub(crate) internal: bool,
    pub(crate) containers: usize,
}

/// The host.
pub(crate) struct Host {
    pub(crate) state: State,
    /// What the records of all plugins tell.
    pub(crate) recorded: Vec<attachments::Attachment>,
    /// Networks with a record of their own.
    recorded_networks: Vec<String>,
    pub(crate) links: Vec<Link>,
    pub(crate) socket: RouteSocket,
    /// What could not be read, and has been told.
    told: RefCell<BTreeSet<String>>,
    /// Looked at once: each look enters the namespace of each container.
    attachments: OnceCell<Rc<Vec<Attachment>>>,
}

pub(crate) fn backend_name(kind: BackendKind) -> String {
    let value = serde_json::to_value(kind).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

impl Attachment {
    /// What it is known by everywhere.
    pub(crate) fn key(&self) -> Key {
        Key {
            network: self.network.clone(),
            container: self.id.clone(),
            interface: self.interface.clone(),
        }
    }

    /// Its addresses, without prefix lengths.
    pub(crate) fn ips(&self) -> impl Iterator<Item = IpAddr> {
        let ip = |text: &String| text.split('/').next()?.parse().ok();
        self.addresses.iter().filter_map(ip)
    }
}

impl Port {
    /// As Docker writes it: `8080->80/tcp`.
    pub(crate) fn text(&self) -> String {
        let at = match self.host_ip {
            None => String::new(),
            Some(IpAddr::V6(ip)) => format!("[{ip}]:"),
            Some(ip) => format!("{ip}:"),
        };
        format!(
            "{at}{}->{}/{}",
            self.host_port, self.container_port, self.protocol
        )
    }
}

impl Host {
    pub(crate) fn look() -> Result<Self, Failure> {
        let state = State::locate()?;
        let mut socket = RouteSocket::open()?;
        Ok(Self {
            recorded: state.attachments()?,
            recorded_networks: state.networks::<NetworkRecord>()?,
            links: socket.links()?,
            socket,
            state,
            told: RefCell::default(),
            attachments: OnceCell::new(),
        })
    }

    pub(crate) fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// All attachments, as they were when they were asked for first.
    pub(crate) fn attachments(&self) -> Rc<Vec<Attachment>> {
        let found = self.attachments.get_or_init(|| {
            // The ifb of `bandwidth` carries the same tag as the host's end of the pair.
            let tags: BTreeMap<&str, &Link> = self
                .links
                .iter()
                .filter(|link| link.kind.as_deref() == Some("veth"))
                .filter_map(|link| Some((link.alias.as_deref()?, link)))
                .collect();
            let recorded = self.recorded.iter();
            let all = recorded.map(|one| self.attachment(one, &tags));
            Rc::new(all.collect())
        });
        Rc::clone(found)
    }

    /// Whether a namespace that cannot be reached by its path from here exists all the same. When the
    /// kernel does not tell, it does.
    fn lives(&self, recorded: &attachments::Attachment, about: &AttachmentSummary) -> bool {
        let gone = self.state.is_gone(&recorded.key, &about.sandbox);
        !gone.unwrap_or(false)
    }

    fn attachment(
        &self,
        recorded: &attachments::Attachment,
        tags: &BTreeMap<&str, &Link>,
    ) -> Attachment {
        let about = self.about(recorded);
        let opened = about
            .as_ref()
            .map_or(Ok(None), |about| about.sandbox.open());
        let netns = opened.unwrap_or_else(|error| {
            self.tell(error.to_string());
            None
        });
        let veth = tags.get(recorded.key.owner().tag().as_str()).copied();
        let bridge = veth.and_then(|veth| self.link(veth.master?));
        let inside = netns.as_ref().map(|netns| match recorded.mode {
            // The host's addresses are not the container's own.
            "host" => Some(Vec::new()),
            mode => addresses(netns, &recorded.key.interface, mode).unwrap_or_else(|failure| {
                let (Failure::NotFound(why) | Failure::Failed(why)) = failure;
                self.tell(format!(
                    "the inside of container {} cannot be read: {why}",
                    recorded.key.container
                ));
                None
            }),
        });
        let age = self.state.attached_at(recorded);
        let age = age.and_then(|at| SystemTime::now().duration_since(at).ok());
        Attachment {
            id: recorded.key.container.clone(),
            network: recorded.key.network.clone(),
            interface: recorded.key.interface.clone(),
            mode: recorded.mode,
            names: about
                .as_ref()
                .map(|about| about.names.clone())
                .unwrap_or_default(),
            wired: match kinds::of(recorded.mode) {
                Some(kind) if kind.host_end => veth.is_some(),
                _ => matches!(inside, Some(Some(_))),
            },
            addresses: inside.flatten().unwrap_or_default(),
            ports: self.ports(recorded),
            netns: about
                .as_ref()
                .map(|about| about.sandbox.path.clone())
                .unwrap_or_default(),
            alive: netns.is_some()
                || about
                    .as_ref()
                    .is_some_and(|about| self.lives(recorded, about)),
            bridge: bridge.map(|link| link.name.clone()),
            host_interface: veth.map(|link| link.name.clone()),
            shares: about.as_ref().and_then(|about| about.container.clone()),
            links: linked::of(&self.state, &recorded.key, self.record(&recorded.key)),
            age_seconds: age.map_or(0, |age| age.as_secs()),
            about,
        }
    }

    fn ports(&self, recorded: &attachments::Attachment) -> Vec<Port> {
        let record: Option<PortmapRecord> = self.record(&recorded.key);
        let Some(record) = record.filter(|record| record.published.has_address()) else {
            return Vec::new();
        };
        let backend = backend_name(record.backend);
        let ports = record.published.ports.iter().map(|port| Port {
            host_ip: port.host_ip,
            host_port: port.host_port,
            container_port: port.container_port,
            protocol: port.protocol.to_string(),
            backend: backend.clone(),
        });
        ports.collect()
    }

    /// The tags of all attachments that any plugin has a record of.
    pub(crate) fn tags(&self) -> BTreeSet<String> {
        let keys = self.recorded.iter().map(|one| &one.key);
        keys.map(|key| key.owner().tag()).collect()
    }

    /// The record of an attachment. One that cannot be read is told, once, and counts as absent.
    pub(crate) fn record<R: AttachmentRecord>(&self, key: &Key) -> Option<R> {
        self.readable(self.state.read(key))
    }

    /// The records of all attachments of one plugin.
    pub(crate) fn records<R: AttachmentRecord>(&self) -> Result<Vec<R>, Failure> {
        let keys = self.state.records_of::<R>().all()?;
        Ok(keys.iter().filter_map(|key| self.record(key)).collect())
    }

    /// The record of a network. One that cannot be read is told, once, and counts as absent.
    pub(crate) fn record_of_network<R: PerNetworkRecord>(&self, network: &str) -> Option<R> {
        self.readable(self.state.read_network(network))
    }

    /// What is recorded of an attachment. A record that cannot be read is told, once, and counts as absent.
    pub(crate) fn about(&self, recorded: &attachments::Attachment) -> Option<AttachmentSummary> {
        self.readable(self.state.about(recorded))
    }

    fn readable<T>(&self, read: Result<Option<T>, RecordError>) -> Option<T> {
        read.unwrap_or_else(|error| {
            self.tell(format!("{error}; {}", error.next_step()));
            None
        })
    }

    /// Warns, of each thing once.
    fn tell(&self, text: String) {
        if !self.told.borrow().contains(&text) {
            eprintln!("pontoon: warning: {text}");
            self.told.borrow_mut().insert(text);
        }
    }

    /// The bridge that carries a network's tag.
    pub(crate) fn bridge_of(&self, network: &str) -> Option<&Link> {
        let tag = Owner::network(network).tag();
        self.links.iter().find(|link| {
            link.kind.as_deref() == Some("bridge") && link.alias.as_deref() == Some(&tag)
        })
    }

    /// Names of all networks: of attachments, of records, of bridges.
    pub(crate) fn network_names(&self) -> BTreeSet<(String, &'static str)> {
        let recorded = self.recorded.iter();
        let mut names: BTreeSet<_> = recorded
            .map(|one| (one.key.network.clone(), one.mode))
            .collect();
        // Of these the mode is not told: that of the containers, if there are any.
        let mut others: BTreeSet<String> = self.recorded_networks.iter().cloned().collect();
        let bridges = self
            .links
            .iter()
            .filter(|link| link.kind.as_deref() == Some("bridge"));
        others.extend(bridges.filter_map(|link| {
            let name = link.alias.as_deref()?.strip_prefix("pontoon ")?;
            (!name.contains(' ')).then(|| name.to_owned())
        }));
        others.retain(|other| !names.iter().any(|(name, _)| name == other));
        names.extend(others.into_iter().map(|name| (name, "bridge")));
        names
    }

    /// All networks.
    pub(crate) fn networks(&mut self) -> Result<Vec<Network>, Failure> {
        let attachments = self.attachments();
        let mut networks = Vec::new();
        for (name, mode) in self.network_names() {
            let own: Vec<&Attachment> = attachments
                .iter()
                .filter(|attachment| attachment.network == name && attachment.mode == mode)
                .collect();
            let record: NetworkRecord = match mode {
                mode if has_host_end(mode) => self.record_of_network(&name).unwrap_or_default(),
                _ => NetworkRecord::default(),
            };
            let bridge = kinds::is_bridged(mode).then(|| {
                let named = |bridge: &str| self.links.iter().find(|link| link.name == bridge);
                let used = own
                    .iter()
                    .find_map(|attachment| named(attachment.bridge.as_deref()?));
                let ruled = || {
                    record
                        .rules
                        .iter()
                        .find_map(|(_, rules)| named(&rules.bridge))
                };
                self.bridge_of(&name).or(used).or_else(ruled).cloned()
            });
            let bridge = bridge.flatten();
            let gateways = match &bridge {
                Some(link) => global(&mut self.socket, link.index)?,
                None => Vec::new(),
            };
            networks.push(Network {
                up: bridge.as_ref().is_none_or(|link| link.up),
                bridge: bridge.map(|link| link.name),
                gateways,
                egress: egress(&record),
                backend: record.rules.last().map(|(kind, _)| backend_name(*kind)),
                closed: match self.record_of_network::<NetworkPolicyRecord>(&name) {
                    Some(record) if kinds::is_bridged(mode) => closed(&record.policy),
                    _ => Vec::new(),
                },
                internal: record.internal,
                containers: own.iter().map(|one| &one.id).collect::<BTreeSet<_>>().len(),
                name,
                mode,
            });
        }
        Ok(networks)
    }
}

fn closed(policy: &Policy) -> Vec<&'static str> {
    let words = [
        (!policy.icc, "icc off"),
        (policy.internal, "internal"),
        (policy.isolated, "isolated from other networks"),
        (policy.closed, "no direct access"),
        (!policy.host_access, "no host access"),
        (policy.ingress != Ingress::Open, "ingress policy"),
    ];
    let is = words.into_iter().filter(|(is, _)| *is);
    is.map(|(_, word)| word).collect()
}

fn egress(record: &NetworkRecord) -> Vec<String> {
    let mut ways = Vec::new();
    for egress in record
        .rules
        .last()
        .iter()
        .flat_map(|(_, rules)| &rules.egress)
    {
        if egress.snat.is_empty() {
            ways.push("masquerade".to_owned());
        }
        ways.extend(egress.snat.iter().map(|snat| match &snat.out {
            Some(out) => format!("{} by {out}", snat.source),
            None => snat.source.to_string(),
        }));
    }
    ways.sort();
    ways.dedup();
    ways
}

/// The addresses of one link, without link-local ones.
pub(crate) fn global(socket: &mut RouteSocket, index: u32) -> Result<Vec<String>, Failure> {
    let addresses = socket.addresses(index)?;
    let local = |ip: IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    Ok(addresses
        .iter()
        .filter(|address| !local(address.cidr.ip()))
        .map(|address| address.cidr.to_string())
        .collect())
}

/// Whether the interface of such an attachment has an end on the host.
pub(crate) fn has_host_end(mode: &str) -> bool {
    kinds::of(mode).is_some_and(|kind| kind.host_end)
}

/// Whether such an attachment has an interface of its own.
pub(crate) fn has_interface(mode: &str) -> bool {
    let own = |kind: &kinds::Kind| kind.role == Role::Interface;
    mode == THIRD_PARTY || kinds::of(mode).is_some_and(own)
}

/// The addresses of a container: of its interface, or of all but the loopback where it has none of
/// its own. None when the interface is not there.
fn addresses(netns: &Netns, interface: &str, mode: &str) -> Result<Option<Vec<String>>, Failure> {
    let mut inside = RouteSocket::open_in(netns)?;
    let links = inside.links()?;
    let own = has_interface(mode);
    let mut found = Vec::new();
    let mut there = !own;
    for link in links {
        let wanted = match own {
            true => link.name == interface,
            false => link.name != "lo",
        };
        if wanted {
            there = true;
            found.extend(global(&mut inside, link.index)?);
        }
    }
    Ok(there.then_some(found))
}
