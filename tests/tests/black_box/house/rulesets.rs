//! plugins/firewall/README.md shows the rules of a small example. They are what the kernel lists: this test makes the
//! example and compares. With `PONTOON_README=write` it writes them instead.

use std::fs;
use std::path::Path;
use std::process::Command;

use pontoon_lab::{Attachment, Backend, Container, Failure, Network, Outcome, Site, find, missing};
use serde_json::json;

/// The example: `web` publishes a port, `app` may reach it, and nothing else passes between them.
fn example(site: &Site) -> Outcome<(Network, Vec<(Container, Attachment)>)> {
    let keys = json!({ "profile": "docker", "icc": false });
    let network = site.firewalled("shop", &["172.17.0.0/16"], keys).with(
        "bridge",
        "bridge",
        json!("docker0"),
    );
    let mut guests = Vec::new();
    for name in ["web", "app"] {
        let container = Container::new(name)?;
        let mut attachment = Attachment::new(&container);
        attachment.container_id = name.to_owned();
        if name == "web" {
            attachment = attachment.publish("", 8080, 80, "tcp");
        } else {
            let links = json!([{ "container": "web", "ports": [{ "port": 80 }] }]);
            attachment.capabilities.insert("links".to_owned(), links);
        }
        site.runtime().add(&network, &mut attachment)?;
        guests.push((container, attachment));
    }
    Ok((network, guests))
}

fn listed(site: &Site, program: &str, arguments: &[&str]) -> Outcome<String> {
    let file = find(program).ok_or_else(|| missing(program))?;
    site.host.command(Command::new(file).args(arguments))
}

/// Without counters and dates.
fn iptables(text: &str) -> String {
    let kept = text.lines().filter(|line| !line.starts_with('#'));
    let kept = kept.map(|line| line.split(" [").next().unwrap_or(line));
    kept.map(|line| format!("{line}\n")).collect()
}

/// Compares what stands in the README between two markers.
fn compare(name: &str, rules: &str) -> Outcome {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/firewall/README.md");
    let readme =
        fs::read_to_string(&path).map_err(Failure::act("read plugins/firewall/README.md"))?;
    let (start, end) = (
        format!("<!-- rules of {name} -->\n```text\n"),
        "```\n<!-- end of rules -->".to_owned(),
    );
    let block = readme.split_once(&start).and_then(|(before, rest)| {
        let (block, after) = rest.split_once(&end)?;
        Some((before, block, after))
    });
    let (before, block, after) = block.ok_or_else(|| {
        Failure::new(format!("plugins/firewall/README.md has no rules of {name}"))
    })?;
    if block == rules {
        return Ok(());
    }
    if std::env::var_os("PONTOON_README").is_some_and(|word| word == "write") {
        let text = format!("{before}{start}{rules}{end}{after}");
        return fs::write(&path, text).map_err(Failure::act("write plugins/firewall/README.md"));
    }
    Err(Failure::new(format!(
        "plugins/firewall/README.md shows other rules of {name} than the kernel lists; PONTOON_README=write puts these there:\n{rules}"
    )))
}

fn check(backend: Backend, list: impl Fn(&Site) -> Outcome<String>) -> Outcome {
    let site = Site::new(backend)?;
    let (network, guests) = example(&site)?;
    let rules = list(&site)?;
    for (_, attachment) in guests.iter().rev() {
        site.runtime().del(&network, attachment)?;
    }
    compare(&backend.to_string(), &rules)
}

// One test: both write the same file.
#[test]
fn readme_shows_the_rules_that_are_made() -> Outcome {
    check(Backend::Nftables, |site| {
        listed(site, "nft", &["list", "ruleset"])
    })?;
    check(Backend::IptablesNft, |site| {
        let rules = listed(site, "iptables-nft-save", &[])?;
        let bridge = listed(site, "nft", &["list", "table", "bridge", "pontoon"])?;
        Ok(format!("{}\n{bridge}", iptables(&rules)))
    })
}
