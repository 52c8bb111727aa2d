//! A packet on its way, and whether it is what a rule asks for.

use std::net::IpAddr;

use crate::rules::{Condition, Element, Field, Members, Pattern, Table, Value};

/// A packet, most often the first one of a flow, as it is at one moment of its way.
#[derive(Debug, Clone)]
pub struct Packet {
    /// Who sends, as the packet tells it.
    pub source: IpAddr,
    /// To whom, as the packet tells it.
    pub destination: IpAddr,
    /// `tcp`, `udp`, `icmp`.
    pub protocol: String,
    /// Of source and destination, of the protocols that have ports.
    pub ports: Option<(u16, u16)>,
    /// The interface that it came in by; empty where there is none.
    pub in_interface: String,
    /// The interface that it goes out by; empty where there is none.
    pub out_interface: String,
    /// The port of a bridge that it came in by, for a bridged packet.
    pub in_port: String,
    /// The port of a bridge that it goes out by, for a bridged packet.
    pub out_port: String,
    /// Its flow is established already: it is no first packet, but a reply or what follows one.
    pub established: bool,
    /// The packet's mark.
    pub mark: u64,
    /// Its flow's destination has been rewritten.
    pub dnat: bool,
    /// Its flow's source has been rewritten.
    pub snat: bool,
    /// `local`, `unicast`, …: what its source is to this host.
    pub source_type: &'static str,
    /// What its destination is to this host.
    pub destination_type: &'static str,
}

/// Whether something is so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MatchResult {
    Yes,
    No,
    /// Cannot be told, because of this.
    Unknown(String),
}

impl Packet {
    /// A first packet of `tcp`, `udp` or `icmp` that is on no interface yet, of no address of this host.
    #[must_use]
    pub fn new(protocol: &str, source: (IpAddr, u16), destination: (IpAddr, u16)) -> Self {
        let ports = (protocol != "icmp").then_some((source.1, destination.1));
        let protocol = match (protocol, source.0) {
            ("icmp", IpAddr::V6(_)) => "icmpv6",
            (other, _) => other,
        };
        Self {
            source: source.0,
            destination: destination.0,
            protocol: protocol.to_owned(),
            ports,
            in_interface: String::new(),
            out_interface: String::new(),
            in_port: String::new(),
            out_port: String::new(),
            established: false,
            mark: 0,
            dnat: false,
            snat: false,
            source_type: "unicast",
            destination_type: "unicast",
        }
    }

    /// The same packet as it is forwarded: in by one interface, out by another.
    #[must_use]
    pub fn forwarded(mut self, by: &str, out: &str) -> Self {
        (self.in_interface, self.out_interface) = (by.to_owned(), out.to_owned());
        self
    }

    /// The same packet as this host receives it by an interface.
    #[must_use]
    pub fn received(mut self, by: &str) -> Self {
        by.clone_into(&mut self.in_interface);
        self.out_interface.clear();
        self.destination_type = "local";
        self
    }

    /// The same packet after its destination was rewritten (DNAT).
    #[must_use]
    pub fn redirected(mut self) -> Self {
        self.dnat = true;
        self
    }

    /// The reply to the packet, of the same flow: back by the same interfaces.
    #[must_use]
    pub fn reply(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            ports: self.ports.map(|(from, to)| (to, from)),
            in_interface: self.out_interface.clone(),
            out_interface: self.in_interface.clone(),
            in_port: self.out_port.clone(),
            out_port: self.in_port.clone(),
            established: true,
            source_type: self.destination_type,
            destination_type: self.source_type,
            ..self.clone()
        }
    }

    /// Whether it is of IPv4.
    #[must_use]
    pub fn v4(&self) -> bool {
        self.destination.is_ipv4()
    }

    /// The port that it is sent to.
    #[must_use]
    pub fn destination_port(&self) -> Option<u16> {
        self.ports.map(|(_, port)| port)
    }

    /// `10.0.0.2:80`.
    #[must_use]
    pub fn target(&self) -> String {
        shown(self.destination, self.destination_port())
    }

    /// What a field holds: nothing when the packet has no such field, several words when it is a set
    /// of flags.
    fn values(&self, field: &Field) -> Result<Vec<Value>, String> {
        let word = |text: &str| vec![Value::Word(text.to_owned())];
        let address = |address: IpAddr, v4: Option<bool>| match v4 {
            Some(v4) if v4 != address.is_ipv4() => Vec::new(),
            _ => vec![Value::Address(address)],
        };
        let number = |number: Option<u16>| number.map(|n| Value::Number(n.into())).into_iter();
        Ok(match field {
            Field::Family => word(if self.v4() { "ipv4" } else { "ipv6" }),
            Field::InInterface => word(&self.in_interface),
            Field::OutInterface => word(&self.out_interface),
            Field::InPort => word(&self.in_port),
            Field::OutPort => word(&self.out_port),
            Field::Source => address(self.source, None),
            Field::Destination => address(self.destination, None),
            Field::Source4 => address(self.source, Some(true)),
            Field::Source6 => address(self.source, Some(false)),
            Field::Destination4 => address(self.destination, Some(true)),
            Field::Destination6 => address(self.destination, Some(false)),
            Field::Protocol => word(&self.protocol),
            Field::SourcePort => number(self.ports.map(|(port, _)| port)).collect(),
            Field::DestinationPort => number(self.destination_port()).collect(),
            Field::IcmpType => match self.protocol.as_str() {
                "icmp" => vec![Value::Number(8)],
                "icmpv6" => vec![Value::Number(128)],
                _ => Vec::new(),
            },
            Field::Mark(mask) => vec![Value::Number(self.mark & mask)],
            Field::Flow => {
                let words = [
                    ("new", !self.established),
                    ("established", self.established),
                    ("dnat", self.dnat),
                    ("snat", self.snat),
                ];
                let set = words.iter().filter(|(_, set)| *set);
                set.flat_map(|(name, _)| word(name)).collect()
            }
            Field::SourceType => word(self.source_type),
            Field::DestinationType => word(self.destination_type),
            Field::PacketType => word("host"),
            Field::Unknown(name) => return Err(name.clone()),
        })
    }

    /// Whether a condition holds.
    pub(crate) fn meets(&self, condition: &Condition, table: &Table) -> MatchResult {
        let mut values = Vec::new();
        for field in &condition.fields {
            match self.values(field) {
                // Without the field a rule does not match, whatever it asks of it.
                Ok(found) if found.is_empty() => return MatchResult::No,
                Ok(found) => values.push(found),
                Err(name) => return MatchResult::Unknown(name),
            }
        }
        match search(&values, &condition.members, table) {
            Ok(found) if found.is_some() != condition.negated => MatchResult::Yes,
            Ok(_) => MatchResult::No,
            Err(name) => MatchResult::Unknown(name),
        }
    }

    /// The element of a map for these fields, if there is one.
    pub(crate) fn look_up<'a>(
        &self,
        fields: &[Field],
        members: &'a Members,
        table: &'a Table,
    ) -> Result<Option<&'a Element>, String> {
        let mut values = Vec::new();
        for field in fields {
            let found = self.values(field)?;
            if found.is_empty() {
                return Ok(None);
            }
            values.push(found);
        }
        search(&values, members, table)
    }
}

/// An address with a port.
#[must_use]
pub fn shown(address: IpAddr, port: Option<u16>) -> String {
    match (address, port) {
        (address, None) => address.to_string(),
        (IpAddr::V4(address), Some(port)) => format!("{address}:{port}"),
        (IpAddr::V6(address), Some(port)) => format!("[{address}]:{port}"),
    }
}

fn search<'a>(
    values: &[Vec<Value>],
    members: &'a Members,
    table: &'a Table,
) -> Result<Option<&'a Element>, String> {
    let elements = match members {
        Members::Inline(elements) => elements,
        Members::Named(name) => {
            let set = table.sets.get(name);
            set.ok_or_else(|| format!("set {name} of {}", table.name))?
        }
    };
    let mut doubt = None;
    for element in elements {
        // A map with one key for several fields is not of their shape.
        let mut answer = MatchResult::Yes;
        for (values, pattern) in values.iter().zip(&element.key) {
            let one = any(values, pattern);
            if one != MatchResult::Yes {
                answer = one;
                if answer == MatchResult::No {
                    break;
                }
            }
        }
        match answer {
            MatchResult::Yes => return Ok(Some(element)),
            MatchResult::No => {}
            MatchResult::Unknown(name) => doubt = Some(name),
        }
    }
    doubt.map_or(Ok(None), Err)
}

/// Whether one of the values is what the pattern asks for.
fn any(values: &[Value], pattern: &Pattern) -> MatchResult {
    let mut answer = MatchResult::No;
    for value in values {
        match is(value, pattern) {
            MatchResult::Yes => return MatchResult::Yes,
            MatchResult::No => {}
            unknown => answer = unknown,
        }
    }
    answer
}

fn is(value: &Value, pattern: &Pattern) -> MatchResult {
    let yes = match (pattern, value) {
        (Pattern::Any, _) => true,
        (Pattern::Is(wanted), value) => wanted == value,
        (Pattern::Begins(start), Value::Word(word)) => word.starts_with(start.as_str()),
        (Pattern::Net(network), Value::Address(address)) => network.contains(*address),
        (Pattern::Range(from, to), value) => within(value, from, to),
        (Pattern::OneOf(patterns), value) => {
            let mut answer = MatchResult::No;
            for pattern in patterns {
                match is(value, pattern) {
                    MatchResult::Yes => return MatchResult::Yes,
                    MatchResult::No => {}
                    unknown => answer = unknown,
                }
            }
            return answer;
        }
        (Pattern::Unknown(name), _) => return MatchResult::Unknown(name.clone()),
        _ => false,
    };
    match yes {
        true => MatchResult::Yes,
        false => MatchResult::No,
    }
}

fn within(value: &Value, from: &Value, to: &Value) -> bool {
    match (value, from, to) {
        (Value::Number(value), Value::Number(from), Value::Number(to)) => {
            (from..=to).contains(&value)
        }
        (Value::Address(value), Value::Address(from), Value::Address(to)) => {
            value.is_ipv4() == from.is_ipv4() && (from..=to).contains(&value)
        }
        _ => false,
    }
}
