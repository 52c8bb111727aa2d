//! `pontoon` on a host with containers of every mode: what it lists is what is there.

use std::fs;

use pontoon_lab::{Attachment, Backend, Container, Failure, Network, Outcome, Scratch, Site};
use serde_json::{Value, json};

#[track_caller]
fn wrong(text: impl Into<String>) -> Outcome {
    Err(Failure::new(text))
}

/// A container of each mode, one of them with names and ports.
struct Scene {
    site: Site,
    network: Network,
    web: (Container, Attachment),
    // Held alive.
    _others: Vec<Container>,
}

fn mode(kind: &str) -> Network {
    Network::from_list(json!({
        "cniVersion": "1.1.0", "name": format!("{kind}-net"), "plugins": [{ "type": kind }],
    }))
}

impl Scene {
    fn new() -> Outcome<Self> {
        let site = Site::new(Backend::Nftables)?;
        let network = site.network("shop", "shop0", &["10.79.0.0/24", "fd00:79::/64"]);
        let container = Container::new("web")?;
        let mut web = Attachment::new(&container)
            .publish("", 8080, 80, "tcp")
            .publish("127.0.0.1", 5353, 53, "udp");
        web.args = "K8S_POD_NAME=Front".to_owned();
        site.runtime().add(&network, &mut web)?;
        let mut others = Vec::new();
        let joined = mode("container").with("container", "container", json!("front"));
        for (name, network) in [
            ("db", &network),
            ("alone", &mode("none")),
            ("onhost", &mode("host")),
            ("side", &joined),
        ] {
            let container = Container::new(name)?;
            site.runtime()
                .add(network, &mut Attachment::new(&container))?;
            others.push(container);
        }
        Ok(Self {
            site,
            network,
            web: (container, web),
            _others: others,
        })
    }
}

/// The rows of a list whose key has this value.
fn row<'a>(list: &'a Value, key: &str, value: &str) -> Outcome<&'a Value> {
    let mut rows = list.as_array().into_iter().flatten();
    rows.find(|row| row[key] == value)
        .ok_or_else(|| Failure::new(format!("no {key} {value} in {list}")))
}

#[test]
fn ls_lists_every_mode() -> Outcome {
    let scene = Scene::new()?;
    let site = &scene.site;
    let before = site.snapshot()?;
    let list = site.pontoon_json(&["ls"])?;
    if list.as_array().map(Vec::len) != Some(5) {
        return wrong(format!("not five containers: {list}"));
    }
    let web = row(&list, "id", &scene.web.0.id)?;
    let expected = [
        (&web["names"], json!(["front"])),
        (&web["network"], json!("shop")),
        (&web["mode"], json!("bridge")),
        (&web["interface"], json!("eth0")),
        (&web["addresses"], json!(["10.79.0.2/24", "fd00:79::2/64"])),
        (&web["bridge"], json!("shop0")),
        (&web["alive"], json!(true)),
        (&web["ports"][0]["host_port"], json!(8080)),
    ];
    for (found, expected) in expected {
        if *found != expected {
            return wrong(format!("{expected} is shown as {found}: {web}"));
        }
    }
    let side = row(&list, "mode", "container")?;
    if side["shares"] != json!(scene.web.0.id) || side["addresses"] != web["addresses"] {
        return wrong(format!("not the other's addresses: {side}"));
    }
    row(&list, "mode", "none")?;
    row(&list, "mode", "host")?;
    let table = site.pontoon_ends(&["ls"], 0)?;
    let head = "NAME   ID            NETWORK";
    let line = table.lines().find(|line| line.starts_with("front"));
    let shown = line.is_some_and(|line| {
        line.contains("10.79.0.2/24") && line.contains("127.0.0.1:5353->53/udp")
    });
    if !table.starts_with(head) || !shown || table.contains('\x1b') {
        return wrong(format!("not the table:\n{table}"));
    }
    before.same_as(&site.snapshot()?, "looking")
}

/// A network without bridge: it is listed, and each of its leases belongs to one of its containers.
#[test]
fn a_routed_network_is_known() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = Network::from_list(json!({
        "cniVersion": "1.1.0", "name": "routed",
        "plugins": [{
            "type": "ptp", "ipMasq": true, "ipMasqBackend": "nftables",
            "ipam": { "type": "host-local", "dataDir": site.leases.path(),
                "ranges": [[{ "subnet": "10.84.0.0/24" }]] },
        }],
    }));
    let (container, mut attachment) = site.join("routed", &network)?;
    let list = site.pontoon_json(&["ls"])?;
    let one = row(&list, "id", &container.id)?;
    if one["mode"] != "ptp" || !one["addresses"].to_string().contains("10.84.0.2") {
        return wrong(format!("not the container: {one}"));
    }
    let networks = site.pontoon_json(&["networks"])?;
    if networks.as_array().map(Vec::len) != Some(1) || networks[0]["mode"] != "ptp" {
        return wrong(format!("not the network: {networks}"));
    }
    let leases = site.pontoon_json(&["leases", "routed"])?;
    if leases["leases"][0]["attached"] != true {
        return wrong(format!("not attached: {leases}"));
    }
    site.pontoon_ends(&["doctor"], 0)?;
    site.runtime().del(&network, &attachment)?;
    attachment.result = None;
    Ok(())
}

#[test]
fn networks_and_ports() -> Outcome {
    let scene = Scene::new()?;
    let site = &scene.site;
    let networks = site.pontoon_json(&["networks"])?;
    let shop = row(&networks, "name", "shop")?;
    if shop["bridge"] != "shop0"
        || shop["gateways"] != json!(["10.79.0.1/24", "fd00:79::1/64"])
        || shop["egress"] != json!(["masquerade"])
        || shop["backend"] != "nftables"
        || shop["containers"] != 2
    {
        return wrong(format!("not the network: {shop}"));
    }
    row(&networks, "name", "host-net")?;
    let ports = site.pontoon_json(&["ports"])?;
    let port = row(&ports, "protocol", "tcp")?;
    if port["host_port"] != 8080 || port["container"] != json!(scene.web.0.id) {
        return wrong(format!("not the port: {port}"));
    }
    let table = site.pontoon_ends(&["ports"], 0)?;
    if !table.contains("127.0.0.1:5353  udp       front      53") || !table.contains("*:8080") {
        return wrong(format!("not the table:\n{table}"));
    }
    // A network whose bridge is left over is listed with no containers.
    site.runtime().del(&scene.network, &scene.web.1)?;
    let ports = site.pontoon_json(&["ports"])?;
    if ports != json!([]) {
        return wrong(format!("ports after DEL: {ports}"));
    }
    site.pontoon_ends(&["networks"], 0).map(drop)
}

#[test]
fn leases_and_whose_they_are() -> Outcome {
    let scene = Scene::new()?;
    let site = &scene.site;
    let leases = site.pontoon_json(&["leases", "shop"])?;
    let subnet = row(&leases["subnets"], "subnet", "10.79.0.0/24")?;
    if subnet["used"] != 2 || subnet["free"] != 251 || subnet["next"] != "10.79.0.4" {
        return wrong(format!("not counted: {leases}"));
    }
    let lease = row(&leases["leases"], "address", "10.79.0.2")?;
    if lease["container"] != json!(scene.web.0.id)
        || lease["name"] != "front"
        || lease["interface"] != "eth0"
        || lease["attached"] != true
    {
        return wrong(format!("not whose it is: {lease}"));
    }
    // What is said to be next is what comes next.
    let (_next, attachment) = site.join("next", &scene.network)?;
    if attachment.address(false).as_deref() != Some("10.79.0.4") {
        return wrong(format!("{:?} came next", attachment.address(false)));
    }
    let dir = site.leases.path().display().to_string();
    site.pontoon_ends(&["leases", "shop", "--data-dir", &dir], 0)?;
    site.pontoon_ends(&["leases", "nothing"], 3).map(drop)
}

#[test]
fn inspect_by_id_short_id_and_name() -> Outcome {
    let scene = Scene::new()?;
    let site = &scene.site;
    let id = scene.web.0.id.as_str();
    for wanted in [id, &id[..id.len() - 1], "front", "FRONT"] {
        let found = site.pontoon_json(&["inspect", wanted])?;
        if found[0]["id"] != id || found[0]["netns"] != scene.web.0.path_text() {
            return wrong(format!("{wanted}: {found}"));
        }
    }
    let text = site.pontoon_ends(&["inspect", "front"], 0)?;
    if !text.contains("namespace   /run/netns/") || !text.contains("(alive)") {
        return wrong(format!("not the text:\n{text}"));
    }
    let finished = site.pontoon(&["inspect", "unknown"])?;
    if finished.status != Some(3) || !finished.stderr.contains("hint: pontoon ls") {
        return wrong(format!("{:?}: {}", finished.status, finished.stderr));
    }
    Ok(())
}

#[test]
fn an_empty_host_lists_nothing() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    for command in ["ls", "networks", "ports"] {
        if site.pontoon_json(&[command])? != json!([]) {
            return wrong(format!("{command} lists something"));
        }
        if site.pontoon_ends(&[command], 0)?.lines().count() != 1 {
            return wrong(format!("{command} prints more than its heading"));
        }
    }
    site.pontoon_ends(&["no-such-command"], 2).map(drop)
}

#[test]
fn completions_and_man_pages_know_every_command() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let help = site.pontoon_ends(&["--help"], 0)?;
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    if commands.len() < 8 {
        return wrong(format!("only {commands:?} in\n{help}"));
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = site.pontoon_ends(&["completions", shell], 0)?;
        for command in &commands {
            if !script.contains(command) {
                return wrong(format!("{shell} does not complete {command}"));
            }
        }
    }
    site.pontoon_ends(&["completions", "csh"], 2)?;
    let dir = Scratch::new("man")?;
    site.pontoon_ends(&["man", &dir.path().display().to_string()], 0)?;
    for command in commands.iter().filter(|command| **command != "help") {
        let page = dir.path().join(format!("pontoon-{command}.1"));
        let text =
            fs::read_to_string(&page).map_err(Failure::act(format!("read {}", page.display())))?;
        if !text.contains(".TH") {
            return wrong(format!("{} is no man page", page.display()));
        }
    }
    site.pontoon_ends(&["man", "/proc/nowhere"], 1).map(drop)
}
