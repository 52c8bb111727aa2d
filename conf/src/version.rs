//! The versions of the specification, and the answer to VERSION.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use crate::{decode::field, error::pretty};

/// A published version of the CNI specification. Older compares less than newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Version {
    V0_1_0,
    V0_2_0,
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: [Version; 7] = [
        Version::V0_1_0,
        Version::V0_2_0,
        Version::V0_3_0,
        Version::V0_3_1,
        Version::V0_4_0,
        Version::V1_0_0,
        Version::V1_1_0,
    ];

    /// The newest version.
    pub const NEWEST: Version = Version::V1_1_0;

    /// As it stands in `cniVersion`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Version::V0_1_0 => "0.1.0",
            Version::V0_2_0 => "0.2.0",
            Version::V0_3_0 => "0.3.0",
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A string that names no version of the specification known here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a known CNI version")]
pub struct UnknownVersion(pub String);

impl FromStr for Version {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Version, UnknownVersion> {
        Version::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or_else(|| UnknownVersion(text.to_owned()))
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Version, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// The answer to VERSION.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionInfo {
    /// The version asked in, or the newest supported one.
    pub cni_version: Version,
    /// What the plugin speaks, oldest first.
    pub supported_versions: Vec<Version>,
}

impl VersionInfo {
    /// Answers a VERSION request for a plugin that speaks `supported`.
    ///
    /// The request may be empty or anything else: a runtime that asks for the versions cannot know
    /// yet how to ask, so nothing on standard input is an error here.
    #[must_use]
    pub fn answer(stdin: &[u8], supported: &[Version]) -> VersionInfo {
        let asked = serde_json::from_slice::<Value>(stdin)
            .ok()
            .as_ref()
            .and_then(Value::as_object)
            .and_then(|request| field(request, "cniVersion"))
            .and_then(Value::as_str)
            .and_then(|text| text.parse().ok())
            .filter(|version| supported.contains(version));
        let newest = supported.iter().max().copied().unwrap_or(Version::NEWEST);
        VersionInfo {
            cni_version: asked.unwrap_or(newest),
            supported_versions: supported.to_vec(),
        }
    }

    /// The document for standard output.
    #[must_use]
    pub fn to_json(&self) -> String {
        pretty(self)
    }
}

/// What a plugin tells on standard error when it is run without `CNI_COMMAND`, by a person or by a
/// tool that collects versions; the exit status is 0.
#[must_use]
pub fn banner(plugin: &str, version: &str) -> String {
    format!(
        "CNI {plugin} plugin {version}\nCNI protocol versions supported: {}\n",
        Version::ALL.map(Version::as_str).join(", ")
    )
}
