//! Who is attached, and by which mode: the records of all plugins that give a container its
//! network. They are listed, so this is for the admin's command and for joining another container,
//! not for the way of a common ADD.

use std::path::PathBuf;

use pontoon_conf::Dns;
use serde::Deserialize;

use crate::interior::Given;
use crate::{Key, Sandbox, State};

/// The plugins that give a container its network.
pub const MODES: [&str; 5] = ["bridge", "container", "host", "none", "ptp"];

/// An attachment with the plugin that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Name of the plugin.
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

impl State {
    /// What is recorded of an attachment; `None` when that cannot be read.
    #[must_use]
    pub fn about(&self, member: &Member) -> Option<About> {
        self.records(member.mode).read(&member.key)
    }

    /// All attachments of the host, by mode, network and container.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        let mut members = Vec::new();
        for mode in MODES {
            let mut keys = self.records(mode).all();
            keys.sort_by(|a, b| {
                (&a.network, &a.container, &a.interface).cmp(&(
                    &b.network,
                    &b.container,
                    &b.interface,
                ))
            });
            members.extend(keys.into_iter().map(|key| Member { mode, key }));
        }
        members
    }
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
