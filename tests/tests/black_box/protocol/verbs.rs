//! The protocol itself: every version, every verb.

use std::fs;
use std::path::Path;

use pontoon_lab::{Attachment, Backend, Call, Container, Failure, Network, Outcome, Site};
use pontoon_netlink::RouteSocket;
use serde_json::{Value, json};

const VERSIONS: [&str; 7] = [
    "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
];

/// The plugins: the folders of the workspace that make a binary, and those of `ipam`.
fn plugins() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let made = entries.filter(|entry| entry.path().join("src/main.rs").exists());
    let names = made.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter(|name| name != "pontoon" && name != "node")
        .collect();
    names.extend(["host-local", "static"].map(str::to_owned));
    names.sort_unstable();
    names
}

#[track_caller]
fn wrong(text: impl Into<String>) -> Outcome {
    Err(Failure::new(text))
}

/// ADD, CHECK where the version has it, and DEL twice; the result has the version's shape.
fn round(site: &Site, network: &Network, version: &str) -> Outcome {
    let container = Container::new("verbs")?;
    let mut attachment = Attachment::new(&container).publish("", 8080, 80, "tcp");
    let result = site.runtime().add(network, &mut attachment)?;
    if result["cniVersion"] != version {
        return wrong(format!("asked for {version}: {result}"));
    }
    let shape = match version {
        "0.1.0" | "0.2.0" => result["ip4"]["ip"].is_string() && result["ip6"]["ip"].is_string(),
        "0.3.0" | "0.3.1" | "0.4.0" => {
            result["ips"][0]["version"] == "4" && result["ips"][1]["version"] == "6"
        }
        _ => {
            result["ips"][0]["version"].is_null()
                && result["ips"].as_array().is_some_and(|ips| ips.len() == 2)
        }
    };
    let interfaces = result["interfaces"].as_array().map(Vec::len);
    let names = if version < "0.3.0" {
        interfaces.is_none()
    } else {
        interfaces == Some(3)
    };
    let mtu = version == "1.1.0" || result["interfaces"][2]["mtu"].is_null();
    if !(shape && names && mtu) {
        return wrong(format!("not the shape of {version}: {result}"));
    }
    if version >= "0.4.0" {
        site.runtime().check(network, &attachment)?;
    } else {
        let error = site.runtime().check(network, &attachment).err();
        let error = error.ok_or_else(|| Failure::new(format!("CHECK in {version} succeeded")))?;
        if error.code != 1 {
            return wrong(format!("CHECK in {version}: {error}"));
        }
    }
    site.runtime().del(network, &attachment)?;
    attachment.result = None;
    site.runtime().del(network, &attachment)?;
    Ok(())
}

#[test]
fn every_version() -> Outcome {
    for backend in [Backend::Nftables, Backend::IptablesNft] {
        let site = Site::new(backend)?;
        let before = site.snapshot()?;
        let network = site.network("verbs", "verbs0", &["10.67.0.0/24", "fd00:67::/64"]);
        for version in VERSIONS {
            round(&site, &network.clone().in_version(version), version)?;
            site.nothing_left(&before, &[&network], &format!("a round in {version}"))?;
        }
    }
    Ok(())
}

#[test]
fn version_lists_them_all() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    for plugin in &plugins() {
        // podman probes like this, with a namespace that is none.
        for asked in VERSIONS {
            let stdin = json!({ "cniVersion": asked }).to_string();
            let call = Call::new("VERSION", site.runtime().programs().dir(), stdin)
                .set("CNI_NETNS", "dummy")
                .set("CNI_IFNAME", "dummy");
            let finished = site.runtime().call(plugin, &call)?;
            finished.verdict(plugin)?;
            let answer: Value =
                serde_json::from_str(&finished.stdout).map_err(Failure::act(plugin))?;
            if answer["supportedVersions"] != json!(VERSIONS) || !answer["cniVersion"].is_string() {
                return wrong(format!("{plugin} VERSION: {answer}"));
            }
        }
    }
    Ok(())
}

#[test]
fn a_banner_without_a_verb() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    for plugin in &plugins() {
        let finished = site.runtime().call(plugin, &Call::default())?;
        let says = |words: &str| finished.stderr.contains(words);
        let banner =
            says(plugin) && says("CNI protocol versions supported: 0.1.0, 0.2.0") && says("1.1.0");
        if finished.status != Some(0) || !finished.stdout.is_empty() || !banner {
            return wrong(format!(
                "{plugin}: {:?}, stdout {:?}, stderr {:?}",
                finished.status, finished.stdout, finished.stderr
            ));
        }
    }
    Ok(())
}

#[test]
fn status_is_ready() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let before = site.snapshot()?;
    site.runtime()
        .status(&site.network("verbs", "verbs0", &["10.67.0.0/24"]))?;
    before.same_as(&site.snapshot()?, "STATUS")
}

#[test]
fn gc_removes_attachments_that_are_not_valid() -> Outcome {
    for backend in Backend::ALL {
        let site = Site::new(backend)?;
        let network = site.network("verbs", "verbs0", &["10.67.0.0/24", "fd00:67::/64"]);
        let keep = Container::new("keep")?;
        let mut kept = Attachment::new(&keep).publish("", 8080, 80, "tcp");
        site.runtime().add(&network, &mut kept)?;
        let before = site.snapshot()?;
        for _ in 0..3 {
            let lost = Container::new("lost")?;
            let mut attachment = Attachment::new(&lost).publish("", 8081, 80, "udp");
            site.runtime().add(&network, &mut attachment)?;
            lost.kill()?;
            site.runtime().gc(&network, &[&kept])?;
            before.same_as(
                &site.snapshot()?,
                &format!("GC of a lost container ({backend})"),
            )?;
        }
        site.runtime().check(&network, &kept)?;
    }
    Ok(())
}

#[test]
fn loopback_goes_up_and_down() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = Network::from_list(json!({
        "cniVersion": "0.3.1", "name": "cni-loopback", "plugins": [{ "type": "loopback" }],
    }));
    let container = Container::new("lo")?;
    let mut attachment = Attachment {
        ifname: "lo".to_owned(),
        args: "none".to_owned(),
        ..Attachment::new(&container)
    };
    let up = |container: &Container| -> Outcome<bool> {
        let act = "look at the loopback";
        let link = container
            .run(|| RouteSocket::open()?.link_by_name("lo"))?
            .map_err(Failure::act(act))?;
        Ok(link.is_some_and(|link| link.up))
    };
    if up(&container)? {
        return wrong("the loopback was up before ADD");
    }
    let result = site.runtime().add(&network, &mut attachment)?;
    if !up(&container)?
        || result["ips"][0]["address"] != "127.0.0.1/8"
        || result["interfaces"][0]["name"] != "lo"
    {
        return wrong(format!("loopback ADD: {result}"));
    }
    site.runtime().del(&network, &attachment)?;
    if up(&container)? {
        return wrong("the loopback is up after DEL");
    }
    attachment.netns.clear();
    Ok(site.runtime().del(&network, &attachment)?)
}
