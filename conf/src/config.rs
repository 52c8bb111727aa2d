//! The network configuration as it arrives on standard input.

mod error;
mod parse;

use std::sync::LazyLock;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    AddResult, ContainerId, Dns, Error, IfName, NetworkName, Verb, Version,
    decode::{DecodeError, decode, field},
};
use error::DocumentError;

pub use error::{ConfigError, excerpt};

const RUNTIME_CONFIG: [&str; 1] = ["runtimeConfig"];
const ARGS_CNI: [&str; 2] = ["args", "cni"];
const IPAM: [&str; 1] = ["ipam"];

static EMPTY: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);

/// The value at the end of a path of keys.
fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter()
        .try_fold(value, |value, key| field(value.as_object()?, key))
}

/// An attachment that is still in use, as GC names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
pub struct Attachment {
    /// Whose.
    #[serde(rename = "containerID")]
    pub container_id: ContainerId,
    /// Which of its interfaces.
    pub ifname: IfName,
}

/// One plugin's configuration, with what the runtime added to it.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// `cniVersion`; 0.1.0 when absent.
    pub version: Version,
    /// `name`.
    pub name: NetworkName,
    /// `type`; empty when absent, since the runtime has found the plugin by it already.
    pub plugin_type: String,
    /// `prevResult`, in any version's shape.
    pub prev_result: Option<AddResult>,
    /// Why `prevResult` could not be read. Only for DEL, GC and STATUS, which do without it; for
    /// ADD and CHECK this is the error of [`NetworkConfig::parse`].
    pub prev_result_problem: Option<Error>,
    /// `dns`, when anything is said in it; an empty list counts as something.
    pub dns: Option<Dns>,
    /// For GC: the attachments still in use, when the runtime names them.
    pub valid_attachments: Option<Vec<Attachment>>,
    /// For GC by `pontoon gc NETWORK --all-dead`, which gives no list of valid attachments: what has
    /// neither a record nor a place in this list is dead (key `pontoon.dev/spared-attachments`).
    pub spared_attachments: Option<Vec<Attachment>>,
    /// The whole document.
    pub raw: Value,
    bytes: Vec<u8>,
}

impl NetworkConfig {
    /// Reads standard input for `verb`, for a plugin that speaks every version.
    ///
    /// Not for VERSION, whose input is no network configuration:
    /// see [`VersionInfo::answer`](crate::VersionInfo::answer).
    ///
    /// # Errors
    /// Code 6 for text that is no JSON, code 1 for a version that is not supported, code 7 for a
    /// field that is missing or wrong.
    pub fn parse(bytes: &[u8], verb: Verb) -> Result<NetworkConfig, Error> {
        NetworkConfig::parse_supporting(bytes, verb, &Version::ALL)
    }

    /// Reads standard input for `verb`, for a plugin that speaks the versions `supported`.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_supporting(
        bytes: &[u8],
        verb: Verb,
        supported: &[Version],
    ) -> Result<NetworkConfig, Error> {
        parse::config(bytes, verb, supported)
    }

    /// The version of a configuration that may be broken otherwise, for the error object.
    #[must_use]
    pub fn peek_version(bytes: &[u8]) -> Option<Version> {
        parse::refuse_excess(bytes).ok()?;
        let document: Value = serde_json::from_slice(bytes).ok()?;
        parse::version(document.as_object()?, &Version::ALL).ok()
    }

    /// Standard input as it came, for delegates.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The whole document as a plugin's own struct of keys.
    ///
    /// # Errors
    /// Code 7 with the path of the key that is of the wrong type.
    pub fn keys<T: DeserializeOwned>(&self) -> Result<T, Error> {
        decode(&self.raw).map_err(|why| self.invalid(why))
    }

    /// `runtimeConfig`, with the keys as the runtime spells them; an absent one is empty.
    #[must_use]
    pub fn runtime_config(&self) -> &Map<String, Value> {
        self.object(&RUNTIME_CONFIG)
    }

    /// `args.cni`; an absent one is empty.
    #[must_use]
    pub fn args(&self) -> &Map<String, Value> {
        self.object(&ARGS_CNI)
    }

    /// `ipam`, unless it is absent or empty.
    #[must_use]
    pub fn ipam(&self) -> Option<&Map<String, Value>> {
        Some(self.object(&IPAM)).filter(|object| !object.is_empty())
    }

    /// `runtimeConfig` as a plugin's own struct.
    ///
    /// # Errors
    /// Code 7 with the path of the value that is of the wrong type.
    pub fn runtime<T: DeserializeOwned>(&self) -> Result<T, Error> {
        self.part(&RUNTIME_CONFIG)
    }

    /// `args.cni` as a plugin's own struct.
    ///
    /// # Errors
    /// Code 7 with the path of the value that is of the wrong type.
    pub fn args_cni<T: DeserializeOwned>(&self) -> Result<T, Error> {
        self.part(&ARGS_CNI)
    }

    /// `ipam` as a plugin's own struct; an absent one reads like `{}`.
    ///
    /// # Errors
    /// Code 7 with the path of the key that is of the wrong type.
    pub fn ipam_keys<T: DeserializeOwned>(&self) -> Result<T, Error> {
        self.part(&IPAM)
    }

    fn object(&self, path: &[&str]) -> &Map<String, Value> {
        match at(&self.raw, path) {
            Some(Value::Object(object)) => object,
            _ => &EMPTY,
        }
    }

    /// Decoded where it lies: a configuration may be long, and a copy of its lists longer.
    fn part<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, Error> {
        decode(at(&self.raw, path).unwrap_or(&Value::Null)).map_err(|why| {
            let why = path.iter().rev().fold(why, |why, key| why.under(key));
            self.invalid(why)
        })
    }

    fn invalid(&self, source: DecodeError) -> Error {
        invalid(self.name.as_str(), source)
    }
}

fn invalid(network: &str, source: DecodeError) -> Error {
    let network = network.to_owned();
    DocumentError::Key { network, source }.into()
}
