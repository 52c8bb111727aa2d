//! Who bears which name, and who wishes to be linked to whom: the index by which the ADD of a
//! container finds the links that wait for it, without listing anybody else.
//!
//! ```text
//! links/NETWORK/named/NAME/CONTAINER:IFNAME     an attachment that bears the name
//! links/NETWORK/wished/NAME/CONTAINER:IFNAME    an attachment that wishes to reach whoever bears it
//! ```
//!
//! The files are empty: addresses and ports stand in the attachments' records. Kept while the network
//! has no `icc`, since links change nothing otherwise. All calls need the lock of the caller.

use std::fs;
use std::io;
use std::path::PathBuf;

use pontoon_conf::{Error, KnownAs, code};
use pontoon_netfilter::Link;
use pontoon_plugin::{Context, Key, Lock};

use crate::add::Record;
use crate::plan;

/// The index of one network.
pub(crate) struct Index<'a> {
    context: &'a Context,
    dir: PathBuf,
}

/// The lock of the index. No network name has a colon.
pub(crate) fn lock(context: &Context) -> Result<Lock, Error> {
    let name = format!("{}:links", context.config.name);
    let path = context.state.network_lock(&name);
    context.state.lock(&path, Lock::exclusive)
}

impl<'a> Index<'a> {
    pub(crate) fn of(context: &'a Context) -> Self {
        let dir = context.state.dir().join("links");
        Self {
            context,
            dir: dir.join(context.config.name.as_ref()),
        }
    }

    /// Enters an attachment.
    pub(crate) fn enter(&self, key: &Key, record: &Record) -> Result<(), Error> {
        for path in self.paths(key, record) {
            let fail = |error: io::Error| {
                Error::new(code::IO, format!("cannot write {}", path.display()))
                    .with_details(error.to_string())
            };
            match fs::write(&path, b"") {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if let Some(dir) = path.parent() {
                        fs::create_dir_all(dir).map_err(fail)?;
                    }
                    fs::write(&path, b"").map_err(fail)?;
                }
                other => other.map_err(fail)?,
            }
        }
        Ok(())
    }

    /// Strikes an attachment.
    pub(crate) fn strike(&self, key: &Key, record: &Record) {
        for path in self.paths(key, record) {
            let _ = fs::remove_file(&path);
            // Each fails while it is not empty.
            for dir in path.ancestors().skip(1).take(4) {
                if fs::remove_dir(dir).is_err() {
                    break;
                }
            }
        }
    }

    /// Every link that the attachment has a part in, and the names of others that nobody bears yet.
    pub(crate) fn links(&self, key: &Key, record: &Record) -> (Vec<Link>, Vec<KnownAs>) {
        let Some(bridge) = record.bridge.as_deref() else {
            return (Vec::new(), Vec::new());
        };
        let (mut links, mut waiting) = (Vec::new(), Vec::new());
        for wish in &record.links {
            let mut bearers = self.entries("named", &wish.container);
            bearers.retain(|(bearer, _)| bearer != key);
            if bearers.is_empty() && !record.names.contains(&wish.container) {
                waiting.push(wish.container.clone());
            }
            for (_, other) in &bearers {
                let from = (key, &record.addresses[..]);
                links.extend(plan::links(bridge, from, wish, &other.addresses));
            }
        }
        for name in &record.names {
            for (wisher, other) in self.entries("wished", name) {
                if wisher == *key {
                    continue;
                }
                for wish in other.links.iter().filter(|wish| wish.container == *name) {
                    let from = (&wisher, &other.addresses[..]);
                    links.extend(plan::links(bridge, from, wish, &record.addresses));
                }
            }
        }
        // One container may be meant by two of its names.
        let mut seen = std::collections::HashSet::new();
        links.retain(|link| seen.insert(link.clone()));
        (links, waiting)
    }

    fn entries(&self, kind: &str, name: &KnownAs) -> Vec<(Key, Record)> {
        let records = self.context.state.records("firewall");
        let Ok(entries) = fs::read_dir(self.dir.join(kind).join(name.as_ref())) else {
            return Vec::new();
        };
        entries
            .filter_map(|entry| {
                let name = entry.ok()?.file_name().into_string().ok()?;
                let (container, interface) = name.split_once(':')?;
                let key = Key {
                    network: self.context.config.name.to_string(),
                    container: container.to_owned(),
                    interface: interface.to_owned(),
                };
                let record = records.read(&key)?;
                Some((key, record))
            })
            .collect()
    }

    fn paths(&self, key: &Key, record: &Record) -> Vec<PathBuf> {
        let file = format!("{}:{}", key.container, key.interface);
        let named = record.names.iter().map(|name| ("named", name));
        let wished = record.links.iter().map(|wish| ("wished", &wish.container));
        named
            .chain(wished)
            .map(|(kind, name)| self.dir.join(kind).join(name.as_ref()).join(&file))
            .collect()
    }
}
