//! A document as a whole: its head, its plugins one by one, and what lies between them.

use pontoon_conf::{NetworkName, Version};
use pontoon_ledger::kinds::{self, Kind, Role};

use super::Finding;
use super::shape::{self, nearest};
use super::source::{self, Node};
use super::{ranges, refused, ways};

/// What stands in a plugin's object, though the runtime reads it in the list.
const HEAD: [&str; 2] = ["name", "cniVersion"];

/// Judges a document by the extension of its file.
pub(super) fn document(root: &Node, extension: &str, findings: &mut Vec<Finding>) {
    if !matches!(root.kind, source::Kind::Object(_)) {
        findings.push(Finding::error(
            root.place,
            "a network configuration is an object: {\"cniVersion\": ..., \"name\": ..., \"plugins\": [...]}",
        ));
        return;
    }
    head(root, findings);
    version(root, findings);
    match (root.get("plugins"), root.get("type")) {
        (Some(plugins), _) => {
            if matches!(extension, "conf" | "json") {
                findings.push(Finding::warning(
                    plugins.place,
                    "a list of plugins: runtimes look for it in files called .conflist only",
                ));
            }
            if let Some(schema) = shape::schema("conflist") {
                shape::object_but(root, schema, "the list", &["plugins"], findings);
            }
            list(&plugins.value, &called_in(root), findings);
        }
        (None, Some(_)) => {
            if extension == "conflist" {
                findings.push(Finding::error(
                    root.place,
                    "a single plugin in a file called .conflist: put it into \"plugins\": [...]",
                ));
            }
            plugin(root, &called_in(root), findings);
        }
        (None, None) => findings.push(Finding::error(
            root.place,
            "key \"plugins\" is missing: the list of plugins, each with its \"type\"",
        )),
    }
}

/// Name and version.
fn head(root: &Node, findings: &mut Vec<Finding>) {
    match root.get("name") {
        None => findings.push(Finding::error(
            root.place,
            "key \"name\" is missing: the network's name",
        )),
        Some(name) => {
            let text = name.value.text();
            let problem = match text.map(NetworkName::try_from) {
                Some(Ok(_)) => None,
                Some(Err(error)) => Some(error.to_string()),
                None => Some("it must be a text in quotes".to_owned()),
            };
            if let Some(problem) = problem {
                let problem = format!("the network's name cannot be this: {problem}");
                findings.push(Finding::error(name.value.place, problem));
            }
        }
    }
}

/// The versions that are offered. A runtime whose libcni is older than 1.2 reads `cniVersion` alone,
/// and refuses what is newer than 1.0.0; newer ones take the newest of all that are offered.
fn version(root: &Node, findings: &mut Vec<Finding>) {
    const BOTH: &str = "\"cniVersion\": \"1.0.0\", \"cniVersions\": [\"1.0.0\", \"1.1.0\"]";
    let is_list = root.get("plugins").is_some();
    let remedy = if is_list {
        format!("write {BOTH}")
    } else {
        "write \"1.0.0\", or make a list of it, which can offer several versions".to_owned()
    };
    let Some(version) = root.get("cniVersion") else {
        findings.push(Finding::warning(
            root.place,
            format!(
                "key \"cniVersion\" is missing: 0.1.0 is assumed, without CHECK and GC; {remedy}"
            ),
        ));
        return;
    };
    if version.value.text() == Some("1.1.0") {
        findings.push(Finding::warning(
            version.value.place,
            format!(
                "key \"cniVersion\": runtimes with libcni before 1.2 refuse 1.1.0 (containerd 1.6, podman 4.3 and \
                 cnitool 1.1.2 of Debian 12): {remedy}"
            ),
        ));
    }
    let Some(versions) = root.get("cniVersions").filter(|_| is_list) else {
        return;
    };
    for item in versions.value.items() {
        let number = |text: &str| {
            let parts: Vec<&str> = text.split('.').collect();
            parts.len() == 3 && parts.iter().all(|part| part.parse::<u32>().is_ok())
        };
        if let Some(text) = item.text().filter(|text| !number(text)) {
            findings.push(Finding::error(
                item.place,
                format!(
                    "key \"cniVersions\" of the list: \"{text}\" is no version, as \"1.0.0\" is"
                ),
            ));
        }
    }
}

/// The version in which a plugin's parser is asked: the one that every runtime can use.
fn called_in(root: &Node) -> String {
    let written = root
        .get("cniVersion")
        .and_then(|version| version.value.text());
    let known = written.filter(|text| text.parse::<Version>().is_ok());
    known
        .unwrap_or(if root.get("cniVersion").is_none() {
            "0.1.0"
        } else {
            "1.1.0"
        })
        .to_owned()
}

fn list(plugins: &Node, version: &str, findings: &mut Vec<Finding>) {
    let all = plugins.items();
    if all.is_empty() {
        findings.push(Finding::error(
            plugins.place,
            "\"plugins\" must be a list with at least one plugin",
        ));
    }
    for each in all {
        plugin(each, version, findings);
    }
    let kinds: Vec<&str> = all.iter().map(kind).collect();
    if let (Some(first), Some(name)) = (all.first(), kinds.first())
        && role(name) == Some(Role::Chained)
    {
        findings.push(Finding::error(
            place_of_type(first),
            format!(
                "{name} comes first, and changes what a plugin before it has made: list one that \
                 makes an interface before it, as bridge"
            ),
        ));
    }
    for (each, name) in all.iter().zip(&kinds).skip(1) {
        if kinds::of(name).is_some_and(Kind::attaches) {
            findings.push(Finding::error(
                place_of_type(each),
                format!("{name} makes the container's interface, and must come first"),
            ));
        }
        if *name == "portmap"
            && let Some(first) = kinds
                .first()
                .filter(|first| role(first) == Some(Role::Mode))
        {
            findings.push(Finding::warning(
                place_of_type(each),
                format!("portmap publishes no ports of a container of type {first}: ADD succeeds, and warns when ports are asked for"),
            ));
        }
    }
}

fn role(name: &str) -> Option<Role> {
    kinds::of(name).map(|kind| kind.role)
}

fn kind(plugin: &Node) -> &str {
    let kind = plugin.get("type").and_then(|kind| kind.value.text());
    kind.unwrap_or_default()
}

fn place_of_type(plugin: &Node) -> super::Place {
    plugin
        .get("type")
        .map_or(plugin.place, |kind| kind.value.place)
}

fn plugin(node: &Node, version: &str, findings: &mut Vec<Finding>) {
    let name = kind(node);
    if name.is_empty() {
        findings.push(Finding::error(
            node.place,
            "a plugin is an object with its \"type\": {\"type\": \"bridge\", ...}",
        ));
        return;
    }
    let Some(schema) = shape::schema(name) else {
        stranger(node, name, findings);
        return;
    };
    let whose = format!("plugin {name}");
    let mut apart = HEAD.to_vec();
    apart.push("ipam");
    shape::object_but(node, schema, &whose, &apart, findings);
    if let Some(ipam) = node.get("ipam") {
        if schema["properties"]["ipam"].is_object() {
            // By ptp the gateway is reached by a route of its own, wherever it is.
            addresses(&ipam.value, name != "ptp", findings);
        } else {
            findings.push(Finding::warning(
                ipam.place,
                format!("{whose} gives no addresses: \"ipam\" belongs to the plugin that makes the interface"),
            ));
        }
    }
    sense(node, name, findings);
    ways::judge(node, name, findings);
    // Without the key each container names another one in args.cni.
    if name != "container" || node.get("container").is_some() {
        refused::by_plugin(node, name, version, findings);
    }
}

/// A plugin that is not Pontoon's: another vendor may have it, unless its name is close to one of
/// Pontoon's.
fn stranger(node: &Node, name: &str, findings: &mut Vec<Finding>) {
    let place = place_of_type(node);
    if name == "dhcp" {
        return;
    }
    let known = shape::plugins().chain(["dnsname", "vlan", "ipvlan", "vrf", "bond", "dummy"]);
    if let Some(near) = nearest(name, known).filter(|near| *near != name) {
        findings.push(Finding::warning(
            place,
            format!("\"{name}\" is no plugin that is known here: did you mean \"{near}\"?"),
        ));
    }
}

/// What single keys do not tell.
fn sense(node: &Node, name: &str, findings: &mut Vec<Finding>) {
    let on = |key: &str| node.get(key).filter(|member| member.value.is_true());
    let declares = |capability: &str| node.declares(capability);
    let place = place_of_type(node);
    match name {
        "bridge" | "overlay" => {
            if let (Some(_), Some(promisc)) = (on("hairpinMode"), on("promiscMode")) {
                findings.push(Finding::error(
                    promisc.place,
                    "hairpinMode and promiscMode cannot both be on: leave one out",
                ));
            }
            let gateway = on("isGateway")
                .or_else(|| on("isDefaultGateway"))
                .or_else(|| on("ipMasq"));
            if let (Some(gateway), None) = (gateway, node.get("ipam")) {
                findings.push(Finding::warning(
                    gateway.place,
                    format!("\"{}\" without \"ipam\": containers get no addresses", gateway.key),
                ));
            }
            if let (Some(_), Some(snat)) = (on("internal"), node.get("snat")) {
                findings.push(Finding::error(
                    snat.place,
                    "an internal network cannot have snat: nothing leaves it",
                ));
            }
        }
        "ptp" if node.get("ipam").is_none() => findings.push(Finding::error(
            place,
            "plugin ptp needs \"ipam\": a pair without addresses leads nowhere",
        )),
        "portmap" if !declares("portMappings") => findings.push(Finding::warning(
            place,
            "plugin portmap without \"capabilities\": {\"portMappings\": true}: the runtime tells it no ports",
        )),
        "bandwidth" if !declares("bandwidth") => {
            let keys = ["ingressRate", "egressRate"];
            if keys.iter().all(|key| node.get(key).is_none()) {
                findings.push(Finding::warning(
                    place,
                    "plugin bandwidth without rates and without \"capabilities\": {\"bandwidth\": true}: it limits nothing",
                ));
            }
        }
        "container" if node.get("container").is_none() => findings.push(Finding::warning(
            place,
            "plugin container without \"container\": each container must name another one in args.cni",
        )),
        _ => {}
    }
}

/// `ipam`, and the ranges in it. `routed` when the gateway must be a neighbour of the container.
fn addresses(ipam: &Node, routed: bool, findings: &mut Vec<Finding>) {
    if ipam.members().is_empty() {
        return;
    }
    let name = kind(ipam);
    if name.is_empty() {
        findings.push(Finding::error(
            ipam.place,
            "\"ipam\" needs a \"type\", as \"host-local\"",
        ));
        return;
    }
    if name == "dhcp" {
        findings.push(Finding::warning(
            place_of_type(ipam),
            "addresses by dhcp: there is no such plugin here, the reference's and its daemon are needed",
        ));
        return;
    }
    let Some(schema) = shape::schema(name) else {
        stranger(ipam, name, findings);
        return;
    };
    shape::object(ipam, schema, &format!("ipam {name}"), findings);
    if name == "host-local" {
        ranges::judge(ipam, routed, findings);
    }
}
