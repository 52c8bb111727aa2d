//! The error object of the protocol.

use std::fmt;

use serde::Serialize;

use crate::Version;

/// Error codes: those of the specification, and from 100 on Pontoon's own.
pub mod code {
    /// The configuration's version is not supported, or does not know the verb.
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    /// A key or value of the configuration is not supported.
    pub const UNSUPPORTED_FIELD: u32 = 2;
    /// The container is unknown or does not exist.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// A necessary environment variable is missing or malformed.
    pub const INVALID_ENVIRONMENT: u32 = 4;
    /// Reading or writing failed.
    pub const IO: u32 = 5;
    /// Something that should be JSON of a certain shape is not.
    pub const DECODE: u32 = 6;
    /// The network configuration is invalid.
    pub const INVALID_CONFIG: u32 = 7;
    /// The network namespace is none, or is the plugin's own.
    pub const INVALID_NETNS: u32 = 8;
    /// A passing condition: the runtime should try again later.
    pub const TRY_AGAIN: u32 = 11;
    /// STATUS: the plugin cannot serve ADD now.
    pub const NOT_AVAILABLE: u32 = 50;
    /// STATUS: the plugin cannot serve ADD now, and present containers may be cut off.
    pub const LIMITED: u32 = 51;
    /// The kernel refused an operation.
    pub const KERNEL: u32 = 100;
    /// No address is left, or the one asked for cannot be had.
    pub const ADDRESS: u32 = 101;
    /// A host port is already published.
    pub const PORT_TAKEN: u32 = 102;
    /// The object to be made exists already.
    pub const EXISTS: u32 = 103;
    /// CHECK found the attachment to differ from its result.
    pub const CHECK_FAILED: u32 = 104;
    /// The firewall backend refused.
    pub const RULES: u32 = 105;
    /// A delegated plugin could not be found or run.
    pub const DELEGATE: u32 = 106;
    /// The network clashes with another one.
    pub const CONFLICT: u32 = 107;
    /// The embedded resolver could not be started, or refused.
    pub const RESOLVER: u32 = 108;
}

/// What a verb answers when it fails: printed on standard output, exit status 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// One of [`code`].
    pub code: u32,
    /// What went wrong, with which object. Runtimes match the wording of the protocol's own errors.
    pub msg: String,
    /// The cause at length, or the next step; may be empty.
    pub details: String,
}

impl Error {
    /// An error without details.
    pub fn new(code: u32, msg: impl Into<String>) -> Error {
        Error {
            code,
            msg: msg.into(),
            details: String::new(),
        }
    }

    /// The same error with `details`.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Error {
        self.details = details.into();
        self
    }

    /// The error object as it goes to standard output; `version` is that of the configuration,
    /// when it could be read.
    pub fn to_json(&self, version: Option<Version>) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            cni_version: Option<Version>,
            code: u32,
            msg: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            details: &'a str,
        }
        pretty(&Wire {
            cni_version: version,
            code: self.code,
            msg: &self.msg,
            details: &self.details,
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)?;
        if !self.details.is_empty() {
            write!(f, ": {}", self.details)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// JSON indented by four spaces, as the reference plugins print it.
#[allow(
    clippy::expect_used,
    reason = "neither can fail: maps have text as keys, and JSON is UTF-8"
)]
pub(crate) fn pretty(value: &impl Serialize) -> String {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut writer = serde_json::Serializer::with_formatter(&mut text, formatter);
    // Writing to memory cannot fail, and none of our types refuses to be serialized (no map with
    // keys other than strings), so an error here is a fault of this crate, not of its input.
    value
        .serialize(&mut writer)
        .expect("the values of this crate are always JSON");
    String::from_utf8(text).expect("serde_json writes UTF-8")
}
