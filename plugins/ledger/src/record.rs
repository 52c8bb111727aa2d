//! The types of all records, and what they have in common.

mod chained;
mod firewall;
mod interface;
mod mode;
pub mod names;
mod network;
mod ports;
mod upstream;

use std::path::Path;

use pontoon_conf::Error;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{AttachmentSummary, Key, RecordError, Sandbox, State};

pub use chained::{BandwidthRecord, MovedRoute, SbrRecord, TuningRecord};
pub use firewall::{FirewallRecord, LinkRequest, NetworkPolicyRecord};
pub use interface::{
    BridgeBased, BridgeRecord, DeviceBefore, HostDeviceRecord, InterfaceSettings, MacvlanRecord,
    OverlayRecord, PtpRecord, ReferenceChains,
};
pub use mode::{ContainerRecord, FileLink, HostRecord, NoneRecord, Rebind};
pub use names::{DnsRecord, OpeningsRecord, ResolverRecord};
pub use network::NetworkRecord;
pub use ports::{PortmapRecord, WaitingAddresses};

/// One file of the state directory: a JSON object with a field `version`. A file without that field is
/// of version 1: the first release wrote none.
///
/// A change that an older program would misread needs a new version. A field that may be absent needs
/// none.
pub trait Record: Serialize + DeserializeOwned {
    /// What the file is, for an error message.
    const WHAT: &'static str;
    /// The version that is written and read.
    const VERSION: u32 = 1;
    /// Largest file that is read, in bytes. A published port takes about 75 of them.
    const LARGEST: u64 = 16 << 20;

    /// The text of the file.
    ///
    /// # Errors
    /// When the value has no form in JSON.
    fn encode(&self) -> serde_json::Result<Vec<u8>> {
        #[derive(Serialize)]
        struct Versioned<'a, R> {
            version: u32,
            #[serde(flatten)]
            record: &'a R,
        }
        serde_json::to_vec(&Versioned {
            version: Self::VERSION,
            record: self,
        })
    }

    /// The value of a file's text, which is of this version.
    ///
    /// # Errors
    /// When it is of another shape.
    fn decode(text: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(text)
    }

    /// Reads the text of a file. `path` is only named.
    ///
    /// # Errors
    /// When it is no record of this version.
    fn parse(text: &[u8], path: &Path) -> Result<Self, RecordError> {
        let failed = |source| RecordError::Parse {
            path: path.to_owned(),
            what: Self::WHAT,
            source,
        };
        match version(text).map_err(failed)? {
            version if version != Self::VERSION => Err(RecordError::Version {
                path: path.to_owned(),
                what: Self::WHAT,
                version,
                known: Self::VERSION,
            }),
            _ => Self::decode(text).map_err(failed),
        }
    }
}

/// The version of a file.
fn version(text: &[u8]) -> serde_json::Result<u32> {
    #[derive(Deserialize)]
    struct Version {
        #[serde(default = "first")]
        version: u32,
    }
    // The first release wrote two kinds of records as lists.
    if is_list(text) {
        return Ok(first());
    }
    serde_json::from_slice::<Version>(text).map(|found| found.version)
}

const fn first() -> u32 {
    1
}

fn is_list(text: &[u8]) -> bool {
    text.trim_ascii_start().first() == Some(&b'[')
}

/// A record of one plugin about one attachment.
pub trait AttachmentRecord: Record {
    /// The plugin that writes it.
    const PLUGIN: &'static str;
    /// The folder of these records below the state directory.
    const FOLDER: &'static str = Self::PLUGIN;

    /// The namespace that the container lives in.
    fn sandbox(&self) -> &Sandbox;

    /// Whether DEL still has something to take away, as far as is known. GC without a list keeps
    /// these.
    ///
    /// # Errors
    /// When the system does not tell.
    fn may_be_alive(&self, state: &State, key: &Key) -> Result<bool, Error> {
        Ok(!state.is_gone_for_good(key, self.sandbox())?)
    }

    /// What the record says of the attachment.
    fn about(&self) -> AttachmentSummary {
        AttachmentSummary::of(self.sandbox())
    }
}

/// A record about one network as a whole.
pub trait PerNetworkRecord: Record {
    /// The folder of these records below the state directory.
    const FOLDER: &'static str;
}

#[cfg(test)]
mod tests {
    use pontoon_conf::OperationError;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Small {
        number: u32,
    }

    impl Record for Small {
        const WHAT: &'static str = "small record";
        const VERSION: u32 = 1;
        const LARGEST: u64 = 64;
    }

    #[test]
    fn the_version_is_written_and_a_file_without_one_is_of_the_first() {
        let path = Path::new("/x/y");
        let text = Small { number: 7 }.encode().unwrap();
        assert_eq!(text, br#"{"version":1,"number":7}"#);
        assert_eq!(Small::parse(&text, path).unwrap(), Small { number: 7 });
        let old = br#"{"number":7}"#;
        assert_eq!(Small::parse(old, path).unwrap(), Small { number: 7 });
    }

    #[test]
    fn another_version_and_another_shape_are_told_with_the_file() {
        let path = Path::new("/x/y");
        let newer = Small::parse(br#"{"version":2,"other":1}"#, path).unwrap_err();
        assert_eq!(
            newer.to_string(),
            "/x/y is a small record of version 2; this program reads version 1"
        );
        assert!(newer.next_step().contains("move"), "{newer}");
        for text in [&b""[..], b"{", b"7", b"{}", br#"{"number":"x"}"#] {
            let error = Small::parse(text, path).unwrap_err();
            assert!(
                error.to_string().starts_with("/x/y is no small record: "),
                "{error}"
            );
        }
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large");
        std::fs::write(&path, [b' '; 65]).unwrap();
        let error = crate::file::read::<Small>(&path).unwrap_err();
        assert!(
            matches!(error, RecordError::TooLarge { bytes: 65, .. }),
            "{error}"
        );
        assert!(matches!(
            crate::file::read::<Small>(&dir.path().join("none")),
            Ok(None)
        ));
    }
}
