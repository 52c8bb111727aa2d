//! `pontoon graph` draws what is there, in every form.

use xtask::{Attachment, Backend, Container, Failure, Outcome, Site};

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
