//! JSON Schemas (draft 2020-12) of configurations, made from the types of the keys.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    Bandwidth, Bridge, Container, DnsPlugin, Firewall, HostDevice, HostLocal, Macvlan, Overlay,
    Portmap, Ptp, Sbr, Static, Tuning,
};
use crate::{Dns, Version};

/// A plugin without keys of its own.
#[derive(JsonSchema)]
#[allow(dead_code)] // only its shape counts
struct Nothing {}

/// What stands in every plugin's object.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code)] // only its shape counts
struct Common {
    /// The plugin.
    r#type: String,
    /// Arguments that the runtime may give, each by name.
    capabilities: Option<Map<String, Value>>,
    /// Arguments for one container, in `cni`.
    args: Option<Map<String, Value>>,
    /// One line for each operation: the absolute path of a file, or "journal".
    log: Option<String>,
}

/// How the container resolves names.
#[derive(JsonSchema)]
#[allow(dead_code)] // only its shape counts
struct WithDns {
    dns: Option<Dns>,
}

/// The schemas of all plugins' objects, by the plugins' names.
#[must_use]
pub fn schemas() -> Vec<(&'static str, Value)> {
    let with_ipam = |mut keys: Value| {
        let dns = properties(&plain::<WithDns>());
        extend(&mut keys, &dns);
        keys["properties"]["ipam"] = ipam();
        keys
    };
    vec![
        ("bandwidth", plugin("bandwidth", plain::<Bandwidth>())),
        ("bridge", plugin("bridge", with_ipam(plain::<Bridge>()))),
        ("container", plugin("container", plain::<Container>())),
        ("dns", plugin("dns", plain::<DnsPlugin>())),
        ("firewall", plugin("firewall", plain::<Firewall>())),
        ("host", plugin("host", plain::<Nothing>())),
        (
            "host-device",
            plugin("host-device", with_ipam(plain::<HostDevice>())),
        ),
        (
            "host-local",
            address_plugin("host-local", plain::<HostLocal>()),
        ),
        ("loopback", plugin("loopback", plain::<Nothing>())),
        ("macvlan", plugin("macvlan", with_ipam(plain::<Macvlan>()))),
        ("none", plugin("none", plain::<Nothing>())),
        ("overlay", plugin("overlay", with_ipam(overlay()))),
        ("portmap", plugin("portmap", plain::<Portmap>())),
        ("ptp", plugin("ptp", with_ipam(plain::<Ptp>()))),
        ("sbr", plugin("sbr", plain::<Sbr>())),
        ("static", address_plugin("static", plain::<Static>())),
        ("tuning", plugin("tuning", plain::<Tuning>())),
    ]
}

/// The keys of bridge, and those that overlay has beside them.
fn overlay() -> Value {
    let mut keys = plain::<Bridge>();
    extend(&mut keys, &properties(&plain::<Overlay>()));
    keys
}

/// The schema of a `.conflist`: each plugin by its type, and those of others as they like.
#[must_use]
pub fn conflist() -> Value {
    let chained = schemas();
    let chained = chained.iter().filter(|(name, _)| !is_ipam(name));
    let cases: Vec<Value> = chained
        .map(|(name, _)| {
            json!({
                "if": { "properties": { "type": { "enum": names(name) } } },
                "then": { "$ref": format!("{name}.schema.json") },
            })
        })
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A list of CNI plugins",
        "type": "object",
        "required": ["cniVersion", "name", "plugins"],
        "properties": {
            "cniVersion": {
                "description": "Version of the CNI specification",
                "enum": Version::ALL.map(|version| version.to_string()),
            },
            "cniVersions": {
                "description": "Further versions in which the runtime may call",
                "type": "array", "items": { "type": "string" },
            },
            "name": {
                "description": "The network: letters, digits, and . _ - behind the first character",
                "type": "string", "pattern": "^[a-zA-Z0-9][a-zA-Z0-9_.-]*$",
            },
            "disableCheck": { "description": "The runtime sends no CHECK", "type": "boolean" },
            "disableGC": { "description": "The runtime sends no GC", "type": "boolean" },
            "loadOnlyInlinedPlugins": {
                "description": "The runtime reads no further plugins from a folder of the network's name",
                "type": "boolean",
            },
            "args": { "type": "object" },
            "plugins": {
                "description": "In the order of ADD",
                "type": "array", "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["type"],
                    "properties": { "type": { "type": "string" } },
                    "allOf": cases,
                },
            },
        },
    })
}

/// The types under which a plugin is called.
fn names(name: &str) -> Vec<&str> {
    let mut names = vec![name];
    names.extend((name == "dns").then_some("dnsname"));
    names
}

/// Whether a plugin stands in `ipam` only.
fn is_ipam(name: &str) -> bool {
    matches!(name, "host-local" | "static")
}

/// A type's schema as an object of its own.
fn plain<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    tidy(&mut schema);
    schema
}

/// What says nothing to a reader: defaults of absent keys, formats that no validator knows.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.remove("default");
            object.remove("format");
            object.values_mut().for_each(tidy);
        }
        Value::Array(array) => array.iter_mut().for_each(tidy),
        _ => {}
    }
}

fn properties(schema: &Value) -> Map<String, Value> {
    schema["properties"]
        .as_object()
        .cloned()
        .unwrap_or_default()
}

fn extend(schema: &mut Value, more: &Map<String, Value>) {
    if !schema["properties"].is_object() {
        schema["properties"] = json!({});
    }
    if let Some(properties) = schema["properties"].as_object_mut() {
        for (key, value) in more {
            properties
                .entry(key.as_str())
                .or_insert_with(|| value.clone());
        }
    }
}

fn plugin(name: &str, keys: Value) -> Value {
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("The plugin {name}"),
        "type": "object",
        "required": ["type"],
        "properties": properties(&plain::<Common>()),
    });
    schema["properties"]["type"] = json!({ "description": "The plugin", "enum": names(name) });
    extend(&mut schema, &properties(&keys));
    schema
}

fn address_plugin(name: &str, keys: Value) -> Value {
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("The plugin {name}, in ipam"),
        "type": "object",
        "required": ["type"],
        "properties": { "type": { "description": "The plugin", "const": name } },
    });
    extend(&mut schema, &properties(&keys));
    schema
}

/// `ipam` of a plugin that makes interfaces.
fn ipam() -> Value {
    let cases = ["host-local", "static"].map(|name| {
        json!({
            "if": { "required": ["type"], "properties": { "type": { "const": name } } },
            "then": { "$ref": format!("{name}.schema.json") },
        })
    });
    json!({
        "description": "Where addresses come from",
        "type": "object",
        "properties": { "type": { "description": "The plugin", "type": "string" } },
        "allOf": cases,
    })
}
