//! From bytes to a [`NetworkConfig`], in the order of the reference plugins: JSON, name, whether
//! the version knows the verb, whether we know the version; then the rest.

use serde_json::{Map, Value};

use super::error::DocumentError;
use super::{ARGS_CNI, Attachment, IPAM, NetworkConfig, RUNTIME_CONFIG, invalid};
use crate::{
    AddResult, Dns, Error, NameError, NetworkName, Verb, Version,
    decode::{DecodeError, decode, field},
};

pub(super) fn config(
    bytes: &[u8],
    verb: Verb,
    supported: &[Version],
) -> Result<NetworkConfig, Error> {
    refuse_excess(bytes)?;
    let raw: Value = serde_json::from_slice(bytes).map_err(DocumentError::NotJson)?;
    let object = raw.as_object().ok_or(DocumentError::NotObject)?;

    let name = name(object)?;
    let version = version_for(object, verb, supported)?;
    let wrong = |why: DecodeError| invalid(name.as_str(), why);

    let plugin_type = text(object, "type").map_err(wrong)?;
    for path in [&RUNTIME_CONFIG[..], &ARGS_CNI, &IPAM] {
        are_objects(object, path).map_err(wrong)?;
    }
    let dns = dns(object).map_err(wrong)?;
    let (prev_result, prev_result_problem) = prev_result(object, version, verb)?;
    let (valid_attachments, spared_attachments) = match verb {
        Verb::Gc => (
            attachments(object, &VALID_ATTACHMENTS).map_err(wrong)?,
            attachments(object, &SPARED_ATTACHMENTS).map_err(wrong)?,
        ),
        _ => (None, None),
    };

    Ok(NetworkConfig {
        version,
        plugin_type,
        prev_result,
        prev_result_problem,
        dns,
        valid_attachments,
        spared_attachments,
        name,
        bytes: bytes.to_vec(),
        raw,
    })
}

/// Values of a configuration, those in lists and objects included. In memory a value takes 200 bytes and an
/// object 500, many times what it takes as text. Every port of one protocol, published one by one at an
/// address, makes 327,680 of them.
const MOST_VALUES: usize = 400_000;

/// Counts what may be values before any of them is made: each follows a bracket or a comma.
pub(super) fn refuse_excess(bytes: &[u8]) -> Result<(), DocumentError> {
    let (mut count, mut quoted, mut escaped) = (0, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b'[' | b'{' | b',' if !quoted => count += 1,
            _ => {}
        }
    }
    if count <= MOST_VALUES {
        return Ok(());
    }
    Err(DocumentError::TooManyValues { most: MOST_VALUES })
}

fn name(object: &Map<String, Value>) -> Result<NetworkName, DocumentError> {
    let text = text(object, "name").map_err(|source| DocumentError::NameKind { source })?;
    text.parse().map_err(|source: NameError| match source {
        NameError::Empty { .. } => DocumentError::NoName,
        NameError::Character { .. } => DocumentError::NameCharacters { source },
        _ => DocumentError::Name { source },
    })
}

/// The oldest version that knows the verb.
fn since(verb: Verb) -> Version {
    match verb {
        Verb::Add | Verb::Del | Verb::Version => Version::V0_1_0,
        Verb::Check => Version::V0_4_0,
        Verb::Status | Verb::Gc => Version::V1_1_0,
    }
}

fn version_for(
    object: &Map<String, Value>,
    verb: Verb,
    supported: &[Version],
) -> Result<Version, DocumentError> {
    // Asked of every version first, so that a plugin which speaks few of them still tells a verb
    // that came too early apart from a version that came too late.
    if let Ok(version) = version(object, &Version::ALL)
        && version < since(verb)
    {
        return Err(DocumentError::VerbBeforeItsVersion {
            verb,
            named: version,
            since: since(verb),
        });
    }
    version(object, supported)
}

/// `cniVersion`, when it is one of `supported`.
pub(super) fn version(
    object: &Map<String, Value>,
    supported: &[Version],
) -> Result<Version, DocumentError> {
    let named = match field(object, "cniVersion") {
        None => "",
        Some(Value::String(named)) => named,
        Some(other) => {
            return Err(DocumentError::VersionKind {
                found: other.clone(),
            });
        }
    };
    // Configurations older than the key itself have none.
    let named = if named.is_empty() { "0.1.0" } else { named };
    named
        .parse()
        .ok()
        .filter(|version| supported.contains(version))
        .ok_or_else(|| DocumentError::Version {
            named: named.to_owned(),
            supported: supported.to_vec(),
        })
}

fn text(object: &Map<String, Value>, key: &str) -> Result<String, DecodeError> {
    match field(object, key) {
        None => Ok(String::new()),
        Some(value) => decode(value).map_err(|why| why.under(key)),
    }
}

/// Refuses what stands on the way to the end of `path`, or there, and is no object.
fn are_objects(object: &Map<String, Value>, path: &[&str]) -> Result<(), DecodeError> {
    let Some((key, rest)) = path.split_first() else {
        return Ok(());
    };
    match field(object, key) {
        None => Ok(()),
        Some(Value::Object(inner)) => are_objects(inner, rest),
        Some(other) => decode::<Map<String, Value>>(other).map(drop),
    }
    .map_err(|why| why.under(key))
}

/// As the reference bridge decides whether its configuration speaks about DNS at all: a list that
/// is there counts, even an empty one.
fn dns(object: &Map<String, Value>) -> Result<Option<Dns>, DecodeError> {
    let Some(value) = field(object, "dns") else {
        return Ok(None);
    };
    let dns: Dns = decode(value).map_err(|why| why.under("dns"))?;
    let mentioned = value.as_object().is_some_and(|object| {
        ["nameservers", "search", "options"]
            .iter()
            .any(|list| field(object, list).is_some())
    });
    Ok((mentioned || !dns.is_empty()).then_some(dns))
}

fn prev_result(
    object: &Map<String, Value>,
    version: Version,
    verb: Verb,
) -> Result<(Option<AddResult>, Option<Error>), Error> {
    let Some(value) = field(object, "prevResult") else {
        return Ok((None, None));
    };
    match AddResult::parse(value, version) {
        Ok(attached) => Ok((Some(attached), None)),
        Err(why) => {
            let why = why.within("prevResult");
            match verb {
                Verb::Add | Verb::Check | Verb::Version => Err(why),
                // What a plugin released must not depend on what its neighbours wrote.
                Verb::Del | Verb::Gc | Verb::Status => Ok((None, Some(why))),
            }
        }
    }
}

/// The specification's text once called the key `cni.dev/attachments`, so libcni sends both.
const VALID_ATTACHMENTS: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];

/// Sent by `pontoon gc NETWORK --all-dead` alone.
const SPARED_ATTACHMENTS: [&str; 1] = ["pontoon.dev/spared-attachments"];

/// The list of attachments under the first of these keys that is there.
///
/// An entry that cannot be understood may be one that must be kept, so it fails the whole list and
/// nothing is collected.
fn attachments(
    object: &Map<String, Value>,
    keys: &[&str],
) -> Result<Option<Vec<Attachment>>, DecodeError> {
    for key in keys {
        if let Some(list) = field(object, key) {
            return decode(list).map(Some).map_err(|why| why.under(key));
        }
    }
    Ok(None)
}
