//! A network as the admin writes it, and an attachment as the runtime keeps it.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::container::Container;
use super::failure::{Failure, Outcome};
use super::firewall::Backend;

/// A `.conflist`.
#[derive(Clone, Debug)]
pub struct Network {
    list: Value,
}

/// One container on one network, with what the runtime remembers of it between verbs.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// CNI_CONTAINERID.
    pub container_id: String,
    /// CNI_NETNS; empty when the runtime no longer has one.
    pub netns: String,
    /// CNI_IFNAME.
    pub ifname: String,
    /// CNI_ARGS.
    pub args: String,
    /// Capability arguments by name; each plugin gets those that it declares.
    pub capabilities: Map<String, Value>,
    /// The chain's final result, once there is one.
    pub result: Option<Value>,
}

impl Network {
    /// Reads a `.conflist` from a file.
    pub fn load(path: &Path) -> Outcome<Self> {
        let text =
            fs::read_to_string(path).map_err(Failure::act(format!("read {}", path.display())))?;
        let list = serde_json::from_str(&text)
            .map_err(Failure::act(format!("parse {}", path.display())))?;
        Ok(Self { list })
    }

    /// A network from a list in memory.
    #[must_use]
    pub fn from_list(list: Value) -> Self {
        Self { list }
    }

    /// The chain that the tests are about, in the keys of the reference plugins: a gateway bridge
    /// with masquerade, one address range per subnet, and published ports.
    #[must_use]
    pub fn docker(
        name: &str,
        bridge: &str,
        subnets: &[&str],
        backend: Backend,
        leases: &Path,
    ) -> Self {
        let ranges: Vec<Value> = subnets
            .iter()
            .map(|subnet| json!([{ "subnet": subnet }]))
            .collect();
        let routes: Vec<Value> = subnets
            .iter()
            .map(|subnet| json!({ "dst": if subnet.contains(':') { "::/0" } else { "0.0.0.0/0" } }))
            .collect();
        Self::from_list(json!({
            "cniVersion": "1.1.0",
            "name": name,
            "plugins": [
                {
                    "type": "bridge", "bridge": bridge, "isGateway": true, "ipMasq": true,
                    "ipMasqBackend": backend.key(), "hairpinMode": true,
                    "ipam": { "type": "host-local", "dataDir": leases, "ranges": ranges, "routes": routes },
                },
                { "type": "portmap", "backend": backend.key(), "capabilities": { "portMappings": true } },
            ],
        }))
    }

    /// The same network with a key of its first plugin of this type set (or removed, when null).
    #[must_use]
    pub fn with(mut self, plugin: &str, key: &str, value: Value) -> Self {
        let objects = self.list["plugins"].as_array_mut().into_iter().flatten();
        for object in objects.filter(|object| object["type"] == plugin).take(1) {
            object[key] = value.clone();
        }
        self
    }

    /// The same network with one more plugin at the end of its chain.
    #[must_use]
    pub fn followed_by(mut self, plugin: Value) -> Self {
        if let Some(plugins) = self.list["plugins"].as_array_mut() {
            plugins.push(plugin);
        }
        self
    }

    /// The same network with a key of its first plugin's `ipam` object set.
    #[must_use]
    pub fn with_ipam(mut self, key: &str, value: Value) -> Self {
        self.list["plugins"][0]["ipam"][key] = value;
        self
    }

    /// The same network in another version of the protocol.
    #[must_use]
    pub fn in_version(mut self, version: &str) -> Self {
        self.list["cniVersion"] = json!(version);
        if let Some(list) = self.list.as_object_mut() {
            list.remove("cniVersions");
        }
        self
    }

    /// The same network with its first plugin only.
    #[must_use]
    pub fn first_only(mut self) -> Self {
        if let Some(plugins) = self.list["plugins"].as_array_mut() {
            plugins.truncate(1);
        }
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.list["name"].as_str().unwrap_or_default()
    }

    /// Its bridge.
    #[must_use]
    pub fn bridge(&self) -> &str {
        let first = self.plugins().first();
        let default = first
            .filter(|plugin| plugin["type"] == "bridge" || plugin["type"] == "overlay")
            .map_or("", |_| "cni0");
        first
            .and_then(|plugin| plugin["bridge"].as_str())
            .unwrap_or(default)
    }

    /// The version of the protocol in which a runtime calls: as libcni from 1.2 on chooses it, the
    /// newest of those that the list offers.
    #[must_use]
    pub fn version(&self) -> &str {
        let offered = self.list["cniVersions"].as_array().into_iter().flatten();
        let offered = offered.chain([&self.list["cniVersion"]]);
        // The versions that there are compare as their texts do.
        let newest = offered.filter_map(Value::as_str).max();
        newest.unwrap_or("0.1.0")
    }

    /// The plugin objects, in order.
    #[must_use]
    pub fn plugins(&self) -> &[Value] {
        self.list["plugins"].as_array().map_or(&[], Vec::as_slice)
    }

    /// The list as a file holds it.
    #[must_use]
    pub fn list(&self) -> &Value {
        &self.list
    }

    /// What libcni writes to a plugin's stdin: the plugin's object with the list's name and
    /// version, the capability arguments it declares, and the previous result.
    #[must_use]
    pub fn stdin(
        &self,
        plugin: &Value,
        capabilities: &Map<String, Value>,
        previous: Option<&Value>,
    ) -> Value {
        let mut object = plugin.clone();
        if let Some(name) = self.list.get("name") {
            object["name"] = name.clone();
        }
        if self.list.get("cniVersion").is_some() {
            object["cniVersion"] = json!(self.version());
        }
        let declared: Map<String, Value> = capabilities
            .iter()
            .filter(|(key, _)| plugin["capabilities"][key.as_str()] == json!(true))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if !declared.is_empty() {
            object["runtimeConfig"] = Value::Object(declared);
        }
        if let Some(previous) = previous {
            object["prevResult"] = previous.clone();
        }
        object
    }
}

impl Attachment {
    /// `eth0` of this container.
    #[must_use]
    pub fn new(container: &Container) -> Self {
        Self::by_path(&container.id, container.path_text())
    }

    /// `eth0` in the namespace at this path.
    #[must_use]
    pub fn by_path(container_id: &str, netns: String) -> Self {
        Self {
            container_id: container_id.to_owned(),
            netns,
            ifname: "eth0".to_owned(),
            args: String::new(),
            capabilities: Map::new(),
            result: None,
        }
    }

    /// Asks for one more published port; an empty host address means all of them.
    #[must_use]
    pub fn publish(
        mut self,
        host_ip: &str,
        host_port: u16,
        container_port: u16,
        protocol: &str,
    ) -> Self {
        let mut mapping =
            json!({ "hostPort": host_port, "containerPort": container_port, "protocol": protocol });
        if !host_ip.is_empty() {
            mapping["hostIP"] = json!(host_ip);
        }
        match self
            .capabilities
            .get_mut("portMappings")
            .and_then(Value::as_array_mut)
        {
            Some(mappings) => mappings.push(mapping),
            None => {
                self.capabilities
                    .insert("portMappings".to_owned(), json!([mapping]));
            }
        }
        self
    }

    /// The addresses of the result, without prefix lengths; IPv4 or IPv6.
    #[must_use]
    pub fn address(&self, v6: bool) -> Option<String> {
        let ips = self.result.as_ref()?["ips"].as_array()?;
        ips.iter()
            .filter_map(|ip| ip["address"].as_str()?.split('/').next())
            .find(|address| address.contains(':') == v6)
            .map(str::to_owned)
    }

    /// The gateway of that family in the result.
    #[must_use]
    pub fn gateway(&self, v6: bool) -> Option<String> {
        let ips = self.result.as_ref()?["ips"].as_array()?;
        ips.iter()
            .filter_map(|ip| ip["gateway"].as_str())
            .find(|gateway| gateway.contains(':') == v6)
            .map(str::to_owned)
    }
}
