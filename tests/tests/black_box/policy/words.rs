//! What a person is told of a policy that names something which is not there: accepted, and said.

use pontoon_lab::{Attachment, Backend, Container, Network, Outcome, Site};
use serde_json::json;

const LAN: [&str; 1] = ["10.91.0.0/24"];

/// Attaches a container, and keeps what the firewall plugin says on standard error.
fn attach(site: &Site, network: &Network, attachment: &mut Attachment) -> Outcome<String> {
    let runtime = site.runtime();
    let mut words = String::new();
    for plugin in network.plugins() {
        let kind = plugin["type"].as_str().unwrap_or_default();
        let previous = attachment.result.as_ref();
        let stdin = network.stdin(plugin, &attachment.capabilities, previous);
        let call = runtime.attachment_call("ADD", &stdin, attachment);
        let finished = runtime.call(kind, &call)?;
        finished.verdict(&format!("{kind} ADD"))?;
        if kind == "firewall" {
            words += &finished.stderr;
        }
        attachment.result = serde_json::from_str(&finished.stdout).ok();
    }
    Ok(words)
}

#[test]
fn links_that_wait_are_said_and_seen() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let before = site.snapshot()?;
    let lan = site.firewalled("lan", &LAN, json!({ "profile": "docker", "icc": false }));
    let container = Container::new("me")?;
    let mut attachment = Attachment::new(&container);
    attachment.args = "IgnoreUnknown=1;K8S_POD_NAME=me".to_owned();
    let ports = json!([{ "port": 80 }]);
    let links = json!([
        { "container": "me", "ports": ports }, { "container": "late", "ports": ports },
    ]);
    attachment.capabilities.insert("links".to_owned(), links);
    let words = attach(&site, &lan, &mut attachment)?;
    assert!(
        words.contains("the link to \"me\" means the container itself"),
        "{words}"
    );
    assert!(words.contains("the link to \"late\" waits"), "{words}");
    let text = site.pontoon_ends(&["inspect", "me"], 0)?;
    for name in ["me", "late"] {
        let line = format!("{name} 80/tcp (waits");
        assert!(text.contains(&line), "{text}");
    }
    site.runtime().check(&lan, &attachment)?;

    // A container that is attached under this name later is reached.
    let other = Container::new("late")?;
    let mut late = Attachment::new(&other);
    late.args = "IgnoreUnknown=1;K8S_POD_NAME=late".to_owned();
    attach(&site, &lan, &mut late)?;
    let found = site.pontoon_json(&["inspect", "me"])?;
    let links = &found[0]["links"];
    assert_eq!(links[0]["reaches"], json!([]), "{found}");
    assert_eq!(links[1]["reaches"], json!([other.id]), "{found}");
    for attachment in [&late, &attachment] {
        site.runtime().del(&lan, attachment)?;
    }
    site.nothing_left(&before, &[&lan], "DEL")
}

#[test]
fn a_trusted_interface_that_is_not_there_is_said() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let lan = site.firewalled(
        "lan",
        &LAN,
        json!({ "profile": "docker", "trustedInterfaces": ["wg7"] }),
    );
    let container = Container::new("one")?;
    let mut attachment = Attachment::new(&container);
    let words = attach(&site, &lan, &mut attachment)?;
    assert!(
        words.contains("\"trustedInterfaces\": there is no interface wg7"),
        "{words}"
    );
    Ok(site.runtime().del(&lan, &attachment)?)
}
