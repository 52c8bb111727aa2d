//! STATUS says what is wrong, with the code that tells whether those who are attached suffer too.

use pontoon_lab::{Attachment, Backend, CniError, Container, Failure, Network, Outcome, Site};
use serde_json::json;

fn told(result: Result<(), CniError>, code: u64, word: &str) -> Outcome {
    match result {
        Err(error) if error.code == code && error.msg.contains(word) => Ok(()),
        other => Err(Failure::new(format!(
            "instead of code {code} with {word:?}: {other:?}"
        ))),
    }
}

#[test]
fn a_full_pool() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = site.network("small", "small0", &["10.84.0.0/30"]);
    site.runtime().status(&network)?;
    let container = Container::new("only")?;
    let mut attachment = Attachment::new(&container);
    site.runtime().add(&network, &mut attachment)?;
    told(
        site.runtime().status(&network),
        50,
        "no IP addresses available",
    )?;
    site.runtime().del(&network, &attachment)?;
    Ok(())
}

#[test]
fn no_usable_backend() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = site.network("none", "none0", &["10.84.0.0/24"]);
    for (plugin, key) in [("bridge", "ipMasqBackend"), ("portmap", "backend")] {
        let network = network.clone().with(plugin, key, json!("iptables"));
        let network = Network::from_list(only(&network, plugin));
        // The directory that has the administrators' tools has no iptables.
        let empty = pontoon_lab::Screen::hiding(&[], &tools()?)?;
        let runtime = site.runtime().here();
        let status = empty.run(&site.host, || runtime.status(&network))?;
        told(status, 50, "no ")?;
    }
    Ok(())
}

/// The programs behind every name of iptables.
fn tools() -> Outcome<Vec<std::path::PathBuf>> {
    ["xtables-nft-multi", "xtables-legacy-multi"]
        .into_iter()
        .map(|tool| pontoon_lab::find(tool).ok_or_else(|| pontoon_lab::missing(tool)))
        .collect()
}

/// The list with this plugin alone.
fn only(network: &Network, plugin: &str) -> serde_json::Value {
    let mut list = network.list().clone();
    if let Some(plugins) = list["plugins"].as_array_mut() {
        plugins.retain(|object| object["type"] == plugin);
    }
    list
}

#[test]
fn forwarding_switched_off() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = site.network("lan", "lan0", &["10.84.0.0/24"]);
    // No container is affected yet: an ADD switches it on.
    site.runtime().status(&network)?;
    let container = Container::new("web")?;
    let mut attachment = Attachment::new(&container);
    site.runtime().add(&network, &mut attachment)?;
    site.runtime().status(&network)?;
    site.host.set("net/ipv4/ip_forward", "0")?;
    told(site.runtime().status(&network), 51, "forwards nothing")?;
    site.host.set("net/ipv4/ip_forward", "1")?;
    site.runtime().status(&network)?;
    site.runtime().del(&network, &attachment)?;
    Ok(())
}

#[test]
fn a_dead_resolver() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = site.named_network("named", 84, json!({}));
    site.runtime().status(&network)?;
    let (_container, attachment) = site.join_named("web", &network)?;
    site.runtime().status(&network)?;
    site.kill_resolver()?;
    let mut tries = 50;
    while tries > 0 && site.runtime().status(&network).is_ok() {
        std::thread::sleep(std::time::Duration::from_millis(20));
        tries -= 1;
    }
    told(
        site.runtime().status(&network),
        51,
        "no resolver is running",
    )?;
    site.runtime().del(&network, &attachment)?;
    Ok(())
}

/// The bridge of those who are attached is down, or forwards nothing of one family by itself.
#[test]
fn a_bridge_switched_off() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = site.network("off", "off0", &["10.84.0.0/24", "fd00:84::/64"]);
    let shell = |line: &str| {
        let mut command = std::process::Command::new("/bin/sh");
        site.host.command(command.args(["-c", line])).map(drop)
    };
    let container = Container::new("only")?;
    let mut attachment = Attachment::new(&container);
    site.runtime().add(&network, &mut attachment)?;
    site.runtime().status(&network)?;
    for family in ["ipv4", "ipv6"] {
        let setting = format!("net/{family}/conf/off0/forwarding");
        site.host.set(&setting, "0")?;
        told(
            site.runtime().status(&network),
            51,
            "comes from bridge off0",
        )?;
        site.host.set(&setting, "1")?;
        site.runtime().status(&network)?;
    }
    shell("ip link set dev off0 down")?;
    told(site.runtime().status(&network), 51, "bridge off0 is down")?;
    shell("ip link set dev off0 up")?;
    site.runtime().del(&network, &attachment)?;
    // Without containers the link may be down: the next ADD sets it up.
    shell("ip link set dev off0 down")?;
    Ok(site.runtime().status(&network)?)
}
