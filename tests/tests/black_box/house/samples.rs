//! Every file in conf/samples works as it stands: the whole life of an attachment on a host that
//! has what the sample names.

use std::fs;
use std::path::{Path, PathBuf};

use pontoon_lab::{Attachment, Backend, Container, Failure, Network, Outcome, Site};
use pontoon_netlink::RouteSocket;
use serde_json::{Value, json};

fn samples() -> Outcome<Vec<PathBuf>> {
    list("../conf/samples")
}

/// What other people's runtimes and books say.
fn others() -> Outcome<Vec<PathBuf>> {
    list("data/others")
}

fn list(folder: &str) -> Outcome<Vec<PathBuf>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let found = fs::read_dir(dir).map_err(Failure::act(format!("list {folder}")))?;
    Ok(found.flatten().map(|entry| entry.path()).collect())
}

/// The sample, with leases in a directory of the test's own. A `.conf` becomes a list of one.
fn load(path: &Path, site: &Site) -> Outcome<Network> {
    let mut list = Network::load(path)?.list().clone();
    if list["plugins"].is_null() {
        let plugin = list.clone();
        list = json!({ "cniVersion": plugin["cniVersion"], "name": plugin["name"], "plugins": [plugin] });
    }
    for plugin in list["plugins"].as_array_mut().into_iter().flatten() {
        // Without the key iptables is taken, which is installed.
        if site.backend == Backend::Nftables {
            let key = match plugin["type"].as_str().unwrap_or_default() {
                "bridge" | "ptp" if plugin["ipMasq"] == json!(true) => "ipMasqBackend",
                "portmap" | "firewall" | "dns" | "dnsname" => "backend",
                _ => "_backend",
            };
            plugin[key] = json!("nftables");
        }
        if plugin["ipam"].is_object() {
            plugin["ipam"]["dataDir"] = json!(site.leases.path());
        }
    }
    Ok(Network::from_list(list))
}

fn kinds(network: &Network) -> Vec<&str> {
    let kinds = network
        .plugins()
        .iter()
        .map(|plugin| plugin["type"].as_str());
    kinds.flatten().collect()
}

fn life(path: &Path, backend: Backend) -> Outcome {
    let site = Site::new(backend)?;
    // What samples name: addresses to leave by, and a container to join.
    site.host
        .run(|| -> Result<(), pontoon_netlink::Error> {
            let mut socket = RouteSocket::open()?;
            let lo = socket.link_by_name("lo")?.map_or(1, |link| link.index);
            for address in ["203.0.113.7/32", "203.0.113.8/32"] {
                if let Ok(address) = address.parse() {
                    socket.add_address(lo, address, true)?;
                }
            }
            Ok(())
        })?
        .map_err(Failure::act("give the host addresses"))?;
    let network = load(path, &site)?;
    let bridge = site.network("others", "others0", &["10.77.0.0/24"]);
    let db = Container::new("db")?;
    let mut other = Attachment::by_path("db", db.path_text());
    let shares = kinds(&network).contains(&"container");
    if shares {
        site.runtime().add(&bridge, &mut other)?;
    }
    let before = site.snapshot()?;
    let container = Container::new("sample")?;
    let mut attachment = Attachment::new(&container);
    // Modes without ports of their own are asked for none.
    let publishes = kinds(&network).contains(&"portmap");
    if publishes {
        attachment = attachment.publish("", 8080, 80, "tcp");
    }
    let result = site.runtime().add(&network, &mut attachment)?;
    // Results of old versions have one of each family.
    let old = result["ip4"].is_object();
    if !old && result["ips"].as_array().is_none_or(Vec::is_empty) {
        return Err(Failure::new(format!("no address: {result}")));
    }
    let version = network.version();
    if !["0.1.0", "0.2.0", "0.3.0", "0.3.1"].contains(&version) {
        site.runtime().check(&network, &attachment)?;
    }
    if version == "1.1.0" {
        site.runtime().status(&network)?;
    }
    site.runtime().del(&network, &attachment)?;
    if shares {
        site.runtime().check(&bridge, &other)?;
    }
    site.nothing_left(&before, &[&network], "ADD and DEL")
}

#[test]
fn every_sample_works() -> Outcome {
    let samples = samples()?;
    let mut wrong = Vec::new();
    for path in &samples {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        wrong.extend(
            life(path, Backend::Nftables)
                .err()
                .map(|error| format!("{name}: {error}")),
        );
    }
    if samples.len() < 8 {
        wrong.push(format!("only {} samples", samples.len()));
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(wrong.join("\n")))
    }
}

#[test]
fn everything_that_others_write_works() -> Outcome {
    let others = others()?;
    let mut wrong = Vec::new();
    for backend in Backend::ALL {
        for path in &others {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let told = life(path, backend).err();
            wrong.extend(told.map(|error| format!("{name}, {backend}: {error}")));
        }
    }
    if others.len() < 18 {
        wrong.push(format!("only {} configurations", others.len()));
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(wrong.join("\n")))
    }
}

#[test]
fn every_mode_has_a_sample() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let mut lists = Vec::new();
    for path in samples()? {
        lists.push(load(&path, &site)?);
    }
    let missing: Vec<&str> = ["bridge", "none", "host", "container"]
        .into_iter()
        .filter(|mode| !lists.iter().any(|list| kinds(list).first() == Some(mode)))
        .collect();
    let names: Vec<&Value> = lists.iter().map(|list| &list.list()["name"]).collect();
    let mut unique: Vec<String> = names.iter().map(ToString::to_string).collect();
    unique.sort();
    unique.dedup();
    if missing.is_empty() && unique.len() == names.len() {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "no sample of {missing:?}, or one name twice: {names:?}"
        )))
    }
}
