//! The configurations in `conf/samples`, and those that other programs write, on a host that has what
//! they name.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;
use pontoon_netlink::RouteSocket;
use serde_json::{Value, json};

use super::container::Container;
use super::failure::{Failure, Outcome};
use super::firewall::Backend;
use super::host::HOST_V4;
use super::network::{Attachment, Network};
use super::overlay::Overlay;
use super::site::Site;

/// The files in `conf/samples`.
pub fn samples() -> Outcome<Vec<PathBuf>> {
    list("../../conf/samples")
}

/// The files in `tests/data/others`: what other people's runtimes and books say.
pub fn samples_of_others() -> Outcome<Vec<PathBuf>> {
    list("../data/others")
}

fn list(folder: &str) -> Outcome<Vec<PathBuf>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let found = fs::read_dir(dir).map_err(Failure::act(format!("list {folder}")))?;
    let mut paths: Vec<PathBuf> = found.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

/// A configuration for one host's backend and leases.
pub struct Sample {
    list: Value,
}

impl Sample {
    /// Reads a file. A `.conf` becomes a list of one.
    pub fn load(path: &Path, site: &Site) -> Outcome<Self> {
        let mut list = Network::load(path)?.list().clone();
        if list["plugins"].is_null() {
            let plugin = list.clone();
            list = json!({
                "cniVersion": plugin["cniVersion"], "name": plugin["name"], "plugins": [plugin],
            });
        }
        for plugin in list["plugins"].as_array_mut().into_iter().flatten() {
            // Without the key iptables is taken, which is installed.
            let key = match plugin["type"].as_str().unwrap_or_default() {
                "bridge" | "overlay" | "ptp" if plugin["ipMasq"] == json!(true) => {
                    Some("ipMasqBackend")
                }
                "portmap" | "firewall" | "dns" | "dnsname" => Some("backend"),
                _ => None,
            };
            if let (Some(key), Backend::Nftables) = (key, site.backend) {
                plugin[key] = json!("nftables");
            }
            if plugin["ipam"].is_object() {
                plugin["ipam"]["dataDir"] = json!(site.leases.path());
            }
        }
        Ok(Self { list })
    }

    /// Has the plugin dns read a `resolv.conf` with this server only, in place of the machine's.
    pub fn with_name_server(mut self, site: &Site, server: IpAddr) -> Outcome<Self> {
        let file = site.leases.path().join("resolv.conf");
        fs::write(&file, format!("nameserver {server}\n"))
            .map_err(Failure::act("write resolv.conf"))?;
        for plugin in self.list["plugins"].as_array_mut().into_iter().flatten() {
            if plugin["type"] == "dns" || plugin["type"] == "dnsname" {
                plugin["resolvConf"] = json!(file);
            }
        }
        Ok(self)
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> Network {
        Network::from_list(self.list.clone())
    }

    /// The plugins' types, in their order.
    #[must_use]
    pub fn types(&self) -> Vec<&str> {
        let plugins = self.list["plugins"].as_array().into_iter().flatten();
        plugins
            .filter_map(|plugin| plugin["type"].as_str())
            .collect()
    }

    /// Whether a plugin of this type is in the chain.
    #[must_use]
    pub fn has(&self, kind: &str) -> bool {
        self.types().contains(&kind)
    }

    /// Gives the host what samples name: addresses to leave by, and for mode `container` a container
    /// `db` on a network of its own, which lives as long as what is returned.
    pub fn equip(&self, site: &Site) -> Outcome<Option<Joined>> {
        let sources = [7, 8].map(|last| Ipv4Addr::new(203, 0, 113, last));
        site.host
            .run(|| -> Result<(), pontoon_netlink::Error> {
                let mut socket = RouteSocket::open()?;
                let lo = socket.link_by_name("lo")?.map_or(1, |link| link.index);
                for source in sources {
                    socket.add_address(lo, IpNetwork::from(IpAddr::V4(source)), true)?;
                }
                Ok(())
            })?
            .map_err(Failure::act("give the host addresses"))?;
        if self.has("overlay") {
            let name = self.network().name().to_owned();
            Overlay::alone(&name, HOST_V4).write(&site.host)?;
            // The tunnel is there from the network's first container on, and stays as an agent's does.
            let network = self.network();
            let container = Container::new("first")?;
            let mut attachment = Attachment::new(&container);
            site.runtime().add(&network, &mut attachment)?;
            site.runtime().del(&network, &attachment)?;
            site.runtime().gc(&network.in_version("1.1.0"), &[])?;
            site.state_is_gone("the first container of an overlay network")?;
        }
        if !self.has("container") {
            return Ok(None);
        }
        let network = site.network("others", "others0", &["10.77.0.0/24"]);
        let container = Container::new("db")?;
        let mut attachment = Attachment::by_path("db", container.path_text());
        site.runtime().add(&network, &mut attachment)?;
        Ok(Some(Joined {
            network,
            attachment,
            _container: container,
        }))
    }
}

/// The container that mode `container` joins.
pub struct Joined {
    /// Its network.
    pub network: Network,
    /// Its attachment.
    pub attachment: Attachment,
    // Only held: its namespace.
    _container: Container,
}
