//! A number for what the resolver knows of a network, by which two hosts are compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::zone::{Attachment, Zone};

/// Hexadecimal digits of it: two zones of 2^24 that differ have the same one by chance.
const DIGITS: usize = 12;

/// What the resolver knows of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// Containers with names, on this host and on others.
    pub containers: usize,
    /// The first digits of a SHA-256 over names, addresses, domain and time to live of each of them. On which host a
    /// container is does not count, nor in which order records came.
    pub hash: String,
}

/// Of all networks.
#[must_use]
pub fn fingerprints(zone: &Zone) -> BTreeMap<String, Fingerprint> {
    let mut lines: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for attachment in zone.attachments() {
        let network = attachment.shared.network.as_str();
        // A container without names is not told to other hosts.
        if !attachment.names.is_empty() {
            lines.entry(network).or_default().push(line(attachment));
        }
    }
    let each = lines.into_iter().map(|(network, mut lines)| {
        lines.sort_unstable();
        let mut hash = Sha256::new();
        for line in &lines {
            hash.update(line.as_bytes());
        }
        let mut text = String::new();
        for byte in hash.finalize() {
            let _ = write!(text, "{byte:02x}");
        }
        text.truncate(DIGITS);
        let fingerprint = Fingerprint {
            containers: lines.len(),
            hash: text,
        };
        (network.to_owned(), fingerprint)
    });
    each.collect()
}

/// A container as it is compared, with the end of the line, which no name has.
fn line(attachment: &Attachment) -> String {
    let mut names: Vec<String> = attachment
        .names
        .iter()
        .map(|name| name.to_string().to_lowercase())
        .collect();
    names.sort_unstable();
    let addresses: BTreeSet<_> = attachment.addresses.iter().collect();
    let own = attachment.own.as_ref().map(ToString::to_string);
    let shared = &attachment.shared;
    format!(
        "{names:?} {} {addresses:?} {} {}\n",
        own.unwrap_or_default(),
        shared.domain,
        shared.ttl
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;
    use crate::sample::record;

    fn of(records: &[Record]) -> BTreeMap<String, Fingerprint> {
        let mut zone = Zone::default();
        for record in records {
            zone.insert(record.clone());
        }
        fingerprints(&zone)
    }

    #[test]
    fn it_is_the_same_on_the_container_s_host_and_on_others() {
        let (web, db) = (
            record("lan", "web", "10.0.0.2"),
            record("lan", "db", "10.0.1.2"),
        );
        let seen = |record: &Record| Record {
            container: format!("h1/{}", record.container),
            gateways: Vec::new(),
            ..record.clone()
        };
        let here = of(&[web.clone(), seen(&db)]);
        assert_eq!(here, of(&[db.clone(), seen(&web)]));
        assert_eq!(here["lan"].containers, 2);
        assert_eq!(here["lan"].hash.len(), DIGITS);
    }

    #[test]
    fn each_name_address_and_time_counts() {
        let web = record("lan", "web", "10.0.0.2");
        let before = of(std::slice::from_ref(&web))["lan"].hash.clone();
        let mut others = vec![web.clone(); 4];
        others[0].aliases.push("more".to_owned());
        others[1].addresses = vec!["10.0.0.3".parse().unwrap()];
        others[2].ttl += 1;
        others[3].domain = "other".to_owned();
        for other in others {
            assert_ne!(of(&[other])["lan"].hash, before);
        }
        assert_eq!(of(&[]), BTreeMap::new());
    }
}
