//! `pontoon doctor` on healthy hosts of many kinds: it finds nothing with any sample and any backend,
//! beside podman, containerd and ufw, and behind whatever rules let the containers' packets pass. What
//! is broken there is found, and the printed command mends it and breaks nothing of the neighbour's.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pontoon_lab::{
    Attachment, BOTH, Backend, Container, Containerd, Failure, HOST_V4, HOST_V6, IMAGE, NameServer,
    Network, OUTSIDE_V4, OUTSIDE_V6, Outcome, Podman, Sample, Scratch, Site, samples,
    samples_of_others, slice, udp,
};
use serde_json::{Value, json};

const WAIT: Duration = Duration::from_secs(3);

/// Of the files that others write, so many are tried with each backend in a run.
const TRIED: usize = 6;

/// What doctor says when it ends with this exit code.
fn doctor(site: &Site, conf: &Scratch, status: i32) -> Outcome<String> {
    let plugins = site.runtime().programs().dir().display().to_string();
    let conf = conf.path().display().to_string();
    let places = ["doctor", "--conf-dir", &conf, "--bin-dir", &plugins];
    site.pontoon_ends(&places, status)
}

/// Wants doctor to find nothing.
fn silent(site: &Site, conf: &Scratch) -> Outcome {
    doctor(site, conf, 0).map(drop)
}

fn written(network: &Network) -> Outcome<Scratch> {
    let conf = Scratch::new("conf")?;
    let file = conf.path().join("10-network.conflist");
    fs::write(file, network.list().to_string()).map_err(Failure::act("write a conflist"))?;
    Ok(conf)
}

/// Two containers on a network; doctor is asked before, during and after.
fn healthy(path: &Path, backend: Backend) -> Outcome {
    let site = Site::new(backend)?;
    // The plugin dns asks it: the host of the lab does not reach the machine's servers.
    let _server = NameServer::start(site.host.outside(), OUTSIDE_V4, Ipv4Addr::new(192, 0, 2, 1))?;
    let sample = Sample::load(path, &site)?.with_name_server(&site, OUTSIDE_V4)?;
    let network = sample.network();
    let conf = written(&network)?;
    silent(&site, &conf)?;
    let _joined = sample.equip(&site)?;
    let mut attached = Vec::new();
    let alone = sample.has("host") || sample.has("container");
    let count: u16 = if alone { 1 } else { 2 };
    for number in 0..count {
        let container = Container::new("sample")?;
        let mut attachment = Attachment::new(&container);
        if sample.has("portmap") {
            attachment = attachment.publish("", 8080 + number, 80, "tcp");
        }
        if sample.has("bandwidth") {
            let limits = json!({
                "ingressRate": 8_000_000, "ingressBurst": 8_000_000,
                "egressRate": 8_000_000, "egressBurst": 8_000_000,
            });
            attachment
                .capabilities
                .insert("bandwidth".to_owned(), limits);
        }
        site.runtime().add(&network, &mut attachment)?;
        attached.push((container, attachment));
    }
    let judge = match sample.has("overlay") {
        true => only_the_agent_is_missing,
        false => silent,
    };
    judge(&site, &conf)?;
    for (_, attachment) in &attached {
        site.runtime().del(&network, attachment)?;
    }
    judge(&site, &conf)
}

/// No agent runs in these tests, which doctor has to say on a host among several, and nothing else.
fn only_the_agent_is_missing(site: &Site, conf: &Scratch) -> Outcome {
    let told = doctor(site, conf, 1)?;
    match told.starts_with("agent-not-running ") && told.contains("\n1 finding: ") {
        true => Ok(()),
        false => Err(Failure::new(format!("not the agent alone: {told}"))),
    }
}

fn all_healthy(paths: &[PathBuf], backend: Backend) -> Outcome {
    let mut wrong = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let told = healthy(path, backend).err();
        wrong.extend(told.map(|error| format!("{name}: {error}")));
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(wrong.join("\n"))),
    }
}

#[test]
fn every_sample_is_healthy_with_nftables() -> Outcome {
    all_healthy(&samples()?, Backend::Nftables)
}

#[test]
fn every_sample_is_healthy_with_iptables_nft() -> Outcome {
    let tried = slice("doctor, samples with iptables-nft", samples()?, TRIED);
    all_healthy(&tried, Backend::IptablesNft)
}

#[test]
fn every_sample_is_healthy_with_iptables_legacy() -> Outcome {
    let tried = slice("doctor, samples with iptables-legacy", samples()?, TRIED);
    all_healthy(&tried, Backend::IptablesLegacy)
}

/// kubelet's, containerd's, CRI-O's, nerdctl's, podman's and the reference's own.
#[test]
fn what_others_write_is_healthy_with_nftables() -> Outcome {
    let tried = slice("doctor, others with nftables", samples_of_others()?, TRIED);
    all_healthy(&tried, Backend::Nftables)
}

#[test]
fn what_others_write_is_healthy_with_iptables() -> Outcome {
    let tried = slice("doctor, others with iptables", samples_of_others()?, TRIED);
    all_healthy(&tried, Backend::IptablesNft)
}

/// podman holds each published port by conmon, and `dns` stands in for its dnsname.
#[test]
fn beside_podman() -> Outcome {
    for backend in [Backend::Nftables, Backend::IptablesNft] {
        let site = Site::new(backend)?;
        let podman = Podman::new(&site)?;
        podman.run(&["network", "create", "n"])?;
        podman.run(&[
            "run",
            "-d",
            "--name",
            "web",
            "--network",
            "n",
            "-p",
            "8201:80",
            "-p",
            "8201:80/udp",
            IMAGE,
            "sleep",
            "100000",
        ])?;
        podman.start("client", &["--network", "n"])?;
        let server = podman.serve("web", 80)?;
        let healthy = |when: &str| {
            let (_, text) = podman.pontoon(&["doctor", "--json"])?;
            let report: Value = serde_json::from_str(&text)
                .map_err(Failure::act(format!("read the report {text}")))?;
            let findings = report["findings"].as_array().into_iter().flatten();
            // The host of the lab does not reach the name server of the machine, whose file this is.
            let found: Vec<&Value> = findings
                .filter(|one| one["id"] != "server-silent")
                .collect();
            if !found.is_empty() {
                return Err(Failure::new(format!("{backend}, {when}: {found:?}")));
            }
            for (name, ask) in BOTH {
                let target = SocketAddr::new(HOST_V4, 8201);
                site.host
                    .run_outside(|| ask(target, WAIT))?
                    .map_err(|none| {
                        Failure::new(format!("{backend}, {when}: {name} to 8201: {none}"))
                    })?;
            }
            Ok(())
        };
        healthy("as podman made it")?;
        // What is safe to mend is nothing here.
        let (_, text) = podman.pontoon(&["doctor", "--fix"])?;
        if text.contains("ran: ") {
            return Err(Failure::new(format!("{backend}: {text}")));
        }
        healthy("after --fix")?;
        let running = podman.run(&["ps", "-q"])?;
        if running.lines().count() != 2 {
            return Err(Failure::new(format!("{backend}: running are {running}")));
        }
        drop(server);
        podman.clear()?;
    }
    Ok(())
}

/// A pod with the CRI's bandwidth annotations has an ifb with the same tag as its veth pair.
#[test]
fn beside_containerd() -> Outcome {
    for backend in [Backend::Nftables, Backend::IptablesNft] {
        let site = Site::new(backend)?;
        let network = json!({
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [
                {
                    "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
                    "hairpinMode": true, "ipMasqBackend": backend.key(),
                    "ipam": {
                        "type": "host-local", "ranges": [[{ "subnet": "10.96.1.0/24" }]],
                        "routes": [{ "dst": "0.0.0.0/0" }],
                    },
                },
                { "type": "portmap", "backend": backend.key(), "capabilities": { "portMappings": true } },
                { "type": "bandwidth", "capabilities": { "bandwidth": true } },
                { "type": "firewall", "backend": backend.key() },
            ],
        });
        let containerd = Containerd::start(&site, &network)?;
        containerd.call(&["ready"])?;
        let web = containerd.pod(&json!({
            "name": "web",
            "ports": [["tcp", 8095, 80, ""], ["udp", 8095, 80, ""]],
            "annotations": {
                "kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "20M",
            },
        }))?;
        let _server = web.serve("web", 80)?;
        for arguments in [&["doctor"][..], &["doctor", "--fix"]] {
            let (done, text) = containerd.pontoon(arguments)?;
            if !done || text.contains("ran: ") {
                return Err(Failure::new(format!("{backend}: {text}")));
            }
            for (name, ask) in BOTH {
                let target = SocketAddr::new(HOST_V4, 8095);
                site.host
                    .run_outside(|| ask(target, WAIT))?
                    .map_err(|none| Failure::new(format!("{backend}: {name} to 8095: {none}")))?;
            }
        }
        // What reads the same facts names the veth pair too.
        let (_, text) = containerd.pontoon(&["trace", "outside", "host:8095"])?;
        if !text.contains("verdict: arrives") {
            return Err(Failure::new(format!("{backend}: {text}")));
        }
        let (_, text) = containerd.pontoon(&["ls", "--json"])?;
        let listed: Value = serde_json::from_str(&text).map_err(Failure::act("read ls"))?;
        let end = listed[0]["host_interface"].as_str().unwrap_or_default();
        if !end.starts_with("veth") || listed[0]["bridge"] != "cni0" {
            return Err(Failure::new(format!("{backend}: {text}")));
        }
    }
    Ok(())
}

/// Rules that let the containers' packets pass without the plain name of the bridge in the base chain.
const LETS_PASS: [(&str, &str); 7] = [
    (
        "a wildcard",
        "add rule inet own passes iifname \"br-*\" accept",
    ),
    (
        "a set without name",
        "add rule inet own passes iifname { \"br-lan\", \"eth9\" } accept",
    ),
    (
        "a named set",
        "add set inet own mine { type ifname; elements = { \"br-lan\" }; }\nadd rule inet own passes iifname @mine accept",
    ),
    (
        "subnets",
        "add rule inet own passes ip saddr 10.81.0.0/16 accept\nadd rule inet own passes ip6 saddr fd00:81::/48 accept",
    ),
    (
        "all but the uplink",
        "add rule inet own passes iifname != \"eth0\" accept",
    ),
    (
        "a jump",
        "add chain inet own more\nadd rule inet own more iifname \"br-lan\" accept\nadd rule inet own passes jump more",
    ),
    (
        "a map",
        "add rule inet own passes iifname vmap { \"br-lan\" : accept }",
    ),
];

/// The way out and the way in, of both families and protocols.
fn passes(site: &Site, container: &Container, what: &str) -> Outcome {
    for (host, outside) in [(HOST_V4, OUTSIDE_V4), (HOST_V6, OUTSIDE_V6)] {
        for (name, ask) in BOTH {
            let out = container.run(|| ask(SocketAddr::new(outside, 80), WAIT))?;
            out.map_err(|none| Failure::new(format!("{what}: {name} to {outside}: {none}")))?;
            let come = site
                .host
                .run_outside(|| ask(SocketAddr::new(host, 8080), WAIT))?;
            come.map_err(|none| Failure::new(format!("{what}: {name} to {host}:8080: {none}")))?;
        }
    }
    Ok(())
}

fn shell(site: &Site, line: &str) -> Outcome<String> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", line]).env("PATH", site.admins_path());
    site.host.command(&mut command)
}

#[test]
fn behind_rules_that_let_pass_nothing_is_found() -> Outcome {
    let mut wrong = Vec::new();
    for (name, rules) in LETS_PASS {
        let tried = || {
            let site = Site::new(Backend::Nftables)?;
            site.host.bridge_nf_call(false)?;
            let lan = site.network("lan", "br-lan", &["10.81.0.0/24", "fd00:81::/64"]);
            let conf = written(&lan)?;
            let _beyond = site.host.serve_outside(80)?;
            let web = site.publish(&lan, 8080)?;
            let file = conf.path().join("rules");
            let base = "add table inet own\nadd chain inet own passes { type filter hook forward priority 0; policy drop; }\nadd rule inet own passes ct state established,related accept\nadd rule inet own passes ct status dnat accept\n";
            fs::write(&file, format!("{base}{rules}\n")).map_err(Failure::act("write rules"))?;
            shell(&site, &format!("nft -f {}", file.display()))?;
            passes(&site, &web.container, name)?;
            silent(&site, &conf)
        };
        wrong.extend(tried().err().map(|error| format!("{name}: {error}")));
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(wrong.join("\n"))),
    }
}

/// ufw as it is enabled by default: FORWARD drops what its own chains do not accept. The plugin firewall
/// has found that and accepts beside it.
#[test]
fn beside_ufw() -> Outcome {
    for backend in [Backend::Nftables, Backend::IptablesNft] {
        let site = Site::new(backend)?;
        for family in ["iptables-nft", "ip6tables-nft"] {
            shell(
                &site,
                &format!(
                    "{family} -N ufw-before-forward && {family} -N ufw-user-forward \
                     && {family} -A FORWARD -j ufw-before-forward \
                     && {family} -A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT \
                     && {family} -A ufw-before-forward -j ufw-user-forward \
                     && {family} -P FORWARD DROP"
                ),
            )?;
        }
        let lan = site.firewalled(
            "lan",
            &["10.81.0.0/24", "fd00:81::/64"],
            json!({ "profile": "docker" }),
        );
        let conf = written(&lan)?;
        let _beyond = site.host.serve_outside(80)?;
        let web = site.publish(&lan, 8080)?;
        passes(&site, &web.container, &format!("{backend} beside ufw"))?;
        silent(&site, &conf)?;
    }
    Ok(())
}

/// The mend of a dropped FORWARD lets our packets pass, and a neighbour's go on as before.
#[test]
fn a_mend_beside_a_second_runtime_breaks_nothing_of_it() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    site.host.bridge_nf_call(true)?;
    // The second runtime: a bridge, rules and a published port of another's making.
    let theirs = Container::new("theirs")?;
    let path = theirs.path_text();
    shell(
        &site,
        &format!(
            "ip link add docker0 type bridge && ip address add 172.17.0.1/16 dev docker0 && ip link set docker0 up \
             && ip link add theirs0 type veth peer name eth0 netns {path} && ip link set theirs0 master docker0 up \
             && nsenter --net={path} sh -c 'ip link set lo up && ip link set eth0 up && ip address add 172.17.0.2/16 dev eth0 && ip route add default via 172.17.0.1' \
             && iptables-nft -N DOCKER-USER && iptables-nft -N DOCKER && iptables-nft -t nat -N DOCKER \
             && iptables-nft -A FORWARD -j DOCKER-USER && iptables-nft -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT \
             && iptables-nft -A FORWARD -o docker0 -j DOCKER && iptables-nft -A FORWARD -i docker0 ! -o docker0 -j ACCEPT \
             && iptables-nft -A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p udp -m udp --dport 80 -j ACCEPT \
             && iptables-nft -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER \
             && iptables-nft -t nat -A DOCKER ! -i docker0 -p udp -m udp --dport 9090 -j DNAT --to-destination 172.17.0.2:80 \
             && iptables-nft -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE \
             && sysctl -q -w net.ipv4.ip_forward=1 && iptables-nft -P FORWARD DROP"
        ),
    )?;
    let _theirs = theirs.serve(80)?;
    let lan = site.network("lan", "br-lan", &["10.81.0.0/24"]);
    let conf = written(&lan)?;
    let mut attached = Vec::new();
    for number in 0..2 {
        attached.push(site.publish(&lan, 8080 + number)?);
    }
    let asked = |port: u16| {
        let target = SocketAddr::new(HOST_V4, port);
        site.host
            .run_outside(|| udp(target, Duration::from_secs(1)))
    };
    let neighbour = |when: &str| {
        asked(9090)?.map_err(|none| Failure::new(format!("{when}: the neighbour's port: {none}")))
    };
    neighbour("before")?;
    if asked(8080)?.is_ok() {
        return Err(Failure::new("FORWARD drops, and the port answers"));
    }
    let plugins = site.runtime().programs().dir().display().to_string();
    let folder = conf.path().display().to_string();
    let places = ["doctor", "--conf-dir", &folder, "--bin-dir", &plugins];
    let settings = || site.host.get("net/bridge/bridge-nf-call-iptables");
    let before = settings()?;
    for _ in 0..3 {
        let report = site.pontoon_json(&places)?;
        for finding in report["findings"].as_array().into_iter().flatten() {
            let mend = finding["mend"].as_str().unwrap_or_default();
            let harm = ["kill", "resolv.conf", "bridge-nf-call", " -F", " -P "];
            if harm.iter().any(|word| mend.contains(word)) {
                return Err(Failure::new(format!("a mend that harms: {mend}")));
            }
            shell(&site, mend)?;
        }
    }
    silent(&site, &conf)?;
    asked(8080)?.map_err(|none| Failure::new(format!("our port after the mend: {none}")))?;
    neighbour("after")?;
    if settings()? != before {
        return Err(Failure::new("a setting of the bridges has changed"));
    }
    Ok(())
}
