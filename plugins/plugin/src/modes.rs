//! Who is attached, and by which mode: the records of all plugins that give a container its
//! network. They are listed, so this is for the admin's command and for joining another container,
//! not for the way of a common ADD.

use crate::{Key, State};

/// The plugins that give a container its network.
const MODES: [&str; 4] = ["bridge", "container", "host", "none"];

/// An attachment with the plugin that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Name of the plugin.
    pub mode: &'static str,
    /// The attachment.
    pub key: Key,
}

impl State {
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

/// The attachments of the one container whose id is `wanted` or begins with it.
///
/// # Errors
/// The ids of all containers that are meant as well: none, or several.
pub fn find<'a>(members: &'a [Member], wanted: &str) -> Result<Vec<&'a Member>, Vec<&'a str>> {
    let whole = |member: &&Member| member.key.container == wanted;
    let part = |member: &&Member| !wanted.is_empty() && member.key.container.starts_with(wanted);
    let mut found: Vec<&Member> = members.iter().filter(whole).collect();
    if found.is_empty() {
        found = members.iter().filter(part).collect();
    }
    let mut ids: Vec<&str> = found
        .iter()
        .map(|member| member.key.container.as_str())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() == 1 { Ok(found) } else { Err(ids) }
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
        let found = find(&members, wanted);
        match expected {
            Ok(count) => assert_eq!(found.map(|found| found.len()), Ok(count)),
            Err(ids) => assert_eq!(found, Err(ids.to_vec())),
        }
    }

    #[test]
    fn ids_whole_and_short() {
        check("abc1", Ok(2));
        check("abc12", Ok(1));
        check("abd", Ok(1));
        check("abc", Err(&["abc1", "abc12"]));
        check("x", Err(&[]));
        check("", Err(&[]));
    }
}
