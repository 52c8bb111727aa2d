//! The text of published ports, laid out as the reference plugins lay it out: administrators,
//! nerdctl and the reference's own removal read these chains.
//!
//! Three differences, where the reference is wrong: any loopback source is masqueraded, not
//! 127.0.0.1 alone; each DNAT rule names its owner, interface included; and a rule in `raw` keeps
//! packets to 127.0.0.0/8 or ::1 from entering by any interface but `lo`: they get their new destination
//! before the kernel could find the old one strange, with `route_localnet` or without.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::error::TextError;
use super::text::{Family, Rule, Table, chain, comment, conditions, name};
use crate::digest::sha512_hex;
use crate::protocol::Protocol;
use crate::rules::{Mark, Port, Published};

/// The chain with one entry per attachment and 15 ports.
pub(super) const DNAT: &str = "CNI-HOSTPORT-DNAT";
/// Marks what is to be masqueraded.
pub(super) const SETMARK: &str = "CNI-HOSTPORT-SETMARK";
/// Masquerades what is marked.
pub(super) const MASQ: &str = "CNI-HOSTPORT-MASQ";
/// The comment of the rule in `raw`.
pub(super) const LOOPBACK_GUARD: &str = "pontoon loopback guard";
/// Ports that one multiport match holds.
const MULTIPORT: usize = 15;
/// What the comment match holds.
const COMMENT_MAX: usize = 255;

/// What all attachments share in one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) chains: Vec<&'static str>,
    pub(super) rules: Vec<BaseRule>,
    /// The mark that our own chains set and masquerade.
    pub(super) mark: Option<u32>,
}

/// A shared rule and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BaseRule {
    pub(super) table: Table,
    pub(super) rule: Rule,
    /// At the head of the chain instead of its end.
    pub(super) first: bool,
}

/// What one attachment has in one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PortsText {
    /// The attachment's own chain.
    pub(super) chain: String,
    /// The owner's tag, on each DNAT rule of the chain.
    pub(super) tag: String,
    /// Rules in the shared chain that lead to the attachment's own.
    pub(super) entries: Vec<Rule>,
    /// Rules of the attachment's own chain.
    pub(super) rules: Vec<Rule>,
    /// What must be there for them to work.
    pub(super) base: Base,
}

impl PortsText {
    /// The rules for one family; `None` when nothing is published in it.
    pub(super) fn new(family: Family, published: &Published) -> Result<Option<Self>, TextError> {
        let (conditions, base) = Self::checked(family, published)?;
        let owner = &published.owner;
        let container = match family {
            Family::V4 => published.v4,
            Family::V6 => published.v6,
        };
        let mut ports: Vec<Port> = published
            .ports
            .iter()
            .copied()
            .filter(|port| port.host_ip.is_none_or(|ip| Family::of(ip) == family))
            .collect();
        // The first match counts: a port at one address comes before the same at every address.
        let everywhere = |port: &Port| port.host_ip.is_none_or(|ip| ip.is_unspecified());
        ports.sort_unstable_by_key(|port| (port.protocol, everywhere(port), *port));
        ports.dedup();
        let Some(container) = container.filter(|_| !ports.is_empty()) else {
            return Ok(None);
        };

        let chain = chain_name(&owner.network, &owner.container);
        let tag = owner.tag();
        let entries = entries(published, &chain, &conditions, &ports);
        let rules = translations(published, &chain, &tag, container, &ports);
        Ok(Some(Self {
            chain,
            tag,
            entries,
            rules,
            base,
        }))
    }

    /// Whether everything of the ports can be written, without writing it: there may be ten thousand.
    pub(super) fn validate(family: Family, published: &Published) -> Result<(), TextError> {
        Self::checked(family, published).map(drop)
    }

    /// The conditions as text, and what all attachments share; all that can be refused is refused here.
    fn checked(family: Family, published: &Published) -> Result<(String, Base), TextError> {
        let owner = &published.owner;
        name("network name", &owner.network)?;
        name("container id", &owner.container)?;
        name("interface name", &owner.interface)?;
        if let Mark::Chain(external) = &published.mark {
            chain(external)?;
        }
        let words = match family {
            Family::V4 => &published.conditions_v4,
            Family::V6 => &published.conditions_v6,
        };
        Ok((conditions(words)?, Base::new(family, published)?))
    }

    /// Makes the attachment's own chain and leads to it; fails when the chain is there already.
    pub(super) fn create(&self) -> Vec<String> {
        let mut lines = vec![format!("-N {}", self.chain)];
        lines.extend(self.entries.iter().chain(&self.rules).map(Rule::append));
        lines
    }

    /// Removes exactly what [`PortsText::create`] made; fails when a part of it is missing or the
    /// chain belongs to another interface.
    pub(super) fn withdraw(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.rules.last().map(Rule::check).into_iter().collect();
        lines.extend(self.entries.iter().map(Rule::delete));
        lines.push(format!("-F {}", self.chain));
        lines.push(format!("-X {}", self.chain));
        lines
    }

    /// The same under the name that an attachment gets when another interface of the same container
    /// is on the same network: the reference's name does not tell the two apart.
    pub(super) fn in_interface_chain(&self, published: &Published) -> Self {
        let owner = &published.owner;
        let chain = interface_chain_name(&owner.network, &owner.container, &owner.interface);
        let renamed = |rules: &[Rule]| {
            let rename = |text: &str| text.replace(&self.chain, &chain);
            rules
                .iter()
                .map(|rule| Rule::new(rename(&rule.chain), rename(&rule.spec)))
                .collect()
        };
        Self {
            entries: renamed(&self.entries),
            rules: renamed(&self.rules),
            chain,
            ..self.clone()
        }
    }
}

impl BaseRule {
    /// The line that makes it.
    pub(super) fn line(&self) -> String {
        if self.first {
            self.rule.insert()
        } else {
            self.rule.append()
        }
    }
}

impl Base {
    pub(super) fn new(family: Family, published: &Published) -> Result<Self, TextError> {
        let nat = |chain: &str, spec: String, first| BaseRule {
            table: Table::Nat,
            rule: Rule::new(chain, spec),
            first,
        };
        let local = format!("-m addrtype --dst-type LOCAL -j {DNAT}");
        let mut chains = vec![DNAT];
        let mut rules = vec![
            nat("PREROUTING", local.clone(), false),
            nat("OUTPUT", local, false),
        ];
        let mut marked = None;
        if masquerades(published) {
            match &published.mark {
                // Checked with the names.
                Mark::Chain(_) => {}
                Mark::Bit(bit) if *bit > 31 => return Err(TextError::MarkBit { bit: *bit }),
                Mark::Bit(bit) => {
                    let mark = 1_u32 << bit;
                    marked = Some(mark);
                    let set = comment("CNI portfwd masquerade mark");
                    let jump = comment("CNI portfwd requiring masquerade");
                    chains.extend([SETMARK, MASQ]);
                    rules.push(nat("POSTROUTING", format!("{jump} -j {MASQ}"), true));
                    let spec = format!("{set} -j MARK --set-xmark {mark:#x}/{mark:#x}");
                    rules.push(nat(SETMARK, spec, false));
                    let spec = format!("-m mark --mark {mark:#x}/{mark:#x} -j MASQUERADE");
                    rules.push(nat(MASQ, spec, false));
                }
            }
        }
        let loopback = match family {
            Family::V4 => "127.0.0.0/8",
            // The kernel drops what comes from elsewhere by itself, but not before a bridge has
            // shown it to these chains.
            Family::V6 => "::1/128",
        };
        let spec = format!("-d {loopback} ! -i lo {} -j DROP", comment(LOOPBACK_GUARD));
        rules.push(BaseRule {
            table: Table::Raw,
            rule: Rule::new("PREROUTING", spec),
            first: true,
        });
        Ok(Self {
            chains,
            rules,
            mark: marked,
        })
    }

    /// The rules of one table.
    pub(super) fn of(&self, table: Table) -> impl Iterator<Item = &BaseRule> {
        self.rules.iter().filter(move |rule| rule.table == table)
    }

    /// Asserts each rule of one table.
    pub(super) fn checks(&self, table: Table) -> Vec<String> {
        self.of(table).map(|base| base.rule.check()).collect()
    }
}

/// The reference's name of an attachment's chain.
pub(super) fn chain_name(network: &str, container: &str) -> String {
    format!("CNI-DN-{}", sha512_hex(&[network, container], 21))
}

/// As [`chain_name`], with the interface. No name contains a slash.
pub(super) fn interface_chain_name(network: &str, container: &str, interface: &str) -> String {
    format!(
        "CNI-DN-{}",
        sha512_hex(&[network, "/", container, "/", interface], 21)
    )
}

fn masquerades(published: &Published) -> bool {
    published.snat || published.masquerade_all
}

/// One rule per protocol and 15 ports. Ports stand one by one, also when they follow each other:
/// nerdctl reads taken ports from these lists and knows no ranges.
fn entries(published: &Published, chain: &str, conditions: &str, ports: &[Port]) -> Vec<Rule> {
    let owner = &published.owner;
    let mut words = format!(
        "dnat name: \"{}\" id: \"{}\"",
        owner.network, owner.container
    );
    if words.len() > COMMENT_MAX {
        words.truncate(COMMENT_MAX - 3);
        words.push_str("...");
    }
    let comment = comment(&words);
    let mut rules = Vec::new();
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
        let mut numbers: Vec<u16> = ports
            .iter()
            .filter(|p| p.protocol == protocol)
            .map(|p| p.host_port)
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        for group in numbers.chunks(MULTIPORT) {
            let list: Vec<String> = group.iter().map(u16::to_string).collect();
            let list = list.join(",");
            let spec = format!(
                "-p {protocol} {comment} -m multiport --dports {list}{conditions} -j {chain}"
            );
            rules.push(Rule::new(DNAT, spec));
        }
    }
    rules
}

fn translations(
    published: &Published,
    chain: &str,
    tag: &str,
    container: IpNetwork,
    ports: &[Port],
) -> Vec<Rule> {
    let comment = comment(tag);
    let marker = match &published.mark {
        Mark::Chain(external) => external,
        Mark::Bit(_) => SETMARK,
    };
    let v4 = container.is_ipv4();
    let marked: Vec<String> = if published.masquerade_all {
        vec![String::new()]
    } else if published.snat {
        let nearby = published.nearby(container).into_iter();
        let nearby = nearby.map(|source| format!("-s {source} "));
        let loopback = v4.then(|| String::from("-s 127.0.0.0/8 "));
        nearby.chain(loopback).collect()
    } else {
        Vec::new()
    };
    let mut rules = Vec::new();
    for span in spans(ports) {
        let Port {
            protocol,
            host_ip,
            host_port,
            container_port,
        } = span.first;
        let destination = match host_ip.filter(|ip| !ip.is_unspecified()) {
            Some(IpAddr::V4(ip)) => format!("-d {ip}/32 "),
            Some(IpAddr::V6(ip)) => format!("-d {ip}/128 "),
            None => String::new(),
        };
        let matched = format!(
            "{destination}-p {protocol} -m {protocol} --dport {}",
            span.dport()
        );
        for source in &marked {
            rules.push(Rule::new(chain, format!("{source}{matched} -j {marker}")));
        }
        let address = match container.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let last = container_port.saturating_add(span.more);
        let target = match (span.more, container_port == host_port) {
            (0, _) => format!("{address}:{container_port}"),
            // Without a port DNAT leaves the port alone.
            (_, true) => container.ip().to_string(),
            (_, false) => format!("{address}:{container_port}-{last}/{host_port}"),
        };
        rules.push(Rule::new(
            chain,
            format!("{matched} {comment} -j DNAT --to-destination {target}"),
        ));
    }
    rules
}

/// Ports that follow each other on both sides.
struct Span {
    first: Port,
    more: u16,
}

impl Span {
    fn dport(&self) -> String {
        let first = self.first.host_port;
        match self.more {
            0 => first.to_string(),
            more => format!("{first}:{}", first.saturating_add(more)),
        }
    }

    fn continues(&self, port: &Port) -> bool {
        let next = |start: u16| {
            start
                .checked_add(self.more)
                .and_then(|last| last.checked_add(1))
        };
        port.protocol == self.first.protocol
            && port.host_ip == self.first.host_ip
            && next(self.first.host_port) == Some(port.host_port)
            && next(self.first.container_port) == Some(port.container_port)
    }
}

/// `ports` is sorted, so that one protocol and host address stand together.
fn spans(ports: &[Port]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for port in ports {
        match spans.last_mut() {
            Some(span) if span.continues(port) => span.more += 1,
            _ => spans.push(Span {
                first: *port,
                more: 0,
            }),
        }
    }
    spans
}

#[cfg(test)]
#[path = "hostport_tests.rs"]
mod tests;
