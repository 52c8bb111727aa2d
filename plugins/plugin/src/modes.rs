//! Who is attached, and by which mode: the records of all plugins that give a container its
//! network. They are listed, so this is for the admin's command and for joining another container,
//! not for the way of a common ADD.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::SystemTime;

use pontoon_conf::Dns;
use serde::Deserialize;

use crate::interior::Given;
use crate::kinds::{self, Role};
use crate::{Key, Sandbox, State};

/// The mode of an attachment that another vendor's plugin has made, and of which only the records of
/// the plugins chained after it tell.
pub const THIRD_PARTY: &str = "third-party";

/// An attachment with the plugin that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Name of the plugin, or [`THIRD_PARTY`].
    pub mode: &'static str,
    /// The attachment.
    pub key: Key,
}

/// What the records of all modes say of an attachment.
#[derive(Debug, Clone, Deserialize)]
pub struct About {
    /// The namespace that the container lives in.
    pub sandbox: Sandbox,
    /// Its names, without its id.
    #[serde(default)]
    pub names: Vec<String>,
    /// Settings for its resolver.
    pub dns: Option<Dns>,
    /// Where the leases of its network lie, when they are ours.
    pub leases: Option<PathBuf>,
    /// What its interface was given.
    #[serde(default)]
    pub given: Option<Given>,
    /// Id of the container whose network it shares.
    pub container: Option<String>,
}

/// What the records of all plugins, chained ones too, may say of an attachment.
#[derive(Debug, Deserialize)]
struct Traces {
    sandbox: Option<Sandbox>,
    /// The namespace, as `dns` has it.
    netns: Option<String>,
    #[serde(default)]
    names: Vec<String>,
}

impl State {
    /// What is recorded of an attachment; `None` when that cannot be read.
    #[must_use]
    pub fn about(&self, member: &Member) -> Option<About> {
        match records_of(member.mode) {
            Some(records) => self.records(records).read(&member.key),
            None => self.about_third_party(&member.key),
        }
    }

    fn about_third_party(&self, key: &Key) -> Option<About> {
        let mut sandbox = None;
        let mut names = Vec::new();
        for records in chained() {
            let Some(traces) = self.records(records).read::<Traces>(key) else {
                continue;
            };
            let by_path = traces.netns.as_deref().map(Sandbox::at_path);
            sandbox = sandbox.or(traces.sandbox).or(by_path);
            if names.is_empty() {
                names = traces.names;
            }
        }
        // The names of `dns` begin with the id, or the beginning of it.
        names.retain(|name| !key.container.starts_with(name.as_str()));
        Some(About {
            sandbox: sandbox?,
            names,
            dns: None,
            leases: None,
            given: None,
            container: None,
        })
    }

    /// When an attachment was recorded.
    #[must_use]
    pub fn attached_at(&self, member: &Member) -> Option<SystemTime> {
        let written = |records: &str| self.records(records).written(&member.key);
        match records_of(member.mode) {
            Some(records) => written(records),
            None => chained().filter_map(written).min(),
        }
    }

    /// All attachments of the host, by mode, network and container: those of our own plugins, then
    /// those of other vendors' plugins that a plugin of ours is chained after.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        let sorted = |mut keys: Vec<Key>| {
            let order = |key: &Key| {
                let Key {
                    network,
                    container,
                    interface,
                } = key.clone();
                (network, container, interface)
            };
            keys.sort_by_cached_key(order);
            keys
        };
        let mut members = Vec::new();
        for kind in kinds::attaching() {
            let keys = kind.records.map(|records| self.records(records).all());
            let member = |key| Member {
                mode: kind.name,
                key,
            };
            members.extend(sorted(keys.unwrap_or_default()).into_iter().map(member));
        }
        let mut known: HashSet<Key> = members.iter().map(|member| member.key.clone()).collect();
        let mut others = Vec::new();
        for records in chained() {
            let keys = self.records(records).all().into_iter();
            others.extend(keys.filter(|key| known.insert(key.clone())));
        }
        members.extend(sorted(others).into_iter().map(|key| Member {
            mode: THIRD_PARTY,
            key,
        }));
        members
    }
}

/// The directory of the records of a plugin that attaches.
fn records_of(mode: &str) -> Option<&'static str> {
    kinds::of(mode)?.records
}

/// The directories of the records of chained plugins.
fn chained() -> impl Iterator<Item = &'static str> {
    kinds::with_role(Role::Chained).filter_map(|kind| kind.records)
}

/// The attachments of the one container that is called `wanted`: its id, one of its names, or the
/// beginning of its id, looked for in this order. `names` is asked for the names of an attachment.
///
/// # Errors
/// The ids of all containers that are meant as well: none, or several.
pub fn find<'a>(
    members: &'a [Member],
    wanted: &str,
    names: impl Fn(&Member) -> Vec<String>,
) -> Result<Vec<&'a Member>, Vec<&'a str>> {
    let id = |member: &Member| member.key.container == wanted;
    let named = |member: &Member| {
        let mut names = names(member).into_iter();
        names.any(|name| name.eq_ignore_ascii_case(wanted))
    };
    let begins = |member: &Member| member.key.container.starts_with(wanted);
    let mut ids = Vec::new();
    let ways: [&dyn Fn(&Member) -> bool; 3] = [&id, &named, &begins];
    for way in ways.into_iter().filter(|_| !wanted.is_empty()) {
        ids = members
            .iter()
            .filter(|member| way(member))
            .map(|member| member.key.container.as_str())
            .collect();
        if !ids.is_empty() {
            break;
        }
    }
    ids.sort_unstable();
    ids.dedup();
    match ids[..] {
        [only] => Ok(members
            .iter()
            .filter(|member| member.key.container == only)
            .collect()),
        _ => Err(ids),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(container: &str, interface: &str) -> Member {
        Member {
            mode: "bridge",
            key: Key {
                network: "net".into(),
                container: container.into(),
                interface: interface.into(),
            },
        }
    }

    #[track_caller]
    fn check(wanted: &str, expected: Result<usize, &[&str]>) {
        let members = [
            member("abc1", "eth0"),
            member("abc1", "eth1"),
            member("abc12", "eth0"),
            member("abd", "eth0"),
        ];
        let names = |member: &Member| match member.key.container.as_str() {
            "abc12" => vec!["web".to_owned(), "abd".to_owned()],
            "abd" => vec!["WEB2".to_owned(), "ab".to_owned()],
            _ => Vec::new(),
        };
        let found = find(&members, wanted, names);
        match expected {
            Ok(count) => assert_eq!(found.map(|found| found.len()), Ok(count)),
            Err(ids) => assert_eq!(found, Err(ids.to_vec())),
        }
    }

    #[test]
    fn attachments_of_other_vendors_are_known_by_what_is_chained() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::at(dir.path());
        let key = |container: &str| Key {
            network: "net".into(),
            container: container.into(),
            interface: "eth0".into(),
        };
        let sandbox = serde_json::json!({ "sandbox": { "path": "/run/netns/x", "id": null } });
        state
            .records("macvlan")
            .write(&key("own"), &sandbox)
            .unwrap();
        state
            .records("portmap")
            .write(&key("own"), &sandbox)
            .unwrap();
        state
            .records("portmap")
            .write(&key("cali1"), &sandbox)
            .unwrap();
        let named = serde_json::json!({ "netns": "/run/netns/y", "names": ["web", "cali2"] });
        state
            .records("dns/records")
            .write(&key("cali2"), &named)
            .unwrap();
        let members = state.members();
        let shown: Vec<(&str, &str)> = members
            .iter()
            .map(|member| (member.mode, member.key.container.as_str()))
            .collect();
        assert_eq!(
            shown,
            [
                ("macvlan", "own"),
                (THIRD_PARTY, "cali1"),
                (THIRD_PARTY, "cali2")
            ]
        );
        let about = state.about(&members[1]).unwrap();
        assert_eq!(about.sandbox.path, "/run/netns/x");
        let about = state.about(&members[2]).unwrap();
        assert_eq!(
            (about.sandbox.path.as_str(), about.names),
            ("/run/netns/y", vec!["web".to_owned()])
        );
        assert!(state.attached_at(&members[2]).is_some());
    }

    #[test]
    fn ids_whole_and_short_and_names() {
        check("abc1", Ok(2));
        check("abc12", Ok(1));
        check("abd", Ok(1));
        check("web", Ok(1));
        check("web2", Ok(1));
        // A name before the beginning of an id.
        check("ab", Ok(1));
        check("a", Err(&["abc1", "abc12", "abd"]));
        check("we", Err(&[]));
        check("", Err(&[]));
    }
}
