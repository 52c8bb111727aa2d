//! What the plugins themselves refuse: their own parsers are asked, with what a runtime would send.

use pontoon_conf::Error;
use pontoon_plugin::{Context, Plugin};
use serde_json::{Map, Value, json};

use super::source::{Member, Node};
use super::{Finding, Level, Place};

/// Asks a plugin's parser. `None` for plugins that are not part of Pontoon.
fn judge(kind: &str, context: &Context) -> Result<(), Error> {
    match kind {
        "bandwidth" => pontoon_bandwidth::Bandwidth.judge(context),
        "bridge" => pontoon_bridge::Bridge.judge(context),
        "container" => pontoon_container::Container.judge(context),
        "dns" | "dnsname" => pontoon_names::Names.judge(context),
        "firewall" => pontoon_firewall::Firewall.judge(context),
        "host-device" => pontoon_host_device::HostDevice.judge(context),
        "overlay" => pontoon_overlay::Overlay.judge(context),
        "macvlan" => pontoon_macvlan::Macvlan.judge(context),
        "portmap" => pontoon_portmap::Portmap.judge(context),
        "ptp" => pontoon_ptp::Ptp.judge(context),
        "sbr" => pontoon_sbr::Sbr.judge(context),
        "tuning" => pontoon_tuning::Tuning.judge(context),
        _ => Ok(()),
    }
}

/// All that a plugin refuses in its object, one key after the other: a parser tells its first fault only,
/// so that key is left out and the parser asked again. Keys that are found wrong already are left out
/// from the beginning.
pub(super) fn by_plugin(node: &Node, kind: &str, version: &str, findings: &mut Vec<Finding>) {
    let is_error = |finding: &&Finding| finding.level == Level::Error;
    let wrong: Vec<&str> = findings
        .iter()
        .filter(is_error)
        .filter_map(|finding| Some(node.member_at(finding.place)?.key.as_str()))
        .collect();
    let mut left: Vec<&Member> = node.members().iter().collect();
    left.retain(|member| !wrong.contains(&member.key.as_str()));
    let mut whole = wrong.is_empty();
    while let Err(error) = ask(node, kind, version, &left) {
        let culprit = culprit(&left, &error).map(|member| (member.key.clone(), member));
        let place = match &culprit {
            Some((_, member)) => inner(member, &error),
            // It may be for want of what was left out.
            None if !whole => return,
            None => node.get("type").map_or(node.place, |kind| kind.value.place),
        };
        let key = culprit.as_ref().map(|(key, _)| format!("key \"{key}\": "));
        let key = key.filter(|_| !error.msg.starts_with("key "));
        findings.push(Finding::error(
            place,
            format!(
                "plugin {kind} refuses it: {}{}",
                key.unwrap_or_default(),
                words(&error)
            ),
        ));
        let Some((key, _)) = culprit else { return };
        left.retain(|member| member.key != key);
        whole = false;
    }
}

/// Asks the plugin's parser about an object of these members.
fn ask(node: &Node, kind: &str, version: &str, members: &[&Member]) -> Result<(), Error> {
    let pairs = members
        .iter()
        .map(|member| (member.key.clone(), member.value.plain()));
    let mut object: Map<String, Value> = pairs.collect();
    object.retain(|key, _| {
        !["name", "cniVersion"]
            .iter()
            .any(|head| key.eq_ignore_ascii_case(head))
    });
    object.insert("name".to_owned(), json!("judged"));
    object.insert("cniVersion".to_owned(), json!(version));
    if kind == "host-device" && node.declares("deviceID") {
        // The device that the runtime will name.
        let device = json!({ "deviceID": "0000:00:00.0" });
        object.insert("runtimeConfig".to_owned(), device);
    }
    let text = Value::Object(object).to_string();
    judge(kind, &Context::to_judge(text.as_bytes())?)
}

fn words(error: &Error) -> String {
    let msg = &error.msg;
    // The name of the network is made up here.
    let msg = msg.strip_prefix("network \"judged\" is configured wrongly: ");
    let msg = msg.unwrap_or(&error.msg);
    if error.details.is_empty() || msg.len() < error.msg.len() {
        msg.to_owned()
    } else {
        format!("{msg} ({})", error.details)
    }
}

/// The member that the error names.
fn culprit<'n>(members: &[&'n Member], error: &Error) -> Option<&'n Member> {
    let text = format!("{} {}", error.msg, error.details);
    let names = |member: &&&Member| {
        let of_ipam = || {
            let mut keys = member.value.members().iter();
            member.key.eq_ignore_ascii_case("ipam")
                && keys.any(|inner| inner.key != "type" && mentions(&text, &inner.key))
        };
        member.key != "type" && (mentions(&text, &member.key) || of_ipam())
    };
    let named = members.iter().filter(names);
    let named = named.max_by_key(|member| member.key.len()).copied();
    // Texts that the reference plugins have too name the value only.
    let shown =
        |member: &&&Member| member.key != "type" && shown(&member.value, &error.msg).is_some();
    named.or_else(|| members.iter().find(shown).copied())
}

/// Whether a text has a key as a word of its own. Letters count as they are written, since keys are
/// words of English too.
fn mentions(text: &str, key: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(key).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + key.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

/// The place within a member that the error is about: of a value that it shows.
fn inner(member: &Member, error: &Error) -> Place {
    shown(&member.value, &error.msg).unwrap_or(member.value.place)
}

/// Where a value stands that a text shows. Types of plugins are words of any text.
fn shown(node: &Node, text: &str) -> Option<Place> {
    let value = node.text().filter(|value| value.len() > 2);
    if value.is_some_and(|value| text.contains(value)) {
        return Some(node.place);
    }
    let members = node.members().iter().filter(|member| member.key != "type");
    let inside = members.map(|member| &member.value);
    inside
        .chain(node.items())
        .find_map(|node| shown(node, text))
}
