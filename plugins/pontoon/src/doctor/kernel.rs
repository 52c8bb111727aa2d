//! What the configurations of this host ask of the kernel, and it does not have.

use std::fs;

use pontoon_ledger::kinds;
use pontoon_netlink::vlan_filtering_supported;
use serde_json::Value;

use super::{CheckInput, Finding};
use crate::report::Failure;

/// The keys of `bridge` that need VLAN filtering.
const VLAN: [&str; 2] = ["vlan", "vlanTrunk"];

pub(crate) fn check(ground: &mut CheckInput, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    // A folder or a file that cannot be read is the finding of another check, `conflists`.
    let Ok(entries) = fs::read_dir(ground.places.conf_dir()) else {
        return Ok(());
    };
    let mut supported = None;
    for path in entries.flatten().map(|entry| entry.path()) {
        let kind = path.extension().and_then(|kind| kind.to_str());
        if !matches!(kind, Some("conf" | "conflist" | "json")) {
            continue;
        }
        let text = fs::read(&path).unwrap_or_default();
        let value: Value = serde_json::from_slice(&text).unwrap_or_default();
        let listed = value["plugins"].as_array().cloned();
        let plugins = listed.unwrap_or_else(|| vec![value]);
        let asked = plugins
            .iter()
            .filter(|plugin| plugin["type"].as_str().is_some_and(kinds::is_bridged))
            .find_map(|plugin| VLAN.into_iter().find(|key| !plugin[*key].is_null()));
        let Some(key) = asked else {
            continue;
        };
        if *supported.get_or_insert_with(vlan_filtering_supported) {
            continue;
        }
        let file = path.display();
        findings.push(
            Finding::new("kernel-feature-missing", file.to_string())
                .means("no container can join this network")
                .seen(format!(
                    "key \"{key}\" of bridge needs VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING), which this kernel does not have"
                ))
                .mend(format!("mv {file} {file}.disabled")),
        );
    }
    Ok(())
}
