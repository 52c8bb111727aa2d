//! `pontoon graph` draws what is there, in every form.

use std::fs;
use std::path::Path;

use pontoon_lab::{Attachment, Backend, Container, Failure, Network, Outcome, Site};
use serde_json::json;

#[test]
fn every_form_shows_every_container() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = site.network("drawn", "drawn0", &["10.83.0.0/24"]);
    let mut containers = Vec::new();
    for number in 0..3_u16 {
        let container = Container::new("box")?;
        let mut attachment = Attachment::new(&container).publish("", 8080 + number, 80, "tcp");
        attachment.args = format!("K8S_POD_NAME=pod{number}");
        site.runtime().add(&network, &mut attachment)?;
        containers.push(container);
    }
    for (form, begins) in [
        (&["graph"][..], "eth0  198.18.7.1/24"),
        (&["graph", "--svg"], "<svg "),
        (&["graph", "--dot"], "graph pontoon {"),
        (&["graph", "--mermaid"], "graph LR"),
    ] {
        let text = site.pontoon_ends(form, 0)?;
        let all = ["pod0", "pod1", "pod2", "drawn0", "10.83.0.3/24", "8081-"];
        let missing: Vec<&&str> = all.iter().filter(|word| !text.contains(**word)).collect();
        if !text.starts_with(begins) || !missing.is_empty() {
            return Err(Failure::new(format!("{form:?} lacks {missing:?}:\n{text}")));
        }
    }
    site.pontoon_ends(&["graph", "--svg", "--dot"], 2).map(drop)
}

/// What is closed stands at the network, a link at the container that has it, in every form.
#[test]
fn links_and_closed_networks_are_drawn() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let keys = json!({ "profile": "docker", "icc": false });
    let network = site.firewalled("apart", &["10.83.0.0/24"], keys);
    let mut containers = Vec::new();
    for name in ["db", "app"] {
        let container = Container::new(name)?;
        let mut attachment = Attachment::new(&container);
        attachment.args = format!("IgnoreUnknown=1;K8S_POD_NAME=the-{name}");
        if name == "app" {
            let ports = json!([{ "port": 5432, "protocol": "tcp" }]);
            let links = json!([{ "container": "the-db", "alias": "db", "ports": ports }]);
            attachment.capabilities.insert("links".to_owned(), links);
        }
        site.runtime().add(&network, &mut attachment)?;
        containers.push(container);
    }
    for (form, edge) in [
        (&["graph"][..], "link: the-db 5432/tcp"),
        (&["graph", "--svg"], "link: the-db 5432/tcp"),
        (&["graph", "--dot"], "[label=\"5432/tcp\", style=dashed"),
        (&["graph", "--mermaid"], "-. 5432/tcp .->"),
    ] {
        let text = site.pontoon_ends(form, 0)?;
        if !text.contains(edge) || !text.contains("closed: icc off") {
            return Err(Failure::new(format!("{form:?}: no {edge}:\n{text}")));
        }
    }
    Ok(())
}

/// The picture in README is what the command draws of the demo. After a change of the drawing,
/// `PONTOON_DRAW=1` makes it anew.
#[test]
fn the_picture_in_readme_is_of_the_demo() -> Outcome {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let site = Site::new(Backend::Nftables)?;
    let sample = tests.join("../conf/samples/docker0.conflist");
    let network = Network::load(&sample)?
        .with_ipam("dataDir", json!(site.leases.path()))
        .with("bridge", "ipMasqBackend", json!("nftables"))
        .with("portmap", "backend", json!("nftables"))
        .with("firewall", "backend", json!("nftables"));
    let mut containers = Vec::new();
    for name in ["web", "cli"] {
        let container = Container::new(name)?;
        let mut attachment = Attachment::new(&container);
        if name == "web" {
            attachment = attachment
                .publish("", 8080, 80, "tcp")
                .publish("", 8080, 80, "udp");
        }
        attachment.container_id = name.to_owned();
        site.runtime().add(&network, &mut attachment)?;
        containers.push(container);
    }
    let drawn = site.pontoon_ends(&["graph", "--svg"], 0)?;
    let file = tests.join("pictures/demo.svg");
    if std::env::var_os("PONTOON_DRAW").is_some() {
        fs::write(&file, &drawn).map_err(Failure::act("write the picture"))?;
    }
    let kept = fs::read_to_string(&file).map_err(Failure::act("read the picture"))?;
    let readme = fs::read_to_string(tests.join("../README.md"));
    let readme = readme.map_err(Failure::act("read README"))?;
    if kept != drawn || !readme.contains("(tests/pictures/demo.svg)") {
        return Err(Failure::new(format!(
            "README's picture is not of the demo: PONTOON_DRAW=1 draws it anew\n{drawn}"
        )));
    }
    Ok(())
}
