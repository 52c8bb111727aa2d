//! Links: whom a container may reach without `icc`, and whom it waits for.

use pontoon_conf::KnownAs;
use pontoon_ledger::links::LinksIndex;
use pontoon_ledger::{FirewallRecord, Key, State};
use serde::Serialize;

/// A link of a container, as it was asked for and as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Linked {
    /// The name that was given.
    pub(crate) container: String,
    /// `3306/tcp`.
    pub(crate) ports: Vec<String>,
    /// Ids of the containers that have the name now; empty while the link waits.
    pub(crate) reaches: Vec<String>,
}

impl Linked {
    /// As one line.
    pub(crate) fn text(&self) -> String {
        let ports = self.ports.join(" ");
        let name = &self.container;
        if self.reaches.is_empty() {
            format!("{name} {ports} (waits: no other container of the network has that name)")
        } else {
            format!("{name} {ports} ({})", self.reaches.join(" "))
        }
    }
}

/// The links of an attachment, of which this is the record.
pub(crate) fn of(state: &State, key: &Key, record: Option<FirewallRecord>) -> Vec<Linked> {
    // Without a separation the network has `icc`, and links change nothing.
    let Some(record) = record.filter(|record| record.separation.is_some()) else {
        return Vec::new();
    };
    let index = LinksIndex::of(state, &key.network);
    let links = record.links.into_iter().map(|link| Linked {
        reaches: named(&index, key, &link.container),
        container: link.container.to_string(),
        ports: link
            .ports
            .iter()
            .map(|(protocol, port)| format!("{port}/{protocol}"))
            .collect(),
    });
    links.collect()
}

/// Ids of the other containers of the network that have the name.
fn named(index: &LinksIndex, key: &Key, name: &KnownAs) -> Vec<String> {
    let keys = index.named(name).unwrap_or_else(|error| {
        eprintln!("pontoon: warning: who is called {name} is not known: {error}");
        Vec::new()
    });
    let others = keys.into_iter().filter(|other| other != key);
    let mut found: Vec<String> = others.map(|other| other.container).collect();
    found.sort_unstable();
    found
}
