//! Which overlay networks this host has a configuration of, and where their leases are.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The plugin whose networks are the agent's.
pub(crate) const PLUGIN: &str = "overlay";
/// Where host-local keeps leases when `dataDir` says nothing.
const LEASES: &str = "/var/lib/cni/networks";
/// Larger than any configuration, in bytes.
const LARGEST: u64 = 1 << 20;

/// The overlay networks that a folder configures, and the folder of each one's leases.
///
/// # Errors
/// When the folder cannot be listed. A file that cannot be read, or is no configuration, is passed over: runtimes do
/// the same.
pub(crate) fn networks(folder: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries?,
    };
    let mut networks = BTreeMap::new();
    for entry in entries {
        let path = entry?.path();
        let kind = path.extension().and_then(|kind| kind.to_str());
        if !matches!(kind, Some("conf" | "conflist" | "json")) {
            continue;
        }
        let small = fs::metadata(&path).is_ok_and(|found| found.len() <= LARGEST);
        let value = small
            .then(|| fs::read(&path).ok())
            .flatten()
            .and_then(|text| serde_json::from_slice(&text).ok());
        networks.extend(value.as_ref().and_then(network));
    }
    Ok(networks)
}

/// Where the leases of a network are that no file configures any more.
pub(crate) fn usual_leases(network: &str) -> PathBuf {
    Path::new(LEASES).join(network)
}

fn network(value: &Value) -> Option<(String, PathBuf)> {
    let name = key(value, "name")?.as_str()?.to_owned();
    let plugin = match key(value, "plugins") {
        Some(plugins) => plugins.as_array()?.first()?,
        None => value,
    };
    if key(plugin, "type")?.as_str()? != PLUGIN {
        return None;
    }
    let folder = key(plugin, "ipam").and_then(|ipam| key(ipam, "dataDir"));
    let folder = folder.and_then(Value::as_str).filter(|it| !it.is_empty());
    let folder = Path::new(folder.unwrap_or(LEASES)).join(&name);
    Some((name, folder))
}

/// A key of an object: case does not matter, and null is absent.
fn key<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    let mut keys = value.as_object()?.iter();
    let found = keys.find(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_null());
    found.map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_networks_of_overlay_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write(
            "a.conflist",
            r#"{"name":"lan","plugins":[{"type":"overlay"},{"type":"portmap"}]}"#,
        );
        write(
            "b.conf",
            r#"{"Name":"one","type":"overlay","ipam":{"datadir":"/x"}}"#,
        );
        write(
            "c.conflist",
            r#"{"name":"other","plugins":[{"type":"bridge"},{"type":"overlay"}]}"#,
        );
        write("d.conflist", "{");
        write("e.conflist", r#"{"name":"empty","plugins":[]}"#);
        write("f.txt", r#"{"name":"text","type":"overlay"}"#);
        let found = networks(dir.path()).unwrap();
        let expected = [
            ("lan".to_owned(), PathBuf::from("/var/lib/cni/networks/lan")),
            ("one".to_owned(), PathBuf::from("/x/one")),
        ];
        assert_eq!(found, BTreeMap::from(expected));
        assert_eq!(networks(&dir.path().join("none")).unwrap(), BTreeMap::new());
    }
}
