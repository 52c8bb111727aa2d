//! The names by which containers of a network know each other.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use crate::{ContainerId, Invocation, NameError, NetworkConfig};

/// Length of Docker's short container ids.
const SHORT: usize = 12;
/// What messages call a name that is no alias.
const NAME: &str = "container name";

/// A name that a container is called by: letters, digits, `_`, `.` and `-`, not starting with a
/// sign, at most 200 bytes; kept in lower case, since names are looked up without regard to it. Fit
/// to be a file name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KnownAs(String);

impl KnownAs {
    /// All names of the attachment that the verb is about, each once, and what was given as a name
    /// and can be none. In this order: `K8S_POD_NAME` of `CNI_ARGS`, `args.cni.name`, the capability
    /// `aliases` (a list, or an object with a list for each network, as podman gives it), the
    /// container id, and its first twelve characters. A dot at the end of a name is left out, since
    /// `db.` is the domain name `db`.
    #[must_use]
    pub fn of(invocation: &Invocation, config: &NetworkConfig) -> (Vec<KnownAs>, Vec<NameError>) {
        let mut given: Vec<(&'static str, &str)> = invocation
            .args
            .get("K8S_POD_NAME")
            .into_iter()
            .chain(key(config.args(), "name").and_then(Value::as_str))
            .map(|name| (NAME, name))
            .chain(aliases(config).map(|alias| ("alias", alias)))
            .collect();
        let id = invocation.container_id.as_ref().map(ContainerId::as_str);
        given.extend(id.map(|id| (NAME, id)));
        given.extend(id.and_then(|id| id.get(..SHORT)).map(|id| (NAME, id)));
        let (mut names, mut refused) = (Vec::new(), Vec::new());
        let mut known = HashSet::new();
        for (what, text) in given.into_iter().filter(|(_, text)| !text.is_empty()) {
            match given_name(what, text) {
                Ok(name) if !known.insert(name.clone()) => {}
                Ok(name) => names.push(name),
                Err(error) => refused.push(error),
            }
        }
        (names, refused)
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name as a configuration gives it.
fn given_name(what: &'static str, text: &str) -> Result<KnownAs, NameError> {
    let name = text.strip_suffix('.').unwrap_or(text);
    crate::names::identifier(what, if name.is_empty() { text } else { name })?;
    if name.ends_with('.') {
        return Err(NameError::Character {
            what,
            name: text.to_owned(),
            character: '.',
            where_: " twice at its end",
        });
    }
    let name = name.to_ascii_lowercase();
    // RFC 6761 section 6.3: these names always mean the asking machine itself.
    if name == "localhost" || name.ends_with(".localhost") {
        return Err(NameError::Reserved {
            what,
            name: text.to_owned(),
        });
    }
    Ok(KnownAs(name))
}

fn aliases(config: &NetworkConfig) -> impl Iterator<Item = &str> {
    let list = match key(config.runtime_config(), "aliases") {
        Some(Value::Object(networks)) => networks.get(config.name.as_str()),
        other => other,
    };
    list.and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

/// Keys are matched without regard to case, as everywhere.
fn key<'a>(object: &'a serde_json::Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).or_else(|| {
        object
            .iter()
            .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
    })
}

impl FromStr for KnownAs {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        crate::names::identifier(NAME, name)?;
        Ok(Self(name.to_ascii_lowercase()))
    }
}

impl AsRef<str> for KnownAs {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KnownAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for KnownAs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for KnownAs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}
