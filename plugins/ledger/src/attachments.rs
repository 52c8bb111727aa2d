//! Who is attached, and by which plugin: the records of all plugins that give a container its
//! network. They are listed, so this is for the admin's command and for joining another container,
//! not for the way of a common ADD.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::SystemTime;

use pontoon_conf::{Dns, Error};

use crate::kinds::{self, Role};
use crate::record::{
    AttachmentRecord, BandwidthRecord, BridgeRecord, ContainerRecord, DnsRecord, FirewallRecord,
    HostDeviceRecord, HostRecord, InterfaceSettings, MacvlanRecord, NoneRecord, OverlayRecord,
    PortmapRecord, PtpRecord, SbrRecord, TuningRecord,
};
use crate::{Key, RecordError, Sandbox, State};

/// The mode of an attachment that another vendor's plugin has made, and of which only the records of
/// the plugins chained after it tell.
pub const THIRD_PARTY: &str = "third-party";

/// An attachment with the plugin that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Name of the plugin, or [`THIRD_PARTY`].
    pub mode: &'static str,
    /// The attachment.
    pub key: Key,
}

/// What a record says of an attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachmentSummary {
    /// The namespace that the container lives in.
    pub sandbox: Sandbox,
    /// Its names, without its id.
    pub names: Vec<String>,
    /// Settings for its resolver.
    pub dns: Option<Dns>,
    /// Path of the leases of its network, where Pontoon hands out the addresses.
    pub leases: Option<PathBuf>,
    /// What its interface was given.
    pub settings: Option<InterfaceSettings>,
    /// Id of the container whose network it shares.
    pub container: Option<String>,
}

impl AttachmentSummary {
    /// Nothing but the namespace.
    #[must_use]
    pub fn of(sandbox: &Sandbox) -> Self {
        Self {
            sandbox: sandbox.clone(),
            names: Vec::new(),
            dns: None,
            leases: None,
            settings: None,
            container: None,
        }
    }
}

type Read = fn(&State, &Key) -> Result<Option<AttachmentSummary>, RecordError>;

/// The reader of one type of record.
fn reader<R: AttachmentRecord>() -> (&'static str, Read) {
    let read: Read = |state, key| Ok(state.read::<R>(key)?.map(|record| record.about()));
    (R::PLUGIN, read)
}

/// The types of all records of attachments, by the plugin that writes them.
fn readers() -> [(&'static str, Read); 14] {
    [
        reader::<BandwidthRecord>(),
        reader::<BridgeRecord>(),
        reader::<ContainerRecord>(),
        reader::<DnsRecord>(),
        reader::<FirewallRecord>(),
        reader::<HostRecord>(),
        reader::<HostDeviceRecord>(),
        reader::<MacvlanRecord>(),
        reader::<NoneRecord>(),
        reader::<OverlayRecord>(),
        reader::<PortmapRecord>(),
        reader::<PtpRecord>(),
        reader::<SbrRecord>(),
        reader::<TuningRecord>(),
    ]
}

impl State {
    /// What is recorded of an attachment; `None` when there is no record of it.
    ///
    /// # Errors
    /// When a record cannot be read, or another version wrote it.
    pub fn about(&self, attachment: &Attachment) -> Result<Option<AttachmentSummary>, RecordError> {
        if attachment.mode == THIRD_PARTY {
            return self.about_third_party(&attachment.key);
        }
        self.about_by(attachment.mode, &attachment.key)
    }

    fn about_by(&self, plugin: &str, key: &Key) -> Result<Option<AttachmentSummary>, RecordError> {
        let reader = readers().into_iter().find(|(name, _)| *name == plugin);
        reader.map_or(Ok(None), |(_, read)| read(self, key))
    }

    fn about_third_party(&self, key: &Key) -> Result<Option<AttachmentSummary>, RecordError> {
        let mut found: Option<AttachmentSummary> = None;
        for kind in kinds::with_role(Role::Chained) {
            let Some(about) = self.about_by(kind.name, key)? else {
                continue;
            };
            match &mut found {
                None => found = Some(about),
                Some(found) if found.names.is_empty() => found.names = about.names,
                Some(_) => {}
            }
        }
        if let Some(found) = &mut found {
            // The names of dns and firewall contain the id, or the beginning of it.
            found
                .names
                .retain(|name| !key.container.starts_with(name.as_str()));
        }
        Ok(found)
    }

    /// Whether a plugin may have a record of having given an attachment its network.
    #[must_use]
    pub fn is_attached(&self, key: &Key) -> bool {
        let mut folders = kinds::attaching().filter_map(|kind| kind.records);
        folders.any(|folder| self.records(folder).may_hold(key))
    }

    /// Whether any plugin may have a record of an attachment.
    #[must_use]
    pub fn is_recorded(&self, key: &Key) -> bool {
        self.is_attached(key) || chained().any(|folder| self.records(folder).may_hold(key))
    }

    /// When an attachment was recorded.
    #[must_use]
    pub fn attached_at(&self, attachment: &Attachment) -> Option<SystemTime> {
        let written = |records: &str| self.records(records).written(&attachment.key);
        match kinds::of(attachment.mode).and_then(|kind| kind.records) {
            Some(records) => written(records),
            None => chained().filter_map(written).min(),
        }
    }

    /// All attachments of the host, by mode, network and container: those of Pontoon's own plugins, then
    /// those of other vendors' plugins that a plugin of Pontoon is chained after.
    ///
    /// # Errors
    /// Code 5 with the directory that cannot be listed.
    pub fn attachments(&self) -> Result<Vec<Attachment>, Error> {
        let sorted = |mut keys: Vec<Key>| {
            keys.sort_unstable();
            keys
        };
        let mut attachments = Vec::new();
        for kind in kinds::attaching() {
            let keys = match kind.records {
                Some(records) => self.records(records).all()?,
                None => Vec::new(),
            };
            let attachment = |key| Attachment {
                mode: kind.name,
                key,
            };
            attachments.extend(sorted(keys).into_iter().map(attachment));
        }
        let mut known: HashSet<Key> = attachments
            .iter()
            .map(|attachment| attachment.key.clone())
            .collect();
        let mut others = Vec::new();
        for records in chained() {
            let keys = self.records(records).all()?.into_iter();
            others.extend(keys.filter(|key| known.insert(key.clone())));
        }
        attachments.extend(sorted(others).into_iter().map(|key| Attachment {
            mode: THIRD_PARTY,
            key,
        }));
        Ok(attachments)
    }
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
    attachments: &'a [Attachment],
    wanted: &str,
    names: impl Fn(&Attachment) -> Vec<String>,
) -> Result<Vec<&'a Attachment>, Vec<&'a str>> {
    let id = |attachment: &Attachment| attachment.key.container == wanted;
    let named = |attachment: &Attachment| {
        let mut names = names(attachment).into_iter();
        names.any(|name| name.eq_ignore_ascii_case(wanted))
    };
    let begins = |attachment: &Attachment| attachment.key.container.starts_with(wanted);
    let mut ids = Vec::new();
    let ways: [&dyn Fn(&Attachment) -> bool; 3] = [&id, &named, &begins];
    for way in ways.into_iter().filter(|_| !wanted.is_empty()) {
        ids = attachments
            .iter()
            .filter(|attachment| way(attachment))
            .map(|attachment| attachment.key.container.as_str())
            .collect();
        if !ids.is_empty() {
            break;
        }
    }
    ids.sort_unstable();
    ids.dedup();
    match ids[..] {
        [only] => Ok(attachments
            .iter()
            .filter(|attachment| attachment.key.container == only)
            .collect()),
        _ => Err(ids),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(container: &str, interface: &str) -> Attachment {
        Attachment {
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
        let attachments = [
            attachment("abc1", "eth0"),
            attachment("abc1", "eth1"),
            attachment("abc12", "eth0"),
            attachment("abd", "eth0"),
        ];
        let names = |attachment: &Attachment| match attachment.key.container.as_str() {
            "abc12" => vec!["web".to_owned(), "abd".to_owned()],
            "abd" => vec!["WEB2".to_owned(), "ab".to_owned()],
            _ => Vec::new(),
        };
        let found = find(&attachments, wanted, names);
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
        let tuning = || TuningRecord {
            sandbox: Sandbox::new("/run/netns/x", None),
            backup: "/var/lib/x".into(),
        };
        let own = MacvlanRecord {
            sandbox: Sandbox::new("/run/netns/x", None),
            names: Vec::new(),
            dns: None,
            leases: None,
        };
        state.write(&key("own"), &own).unwrap();
        state.write(&key("own"), &tuning()).unwrap();
        state.write(&key("cali1"), &tuning()).unwrap();
        let mut record = crate::record::names::Record::sample("net", "cali2", [10, 0, 0, 2].into());
        record.names = vec!["web".to_owned(), "cali2".to_owned()];
        let named = DnsRecord {
            record,
            sandbox: Sandbox::new("/run/netns/y", None),
            etc_netns: None,
            backend: None,
        };
        state.write(&key("cali2"), &named).unwrap();
        let attachments = state.attachments().unwrap();
        let shown: Vec<(&str, &str)> = attachments
            .iter()
            .map(|one| (one.mode, one.key.container.as_str()))
            .collect();
        assert_eq!(
            shown,
            [
                ("macvlan", "own"),
                (THIRD_PARTY, "cali1"),
                (THIRD_PARTY, "cali2")
            ]
        );
        let about = |at: usize| state.about(&attachments[at]).unwrap().unwrap();
        assert_eq!(about(1).sandbox.path, "/run/netns/x");
        assert_eq!(about(2).sandbox.path, "/run/netns/y");
        assert_eq!(about(2).names, ["web"]);
        assert!(state.attached_at(&attachments[2]).is_some());
    }

    #[test]
    fn every_plugin_that_records_has_its_type() {
        let mut types: Vec<&str> = readers().iter().map(|(name, _)| *name).collect();
        types.sort_unstable();
        let rows: Vec<&str> = kinds::recording().map(|kind| kind.name).collect();
        assert_eq!(types, rows);
        assert_eq!(kinds::of("dns").unwrap().records, Some(DnsRecord::FOLDER));
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
