//! `pontoon` sees the attachments of every plugin: macvlan, host-device, ptp, and those of another
//! vendor's plugin by what is chained after it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use pontoon_lab::{
    Attachment, Backend, Container, Failure, Network, Outcome, Scratch, Site, cable,
};
use pontoon_netlink::RouteSocket;
use serde_json::{Value, json};

#[track_caller]
fn wrong(text: impl Into<String>) -> Outcome {
    Err(Failure::new(text))
}

/// A network of this type, with leases in a directory of the test's own.
fn network(site: &Site, kind: &str) -> Network {
    let mut plugin = json!({
        "type": kind,
        "ipam": {
            "type": "host-local", "dataDir": site.leases.path(),
            "ranges": [[{ "subnet": "198.18.7.0/24", "rangeStart": "198.18.7.100" }]],
        },
    });
    match kind {
        "macvlan" => plugin["master"] = json!("eth0"),
        "host-device" => plugin["device"] = json!("spare0"),
        _ => {}
    }
    Network::from_list(json!({ "cniVersion": "1.1.0", "name": kind, "plugins": [plugin] }))
}

/// A second cable to the outside, which a container may have.
fn spare(site: &Site) -> Outcome {
    let lay = || {
        RouteSocket::open()?.create_veth(&cable("spare0", site.host.outside(), [2, 0, 0, 0, 8, 2]))
    };
    let laid = site.host.run(lay)?;
    laid.map(drop).map_err(Failure::act("lay a second cable"))
}

struct Folder(Scratch);

impl Folder {
    fn with(networks: &[&Network]) -> Outcome<Self> {
        let scratch = Scratch::new("conf")?;
        for network in networks {
            let path = scratch.path().join(format!("{}.conflist", network.name()));
            fs::write(path, network.list().to_string())
                .map_err(Failure::act("write a conflist"))?;
        }
        Ok(Self(scratch))
    }

    fn gc(&self, site: &Site, bin: Option<&str>, arguments: &[&str]) -> Outcome<Value> {
        let conf = self.0.path().display().to_string();
        let built = site.runtime().programs().dir().display().to_string();
        let places = ["--conf-dir", &conf, "--bin-dir", bin.unwrap_or(&built)];
        site.pontoon_json(&[&["gc"], arguments, &places].concat())
    }
}

fn ids(site: &Site, network: &str) -> Outcome<Vec<String>> {
    let list = site.pontoon_json(&["ls"])?;
    let own = list.as_array().into_iter().flatten();
    let own = own.filter(|one| one["network"] == network);
    Ok(own
        .filter_map(|one| one["id"].as_str().map(str::to_owned))
        .collect())
}

#[test]
fn gc_keeps_the_living_of_every_plugin() -> Outcome {
    for kind in ["macvlan", "host-device", "ptp"] {
        let site = Site::new(Backend::Nftables)?;
        spare(&site)?;
        let home = site.network("home", "home0", &["10.89.0.0/24"]);
        let own = network(&site, kind);
        let folder = Folder::with(&[&own])?;
        // On two networks, as a runtime with several attaches it; named by its id.
        let (container, _) = site.join("both", &home)?;
        let mut second = Attachment {
            ifname: "net1".to_owned(),
            ..Attachment::new(&container)
        };
        site.runtime().add(&own, &mut second)?;
        let planned = folder.gc(&site, None, &[kind, "--keep", &container.id, "--dry-run"])?;
        if planned["doomed"] != json!([]) {
            return wrong(format!("{kind}: {planned}"));
        }
        folder.gc(&site, None, &[kind, "--keep", &container.id])?;
        site.runtime().check(&own, &second)?;
        folder.gc(&site, None, &[kind, "--all-dead"])?;
        site.runtime().check(&own, &second)?;
        if ids(&site, kind)? != [container.id.clone()] {
            return wrong(format!("{kind}: ls does not list it"));
        }
        let shown = site.pontoon_json(&["inspect", &container.id])?;
        let modes: Vec<&Value> = shown
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| &one["mode"])
            .collect();
        let address = shown.to_string().contains("198.18.7.100/24");
        if modes != [&json!("bridge"), &json!(kind)] || !address {
            return wrong(format!("{kind}: {shown}"));
        }
        let leases = site.pontoon_json(&["leases", kind])?;
        if leases["leases"][0]["attached"] != true {
            return wrong(format!("{kind}: {leases}"));
        }
        // One that is not named goes, with its lease.
        let (first, _) = site.join("first", &home)?;
        folder.gc(&site, None, &[kind, "--keep", &first.id])?;
        if !ids(&site, kind)?.is_empty()
            || !site
                .snapshot()?
                .lines("leases")
                .iter()
                .all(|line| !line.contains("198.18.7.1"))
        {
            return wrong(format!("{kind}: {:?}", site.snapshot()?.lines("leases")));
        }
    }
    Ok(())
}

#[test]
fn gc_takes_the_dead_of_every_plugin() -> Outcome {
    for kind in ["macvlan", "host-device", "ptp"] {
        let site = Site::new(Backend::Nftables)?;
        spare(&site)?;
        let own = network(&site, kind);
        let folder = Folder::with(&[&own])?;
        let (container, attachment) = site.join("dead", &own)?;
        container.kill()?;
        let planned = folder.gc(&site, None, &[kind, "--all-dead"])?;
        if !planned["doomed"]
            .to_string()
            .contains(&attachment.container_id)
        {
            return wrong(format!("{kind}: {planned}"));
        }
        let left = site.snapshot()?;
        if !ids(&site, kind)?.is_empty() || !left.lines("leases").is_empty() {
            return wrong(format!("{kind}: {left:?}"));
        }
    }
    Ok(())
}

/// A container of type `container` joins one on macvlan, by a name and by the beginning of its id.
#[test]
fn a_container_joins_one_on_a_device() -> Outcome {
    for kind in ["macvlan", "host-device", "ptp"] {
        let site = Site::new(Backend::Nftables)?;
        spare(&site)?;
        let own = network(&site, kind);
        let container = Container::new("shared")?;
        let mut attachment = Attachment::new(&container);
        attachment.args = "IgnoreUnknown=1;K8S_POD_NAME=shop".to_owned();
        site.runtime().add(&own, &mut attachment)?;
        for wanted in ["shop", &container.id] {
            let joining = Network::from_list(json!({
                "cniVersion": "1.1.0", "name": "joined",
                "plugins": [{ "type": "container", "container": wanted }],
            }));
            let (_joiner, mut joined) = site.join("joiner", &joining)?;
            let address = joined.address(false);
            site.runtime().del(&joining, &joined)?;
            joined.result = None;
            if address.as_deref() != Some("198.18.7.100") {
                return wrong(format!("{kind} by {wanted}: {address:?}"));
            }
        }
        site.runtime().del(&own, &attachment)?;
    }
    Ok(())
}

/// The main plugin is another vendor's, and leaves nothing that we know: what is chained after it
/// tells of the container, and so does its lease.
#[test]
fn another_vendors_containers_are_kept() -> Outcome {
    for known_by in ["portmap", "lease"] {
        let site = Site::new(Backend::Nftables)?;
        let list = Network::from_list(json!({
            "cniVersion": "1.1.0", "name": "foreign",
            "plugins": [
                { "type": "theirs", "ipam": { "type": "host-local", "dataDir": site.leases.path() } },
                { "type": "portmap", "backend": "nftables", "capabilities": { "portMappings": true } },
            ],
        }));
        let folder = Folder::with(&[&list])?;
        let bin = Scratch::new("bin")?;
        let asked = bin.path().join("asked");
        let script = format!("#!/bin/sh\ncat > {}\n", asked.display());
        let theirs = bin.path().join("theirs");
        fs::write(&theirs, script)
            .and_then(|()| fs::set_permissions(&theirs, fs::Permissions::from_mode(0o755)))
            .and_then(|()| {
                let ours = site.runtime().programs().program("portmap");
                symlink(ours, bin.path().join("portmap"))
            })
            .map_err(Failure::act("make a folder of plugins"))?;
        let container = Container::new("theirs")?;
        let mut attachment = Attachment::new(&container).publish("", 8080, 80, "tcp");
        if known_by == "portmap" {
            attachment.result = Some(json!({
                "cniVersion": "1.1.0",
                "interfaces": [{ "name": "eth0", "sandbox": container.path_text() }],
                "ips": [{ "interface": 0, "address": "10.99.0.2/24" }],
                "routes": [{ "dst": "0.0.0.0/0" }],
            }));
            let plugin = &list.plugins()[1];
            let stdin = list.stdin(plugin, &attachment.capabilities, attachment.result.as_ref());
            let runtime = site.runtime();
            let call = runtime.attachment_call("ADD", &stdin, &attachment);
            runtime.call("portmap", &call)?.verdict("portmap")?;
            let ls = site.pontoon_json(&["ls"])?;
            if ls[0]["mode"] != "third-party" || ls[0]["id"] != container.id {
                return wrong(format!("{ls}"));
            }
        } else {
            let dir = site.leases.path().join("foreign");
            fs::create_dir_all(&dir)
                .and_then(|()| {
                    fs::write(dir.join("10.99.0.2"), format!("{}\r\neth0", container.id))
                })
                .map_err(Failure::act("write a lease"))?;
        }
        let bin = bin.path().display().to_string();
        let done = folder.gc(&site, Some(&bin), &["foreign", "--keep", &container.id])?;
        let asked = fs::read_to_string(asked).map_err(Failure::act("read what was asked"))?;
        let told: Value = serde_json::from_str(&asked).map_err(Failure::act("read JSON"))?;
        let valid = json!([{ "containerID": container.id, "ifname": "eth0" }]);
        if done["doomed"] != json!([]) || told["cni.dev/valid-attachments"] != valid {
            return wrong(format!("{known_by}: {done} {told}"));
        }
        if known_by == "portmap" {
            let ports = site.pontoon_json(&["ports"])?;
            if ports[0]["host_port"] != 8080 {
                return wrong(format!("the port is gone: {ports}"));
            }
        }
        // Without records it is unknown which of its containers are dead.
        let conf = folder.0.path().display().to_string();
        let dead = ["gc", "foreign", "--all-dead", "--conf-dir", &conf];
        site.pontoon_ends(&dead, 1)?;
    }
    Ok(())
}
