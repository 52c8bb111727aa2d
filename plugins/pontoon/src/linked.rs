//! Links: whom a container may reach without `icc`, and whom it waits for.

use std::fs;

use pontoon_conf::KnownAs;
use pontoon_plugin::repair::Wish;
use pontoon_plugin::{Key, State};
use serde::{Deserialize, Serialize};

/// A link of a container, as it was asked for and as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Linked {
    /// The name that was given.
    pub(crate) container: String,
    /// `3306/tcp`.
    pub(crate) ports: Vec<String>,
    /// Ids of who bears the name now; empty while the link waits.
    pub(crate) reaches: Vec<String>,
}

/// What of the record of `firewall` links are made from. Without a separation the network has `icc`, and links
/// change nothing.
#[derive(Deserialize)]
struct Record {
    #[serde(default)]
    links: Vec<Wish>,
    separation: Option<serde::de::IgnoredAny>,
}

impl Linked {
    /// As one line.
    pub(crate) fn text(&self) -> String {
        let ports = self.ports.join(" ");
        let name = &self.container;
        if self.reaches.is_empty() {
            format!("{name} {ports} (waits: nobody else on the network is called so)")
        } else {
            format!("{name} {ports} ({})", self.reaches.join(" "))
        }
    }
}

/// The links of an attachment.
pub(crate) fn of(state: &State, key: &Key) -> Vec<Linked> {
    let record: Option<Record> = state.records("firewall").read(key);
    let Some(record) = record.filter(|record| record.separation.is_some()) else {
        return Vec::new();
    };
    let links = record.links.into_iter().map(|wish| Linked {
        reaches: bearers(state, key, &wish.container),
        container: wish.container.to_string(),
        ports: wish
            .ports
            .iter()
            .map(|(protocol, port)| format!("{port}/{protocol}"))
            .collect(),
    });
    links.collect()
}

/// The others of the network that are called so.
fn bearers(state: &State, key: &Key, name: &KnownAs) -> Vec<String> {
    let dir = state.dir().join("links").join(&key.network).join("named");
    let Ok(entries) = fs::read_dir(dir.join(name.as_ref())) else {
        return Vec::new();
    };
    let mut found: Vec<String> = entries
        .filter_map(|entry| {
            let file = entry.ok()?.file_name().into_string().ok()?;
            let (container, interface) = file.split_once(':')?;
            let itself = (container, interface) == (&key.container, &key.interface);
            (!itself).then(|| container.to_owned())
        })
        .collect();
    found.sort_unstable();
    found
}
