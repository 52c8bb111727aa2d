//! `pontoon doctor`: a healthy host yields no finding; each thing that can be wrong is planted, found
//! by name, and mended by the command that is printed.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use xtask::{
    Attachment, Backend, Container, Failure, HOST_V4, NameServer, Network, OUTSIDE_V4, Outcome,
    Scratch, Site, find, missing, tcp,
};

const PATIENCE: Duration = Duration::from_secs(2);

/// A host with a network, and two containers on it.
struct Ward {
    site: Site,
    conf: Scratch,
    network: Network,
    containers: Vec<(Container, Attachment)>,
    plugins: String,
    processes: Vec<Child>,
}

impl Ward {
    fn new(backend: Backend) -> Outcome<Self> {
        Self::with(backend, &["10.82.0.0/24", "fd00:82::/64"], 2)
    }

    fn with(backend: Backend, subnets: &[&str], count: u16) -> Outcome<Self> {
        let site = Site::new(backend)?;
        let network = site.network("ward", "ward0", subnets);
        let conf = Scratch::new("conf")?;
        let file = conf.path().join("10-ward.conflist");
        fs::write(file, network.list().to_string()).map_err(Failure::act("write the conflist"))?;
        let mut containers = Vec::new();
        for number in 0..count {
            let container = Container::new("patient")?;
            let mut attachment = Attachment::new(&container).publish("", 8080 + number, 80, "tcp");
            site.runtime().add(&network, &mut attachment)?;
            containers.push((container, attachment));
        }
        let plugins = site.runtime().programs().dir().display().to_string();
        Ok(Self {
            site,
            conf,
            network,
            containers,
            plugins,
            processes: Vec::new(),
        })
    }

    /// Runs a command line on the host as an administrator would.
    fn shell(&self, line: &str) -> Outcome {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", line])
            .env("PATH", self.site.admins_path());
        self.site.host.command(&mut command).map(drop)
    }

    /// The same in the first container.
    fn inside(&self, line: &str) -> Outcome {
        let path = self.containers[0].0.path_text();
        self.shell(&format!("nsenter --net={path} sh -c {}", quoted(line)))
    }

    /// The findings: kinds and commands.
    fn examine(&self, arguments: &[&str]) -> Outcome<Vec<(String, String, bool)>> {
        let conf = self.conf.path().display().to_string();
        let places = ["--conf-dir", &conf, "--bin-dir", &self.plugins];
        let report = self
            .site
            .pontoon_json(&[&["doctor"], arguments, &places].concat())?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let findings = report["findings"].as_array().into_iter().flatten();
        let mut found = Vec::new();
        for finding in findings {
            let said = ["object", "meaning", "evidence"];
            let silent = said.iter().any(|key| text(&finding[key]).is_empty());
            // Where a command would take something from others, there is advice in its place.
            let next = text(&finding["mend"]) + &text(&finding["advice"]);
            if silent || next.is_empty() {
                return Err(Failure::new(format!("says too little: {finding}")));
            }
            found.push((
                text(&finding["id"]),
                text(&finding["mend"]),
                finding["safe"] == true,
            ));
        }
        Ok(found)
    }

    /// Wants these kinds of findings, runs what is printed, and wants none.
    fn cure(&self, expected: &[&str]) -> Outcome {
        let found = self.examine(&[])?;
        let kinds: BTreeSet<&str> = found.iter().map(|(id, ..)| id.as_str()).collect();
        if kinds != expected.iter().copied().collect() {
            return Err(Failure::new(format!("found {found:?}, not {expected:?}")));
        }
        // Mending one may show another: a bridge that was down has lost its IPv6 addresses.
        for _ in 0..3 {
            let remedy = |(id, mend, _): (String, String, bool)| {
                let followed = ADVISED.iter().find(|(advised, _)| *advised == id);
                let conf = self.conf.path().display().to_string();
                followed.map_or(mend, |(_, command)| command.replace("$CONF", &conf))
            };
            let mut commands: Vec<String> = self.examine(&[])?.into_iter().map(remedy).collect();
            commands.dedup();
            for command in commands {
                self.shell(&command)?;
            }
            if self.examine(&[])?.is_empty() {
                return Ok(());
            }
        }
        Err(Failure::new(format!(
            "still ill after the cure: {:?}",
            self.examine(&[])?
        )))
    }

    /// Whether the first container reaches the outside.
    fn reaches_outside(&self) -> Outcome<bool> {
        let _server = self.site.host.serve_outside(7777)?;
        let target = SocketAddr::new(OUTSIDE_V4, 7777);
        let reply = self.containers[0].0.run(|| tcp(target, PATIENCE))?;
        Ok(reply.is_ok())
    }
}

impl Drop for Ward {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A word of a shell's command line.
fn quoted(line: &str) -> String {
    format!("'{}'", line.replace('\'', "'\\''"))
}

/// One thing that can be wrong: its name, the findings it gives, and how it comes about.
type Illness = (
    &'static str,
    &'static [&'static str],
    fn(&mut Ward) -> Outcome,
);

/// What an administrator does who follows the advice of findings that name no command, or in whose
/// place no command is enough.
const ADVISED: [(&str, &str); 4] = [
    (
        "subnet-overlaps-route",
        "ip route del 10.82.0.128/25 dev eth0",
    ),
    ("iptables-variants-mixed", "iptables-legacy -F"),
    (
        "no-default-route",
        "ip link set dev eth0 up && ip route replace default via 198.18.7.2 dev eth0",
    ),
    ("plugin-missing", "rm $CONF/20-typo.conflist"),
];

const SWITCHES: [Illness; 4] = [
    ("IPv4 forwarding off", &["forwarding-off"], |ward| {
        ward.site.host.set("net/ipv4/ip_forward", "0")
    }),
    ("IPv6 forwarding off", &["forwarding-off"], |ward| {
        ward.site.host.set("net/ipv6/conf/all/forwarding", "0")
    }),
    ("forwarding of a bridge off", &["forwarding-off"], |ward| {
        ward.site.host.set("net/ipv4/conf/ward0/forwarding", "0")
    }),
    (
        "strict reverse-path filter",
        &["rp-filter-strict"],
        |ward| {
            ward.shell("ip link add up1 type veth peer name up2 && ip link set up1 up && ip link set up2 up && ip address add 203.0.113.1/24 dev up1 && ip route add default via 203.0.113.2 metric 500 && sysctl -q -w net.ipv4.conf.all.rp_filter=1")
        },
    ),
];

const FILTERS: [Illness; 4] = [
    ("FORWARD dropped by Docker", &["forward-dropped"], |ward| {
        ward.shell("iptables-nft -N DOCKER-USER && iptables-nft -A FORWARD -j DOCKER-USER && iptables-nft -P FORWARD DROP && sysctl -q -w net.bridge.bridge-nf-call-iptables=0")
    }),
    ("FORWARD dropped by ufw", &["forward-dropped"], |ward| {
        ward.shell("iptables-legacy -N ufw-before-forward && iptables-legacy -A FORWARD -j ufw-before-forward && iptables-legacy -P FORWARD DROP && sysctl -q -w net.bridge.bridge-nf-call-iptables=0")
    }),
    (
        "forward dropped by firewalld",
        &["forward-dropped-by-nftables"],
        |ward| {
            ward.shell("nft 'add table inet firewalld' && nft 'add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; }' && nft 'add rule inet firewalld filter_FORWARD reject with icmpx admin-prohibited'")
        },
    ),
    (
        "bridged packets filtered",
        &["forward-dropped", "bridged-packets-filtered"],
        |ward| {
            ward.shell(
                "iptables-nft -P FORWARD DROP && sysctl -q -w net.bridge.bridge-nf-call-iptables=1",
            )
        },
    ),
];

const BRIDGES: [Illness; 5] = [
    (
        "bridge down",
        &["bridge-down", "bridge-with-wrong-address"],
        |ward| ward.shell("ip link set dev ward0 down"),
    ),
    (
        "bridge without address",
        &["bridge-without-address"],
        |ward| ward.shell("ip address flush dev ward0"),
    ),
    (
        "bridge with a wrong address",
        &["bridge-with-wrong-address"],
        |ward| {
            ward.shell(
                "ip address del 10.82.0.1/24 dev ward0 && ip address add 10.82.0.254/24 dev ward0",
            )
        },
    ),
    (
        "subnet overlapping a route",
        &["subnet-overlaps-route"],
        |ward| ward.shell("ip route add 10.82.0.128/25 dev eth0"),
    ),
    ("MTU larger than the uplink's", &["mtu-too-large"], |ward| {
        ward.shell("ip link set dev eth0 mtu 1400")
    }),
];

const PORTS: [Illness; 3] = [
    ("veth off its bridge", &["container-unplugged"], |ward| {
        let list = ward.site.pontoon_json(&["ls"])?;
        let veth = list[0]["host_interface"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        ward.shell(&format!("ip link set dev {veth} nomaster"))
    }),
    ("hairpin mode off", &["hairpin-off"], |ward| {
        let list = ward.site.pontoon_json(&["ls"])?;
        let veth = list[0]["host_interface"].as_str().unwrap_or_default();
        ward.shell(&format!(
            "ip link set dev {veth} type bridge_slave hairpin off"
        ))
    }),
    ("loopback closed", &["loopback-closed"], |ward| {
        ward.site
            .host
            .set("net/ipv4/conf/ward0/route_localnet", "0")
    }),
];

const RULES: [Illness; 5] = [
    ("rules flushed", &["rules-missing"], |ward| {
        ward.shell("nft delete table inet pontoon")
    }),
    (
        "iptables variants mixed",
        &["iptables-variants-mixed"],
        |ward| {
            ward.shell("iptables-nft -A INPUT -s 192.0.2.1 -j ACCEPT && iptables-legacy -A INPUT -s 192.0.2.2 -j ACCEPT")
        },
    ),
    (
        "published port redirected by an earlier rule",
        &["published-port-shadowed"],
        |ward| {
            ward.shell("nft 'add table ip foreign' && nft 'add chain ip foreign pre { type nat hook prerouting priority -150; }' && nft 'add rule ip foreign pre tcp dport 8080 redirect to :22'")
        },
    ),
    (
        "published port dropped by an earlier rule",
        &["published-port-shadowed"],
        |ward| {
            ward.shell("iptables-nft -t raw -A PREROUTING -p tcp -m tcp --dport 8081 -m comment --comment 'not \"this\" one' -j DROP")
        },
    ),
    ("rules of nobody", &["rules-of-nobody"], |ward| {
        ward.shell("nft 'add element inet pontoon ports4 { tcp . 9999 comment \"pontoon ward nobody eth0\" : 10.82.0.99 . 80 }'")
    }),
];

const LEFTOVERS: [Illness; 4] = [
    ("a stale flow", &["flow-stale"], |ward| {
        ward.shell("nft 'add table ip past' && nft 'add chain ip past pre { type nat hook prerouting priority -150; }' && nft 'add rule ip past pre tcp dport 8080 dnat to 10.82.0.99:80'")?;
        let target = SocketAddr::new(HOST_V4, 8080);
        let reply = ward
            .site
            .host
            .run_outside(|| tcp(target, Duration::from_millis(200)))?;
        ward.shell("nft delete table ip past")?;
        match reply {
            Ok(_) => Err(Failure::new("nobody has this address, and it answers")),
            Err(_) => Ok(()),
        }
    }),
    (
        "a network that this kernel cannot make",
        &["kernel-feature-missing"],
        |ward| {
            let file = ward.conf.path().join("20-vlan.conflist");
            let text =
                r#"{"cniVersion":"1.0.0","name":"v","plugins":[{"type":"bridge","vlan":7}]}"#;
            fs::write(file, text).map_err(Failure::act("plant a network"))
        },
    ),
    ("veth of nobody", &["veth-of-nobody"], |ward| {
        ward.shell("ip link add ghost type veth peer name ghost2 && ip link set dev ghost alias 'pontoon ward nobody eth0'")
    }),
    ("lease of nobody", &["lease-of-nobody"], |ward| {
        let lease = ward.site.leases.path().join("ward/10.82.0.99");
        fs::write(lease, "nobody\r\neth0").map_err(Failure::act("plant a lease"))
    }),
];

const INTERIORS: [Illness; 7] = [
    ("a container's address gone", &["address-missing"], |ward| {
        ward.inside("ip -4 address flush dev eth0")
    }),
    (
        "a container's IPv6 address gone",
        &["address-missing"],
        |ward| {
            ward.inside("ip -6 address del $(ip -6 -o address show dev eth0 scope global | awk '{print $4}') dev eth0")
        },
    ),
    (
        "a container's default route gone",
        &["route-missing"],
        |ward| ward.inside("ip route del default"),
    ),
    (
        "a container's interface down",
        &["interface-down"],
        |ward| ward.inside("ip link set dev eth0 down"),
    ),
    ("the host's end down", &["host-end-down"], |ward| {
        let list = ward.site.pontoon_json(&["ls"])?;
        let veth = list[0]["host_interface"].as_str().unwrap_or_default();
        ward.shell(&format!("ip link set dev {veth} down"))
    }),
    (
        "a wrong neighbour on the host",
        &["neighbour-wrong"],
        |ward| {
            let address = ward.containers[0].1.address(false).unwrap_or_default();
            ward.shell(&format!(
                "ip neighbour replace {address} lladdr 02:00:00:00:00:99 dev ward0 nud permanent"
            ))
        },
    ),
    (
        "a wrong gateway in a container",
        &["neighbour-wrong"],
        |ward| {
            ward.inside(
                "ip neighbour replace fd00:82::1 lladdr 02:00:00:00:00:99 dev eth0 nud permanent",
            )
        },
    ),
];

const CONFIGURED: [Illness; 5] = [
    ("no default route", &["no-default-route"], |ward| {
        ward.shell("ip route del default; ip -6 route del default; true")
    }),
    ("the uplink down", &["no-default-route"], |ward| {
        ward.shell("ip link set dev eth0 down")
    }),
    (
        "a configuration that is no JSON",
        &["configuration-unreadable"],
        |ward| {
            let file = ward.conf.path().join("05-broken.conflist");
            fs::write(file, "{ \"name\": \"b\", }").map_err(Failure::act("plant a file"))
        },
    ),
    ("a plugin that is not there", &["plugin-missing"], |ward| {
        let file = ward.conf.path().join("20-typo.conflist");
        let text =
            r#"{"cniVersion":"1.0.0","name":"t","plugins":[{"type":"ipvlan","master":"eth0"}]}"#;
        fs::write(file, text).map_err(Failure::act("plant a network"))
    }),
    (
        "a plugin that nobody may execute",
        &["plugin-not-executable"],
        |ward| {
            let folder = ward.site.leases.path().join("plugins");
            fs::create_dir(&folder).map_err(Failure::act("make a folder"))?;
            fs::write(folder.join("ipvlan"), "#!/bin/sh\n")
                .map_err(Failure::act("write a plugin"))?;
            ward.plugins = format!("{}:{}", ward.plugins, folder.display());
            let file = ward.conf.path().join("20-typo.conflist");
            let text = r#"{"cniVersion":"1.0.0","name":"t","plugins":[{"type":"ipvlan","master":"eth0"}]}"#;
            fs::write(file, text).map_err(Failure::act("plant a network"))
        },
    ),
];

#[test]
fn a_healthy_host_has_no_findings() -> Outcome {
    for backend in Backend::ALL {
        let ward = Ward::new(backend)?;
        let before = ward.site.snapshot()?;
        let found = ward.examine(&[])?;
        if !found.is_empty() {
            return Err(Failure::new(format!("{backend}: {found:?}")));
        }
        before.same_as(&ward.site.snapshot()?, "an examination")?;
        let text = ward.site.pontoon_ends(&["doctor"], 0)?;
        let told =
            text.starts_with("no findings: ") && text.ends_with(", 1 network, 2 containers\n");
        if !told {
            return Err(Failure::new(text));
        }
    }
    // Nor has one without any network.
    let site = Site::new(Backend::Nftables)?;
    site.pontoon_ends(&["doctor"], 0).map(drop)
}

/// Each of these is found by name, and the printed command mends it.
fn cured(illnesses: &[Illness]) -> Outcome {
    let mut wrong = Vec::new();
    for (name, expected, plant) in illnesses {
        let mut ward = Ward::new(Backend::Nftables)?;
        let done = plant(&mut ward).and_then(|()| ward.cure(expected));
        wrong.extend(done.err().map(|error| format!("{name}: {error}")));
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(wrong.join("\n")))
    }
}

/// The same for what `--fix` may do by itself: it mends what is safe and nothing else.
fn fixed(illnesses: &[Illness]) -> Outcome {
    let mut wrong = Vec::new();
    for (name, _, plant) in illnesses {
        let mut ward = Ward::new(Backend::Nftables)?;
        plant(&mut ward)?;
        let found = ward.examine(&[])?;
        let unsafe_before = found.iter().filter(|(.., safe)| !safe).count();
        let mut left = Vec::new();
        for _ in 0..2 {
            left = ward.examine(&["--fix"])?;
        }
        if left.len() != unsafe_before || left.iter().any(|(.., safe)| *safe) {
            wrong.push(format!("{name}: {found:?} became {left:?}"));
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(wrong.join("\n")))
    }
}

/// Two tests for each group, so that groups are tried at the same time.
macro_rules! groups {
    ($($name:ident: $group:ident),*) => {
        mod what_is_planted_is_found_and_mended_by_the_printed_command {
            use super::*;
            $(#[test] fn $name() -> Outcome { cured(&$group) })*
        }
        mod fix_mends_what_is_safe_and_nothing_else {
            use super::*;
            $(#[test] fn $name() -> Outcome { fixed(&$group) })*
        }
    };
}

groups! {
    switches: SWITCHES,
    filters: FILTERS,
    bridges: BRIDGES,
    ports: PORTS,
    rules: RULES,
    interiors: INTERIORS,
    configured: CONFIGURED,
    leftovers: LEFTOVERS
}

#[test]
fn a_cure_by_packets() -> Outcome {
    for (name, expected, plant) in [FILTERS[0], FILTERS[1], FILTERS[2], SWITCHES[0]] {
        let mut ward = Ward::new(Backend::Nftables)?;
        if !ward.reaches_outside()? {
            return Err(Failure::new(format!("{name}: no way out when healthy")));
        }
        plant(&mut ward)?;
        if ward.reaches_outside()? {
            return Err(Failure::new(format!("{name}: does no harm")));
        }
        ward.cure(expected)?;
        if !ward.reaches_outside()? {
            return Err(Failure::new(format!("{name}: no way out after the cure")));
        }
    }
    Ok(())
}

/// `ip-forward` tells the same of what it is about.
#[test]
fn ip_forward_names_who_drops() -> Outcome {
    let mut ward = Ward::new(Backend::Nftables)?;
    ward.site.pontoon_ends(&["ip-forward"], 0)?;
    for (_, _, plant) in [SWITCHES[3], FILTERS[0]] {
        plant(&mut ward)?;
    }
    let report = ward.site.pontoon_json(&["ip-forward"])?;
    let findings = report["findings"].to_string();
    for part in ["rp-filter-strict", "forward-dropped", "Docker drops"] {
        if !findings.contains(part) {
            return Err(Failure::new(format!("no {part} in {report}")));
        }
    }
    ward.site.pontoon_ends(&["ip-forward"], 1).map(drop)
}

#[test]
fn rules_flushed_under_iptables() -> Outcome {
    for (backend, program) in [
        (Backend::IptablesNft, "iptables-nft"),
        (Backend::IptablesLegacy, "iptables-legacy"),
    ] {
        let ward = Ward::new(backend)?;
        ward.shell(&format!("{program} -t nat -F"))?;
        ward.cure(&["rules-missing"])
            .map_err(|error| Failure::new(format!("{backend}: {error}")))?;
        let text = ward.containers[0].1.clone();
        ward.site.runtime().check(&ward.network, &text)?;
    }
    Ok(())
}

#[test]
fn the_dead_and_a_full_pool() -> Outcome {
    let mut ward = Ward::with(Backend::Nftables, &["10.82.0.0/29"], 5)?;
    let kept = ward.containers.pop();
    let one = ward
        .containers
        .first()
        .map(|(_, one)| one.container_id.clone());
    for (container, _) in ward.containers.drain(..) {
        container.kill()?;
    }
    let id = one.unwrap_or_default();
    let found = ward.examine(&["--container", &id])?;
    if found
        .iter()
        .filter(|(kind, ..)| kind == "container-gone")
        .count()
        != 1
    {
        return Err(Failure::new(format!("of one container: {found:?}")));
    }
    ward.cure(&["container-gone", "pool-nearly-full"])?;
    // Held alive until here.
    let (_container, kept) = kept.ok_or_else(|| Failure::new("nobody was kept"))?;
    Ok(ward.site.runtime().check(&ward.network, &kept)?)
}

#[test]
fn a_port_that_a_process_listens_on() -> Outcome {
    let mut ward = Ward::new(Backend::Nftables)?;
    let busybox = find("busybox").ok_or_else(|| missing("busybox"))?;
    let child = ward.site.host.run(|| {
        Command::new(&busybox)
            .args(["nc", "-l", "-p", "8080"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
    })?;
    let child = child.map_err(Failure::act("start a listener"))?;
    let pid = child.id().to_string();
    ward.processes.push(child);
    // Until it listens.
    let mut found = Vec::new();
    for _ in 0..100 {
        found = ward.examine(&[])?;
        if !found.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    match &found[..] {
        // No command: whether the process goes is for its owner to say.
        [(kind, mend, false)] if kind == "port-taken-by-process" && mend.is_empty() => {}
        _ => return Err(Failure::new(format!("not named: {found:?}"))),
    }
    let text = ward.site.pontoon_ends(&["doctor"], 1)?;
    if !text.contains(&format!("(pid {pid}")) || text.contains("kill") {
        return Err(Failure::new(text));
    }
    for process in &mut ward.processes {
        let _ = process.kill();
        let _ = process.wait();
    }
    if ward.examine(&[])?.is_empty() {
        Ok(())
    } else {
        Err(Failure::new("still there"))
    }
}

/// Names: the resolver killed, a server that is silent, a file that names nobody.
#[test]
fn the_resolver_and_its_servers() -> Outcome {
    let mut ward = Ward::new(Backend::Nftables)?;
    let file = ward.site.leases.path().join("resolv.conf");
    let write = |text: &str| fs::write(&file, text).map_err(Failure::act("write resolv.conf"));
    let _server = NameServer::start(
        ward.site.host.outside(),
        OUTSIDE_V4,
        Ipv4Addr::new(192, 0, 2, 1),
    )?;
    let good = format!("nameserver {OUTSIDE_V4}\n");
    write(&good)?;
    let named = ward.site.named_network("names", 83, json!({}));
    ward.containers.push(ward.site.join_named("web", &named)?);
    ward.cure(&[])?;
    for (expected, bad) in [
        ("server-silent", format!("nameserver 203.0.113.9\n{good}")),
        ("no-usable-server", "nameserver 10.83.0.1\n".to_owned()),
    ] {
        write(&bad)?;
        let found = ward.examine(&[])?;
        let kinds: Vec<&str> = found.iter().map(|(id, ..)| id.as_str()).collect();
        // The file belongs to who writes it: no command edits it.
        if kinds != [expected] || !found[0].1.is_empty() {
            return Err(Failure::new(format!("{found:?}, not {expected}")));
        }
        write(&good)?;
        ward.cure(&[])?;
    }
    // Running, and nobody's question gets there.
    ward.shell("nft flush map inet pontoon resolver4")?;
    ward.cure(&["rules-missing"])?;
    let status = ward.site.pontoon_json(&["dns", "status"])?;
    ward.shell(&format!("kill -9 {}", status["pid"]))?;
    ward.cure(&["resolver-not-running"])?;
    let (container, attachment) = &ward.containers[2];
    let found = container.dig(&["web.dns.pontoon"])?;
    let own = format!("NOERROR {}", attachment.address(false).unwrap_or_default());
    if found != own {
        let status = ward.site.pontoon_json(&["dns", "status"])?;
        return Err(Failure::new(format!(
            "web is {found:?}, not {own:?}: {status}"
        )));
    }
    Ok(())
}

#[test]
fn a_plugin_that_another_vendors_hides() -> Outcome {
    let mut ward = Ward::new(Backend::Nftables)?;
    let theirs = Scratch::new("theirs")?;
    let file = theirs.path().join("bridge");
    fs::write(&file, "#!/bin/sh\n").map_err(Failure::act("write a plugin"))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))
        .map_err(Failure::act("make it a program"))?;
    ward.plugins = format!("{}:{}", theirs.path().display(), ward.plugins);
    let found = ward.examine(&[])?;
    match &found[..] {
        // Both folders belong to packages: the order is the runtime's to set.
        [(kind, mend, false)] if kind == "plugin-shadowed" && mend.is_empty() => {}
        _ => return Err(Failure::new(format!("not named: {found:?}"))),
    }
    let (theirs, ours) = ward.plugins.split_once(':').unwrap_or_default();
    ward.plugins = format!("{ours}:{theirs}");
    ward.cure(&[])
}

/// A host that has lost its iptables. What is printed installs it, and no test does that.
#[test]
fn a_backend_that_cannot_be_used() -> Outcome {
    let ward = Ward::new(Backend::IptablesNft)?;
    let programs = ward.site.runtime().programs().clone();
    let mut command = Command::new(programs.program("pontoon"));
    command
        .args(["doctor", "--json"])
        .env("PATH", programs.dir());
    let output = ward.site.host.run(|| {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let none = None::<&str>;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(none, "/", none, private, none)?;
        for folder in ["/usr/sbin", "/sbin"] {
            mount(Some("none"), folder, Some("tmpfs"), MsFlags::empty(), none)?;
        }
        command.output()
    })?;
    let output = output.map_err(Failure::act("run pontoon doctor"))?;
    let report: Value =
        serde_json::from_slice(&output.stdout).map_err(Failure::act("read the report"))?;
    let findings = report["findings"].as_array().into_iter().flatten();
    let found: Vec<&Value> = findings
        .filter(|one| one["id"] == "backend-unusable")
        .collect();
    match found[..] {
        [one] if one["mend"] == "apt-get install iptables" => Ok(()),
        _ => Err(Failure::new(format!("not named once: {report}"))),
    }
}

/// The veth pair of a container is gone: only its runtime can attach it again.
#[test]
fn an_interface_that_is_gone() -> Outcome {
    let mut ward = Ward::new(Backend::Nftables)?;
    let list = ward.site.pontoon_json(&["ls"])?;
    let veth = list[0]["host_interface"].as_str().unwrap_or_default();
    ward.shell(&format!("ip link del dev {veth}"))?;
    let found = ward.examine(&[])?;
    match &found[..] {
        [(kind, mend, false)] if kind == "interface-gone" && mend.is_empty() => {}
        _ => return Err(Failure::new(format!("not named: {found:?}"))),
    }
    // As the advice says.
    let id = list[0]["id"].as_str().unwrap_or_default();
    let one = ward
        .containers
        .iter_mut()
        .find(|(_, one)| one.container_id == id);
    let (_, attachment) = one.ok_or_else(|| Failure::new(format!("no {id}")))?;
    ward.site.runtime().del(&ward.network, attachment)?;
    ward.site.runtime().add(&ward.network, attachment)?;
    ward.cure(&[])
}

/// Keys of ours that another vendor's plugin ignores: a policy that is not there.
#[test]
fn keys_that_another_vendors_plugin_ignores() -> Outcome {
    let mut ward = Ward::new(Backend::Nftables)?;
    let theirs = Scratch::new("theirs")?;
    for name in ["bridge", "firewall"] {
        let file = theirs.path().join(name);
        fs::write(&file, "#!/bin/sh\n").map_err(Failure::act("write a plugin"))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))
            .map_err(Failure::act("make it a program"))?;
    }
    fs::remove_file(ward.conf.path().join("10-ward.conflist"))
        .map_err(Failure::act("remove the conflist"))?;
    let write = |keys: Value| {
        let mut firewall = json!({ "type": "firewall" });
        if let (Value::Object(own), Value::Object(keys)) = (&mut firewall, keys) {
            own.extend(keys);
        }
        let bridge = json!({
            "type": "bridge", "isGateway": true, "ipMasq": true,
            "ipam": { "type": "host-local", "subnet": "10.97.0.0/24" },
        });
        let list = json!({ "cniVersion": "1.0.0", "name": "k", "plugins": [bridge, firewall] });
        fs::write(ward.conf.path().join("30-k.conflist"), list.to_string())
            .map_err(Failure::act("write a conflist"))
    };
    write(json!({ "profile": "docker", "icc": false }))?;
    let ours = std::mem::replace(&mut ward.plugins, theirs.path().display().to_string());
    let found = ward.examine(&[])?;
    match &found[..] {
        [(kind, mend, false)] if kind == "plugin-of-another-vendor" && mend.is_empty() => {}
        _ => return Err(Failure::new(format!("not named: {found:?}"))),
    }
    // The same keys with our plugin, and theirs without the keys.
    ward.plugins = ours;
    ward.cure(&[])?;
    ward.plugins = theirs.path().display().to_string();
    write(json!({}))?;
    ward.cure(&[])
}

#[test]
fn folders_that_do_not_exist() -> Outcome {
    let ward = Ward::new(Backend::Nftables)?;
    let conf = ward.conf.path().display().to_string();
    for (places, kind) in [
        (
            ["--conf-dir", "/nonexistent", "--bin-dir", &ward.plugins],
            "conf-dir-missing",
        ),
        (
            ["--conf-dir", &conf, "--bin-dir", "/nonexistent"],
            "bin-dir-missing",
        ),
    ] {
        let report = ward
            .site
            .pontoon_json(&[&["doctor"], &places[..]].concat())?;
        let findings = report["findings"].as_array().map_or(&[][..], Vec::as_slice);
        if findings.len() != 1 || findings[0]["id"] != kind {
            return Err(Failure::new(format!("not {kind}: {report}")));
        }
    }
    Ok(())
}

/// `ip-forward` does not say that containers reach the outside when the host itself does not.
#[test]
fn ip_forward_knows_a_host_without_a_way_out() -> Outcome {
    for line in [
        "ip route del default; ip -6 route del default; true",
        "ip link set dev eth0 down",
    ] {
        let ward = Ward::new(Backend::Nftables)?;
        ward.site.pontoon_ends(&["ip-forward"], 0)?;
        ward.shell(line)?;
        let text = ward.site.pontoon_ends(&["ip-forward"], 1)?;
        if !text.contains("containers cannot reach the outside: this host has no default route") {
            return Err(Failure::new(format!("{line}: {text}")));
        }
    }
    Ok(())
}

/// Who is not root is told so once, and gets no diagnosis.
#[test]
fn not_as_root() -> Outcome {
    let ward = Ward::new(Backend::Nftables)?;
    let program = ward.site.runtime().programs().program("pontoon");
    let folder = ward.site.leases.path().join("ward");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))
        .map_err(Failure::act("close the leases"))?;
    let data = ward.site.leases.path().display().to_string();
    let bin = Scratch::new("bin")?;
    let target = bin.path().join("bridge");
    fs::copy(ward.site.runtime().programs().program("bridge"), &target)
        .map_err(Failure::act("copy a plugin"))?;
    let bin = bin.path().display().to_string();
    let hint = "hint: run as root, on the host";
    let cases: [(&[&str], i32, &str); 5] = [
        (&["doctor"], 1, "only root may look into containers"),
        (&["repair"], 1, "only root may make rules"),
        (&["leases", "ward", "--data-dir", &data], 1, "cannot read"),
        (
            &[
                "uninstall",
                "--force",
                "--bin-dir",
                &bin,
                "--conf-dir",
                &bin,
            ],
            1,
            "cannot remove",
        ),
        (
            &["ls"],
            0,
            "addresses and what else is in containers are not shown",
        ),
    ];
    for (arguments, status, says) in cases {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .args(["--inh-caps=-all", "--bounding-set=-all"])
            .arg(&program)
            .args(arguments)
            .stdin(Stdio::null());
        let output = ward.site.host.run(|| command.output())?;
        let output = output.map_err(Failure::act("run pontoon as nobody"))?;
        let told = String::from_utf8_lossy(&output.stderr);
        let right = output.status.code() == Some(status)
            && told.contains(says)
            && told.matches(hint).count() == 1;
        if !right {
            return Err(Failure::new(format!("{arguments:?}: {output:?}")));
        }
    }
    Ok(())
}

/// `repair` says what it made, and what was there.
#[test]
fn repair_says_what_it_changed() -> Outcome {
    for (backend, flush) in [
        (Backend::Nftables, "nft delete table inet pontoon"),
        (
            Backend::IptablesNft,
            "iptables-nft -t nat -F && ip6tables-nft -t nat -F",
        ),
    ] {
        let ward = Ward::new(backend)?;
        let found = ward.site.pontoon_ends(&["repair"], 0)?;
        if !found.contains("are there, and nothing was missing") || found.contains("made again") {
            return Err(Failure::new(format!("{backend}: {found}")));
        }
        ward.shell(flush)?;
        let report = ward.site.pontoon_json(&["repair", "ward"])?;
        if report[0]["made"].as_array().is_none_or(Vec::is_empty) {
            return Err(Failure::new(format!("{backend}: {report}")));
        }
        ward.shell(flush)?;
        let made = ward.site.pontoon_ends(&["repair"], 0)?;
        if !made.contains("ward: made again: ") {
            return Err(Failure::new(format!("{backend}: {made}")));
        }
        let found = ward.site.pontoon_ends(&["repair"], 0)?;
        if !found.contains("nothing was missing") {
            return Err(Failure::new(format!("{backend}, again: {found}")));
        }
    }
    Ok(())
}

/// Leases that an earlier boot has left are not used, and a network whose note is lost has a pool.
#[test]
fn leases_after_a_reboot_or_with_a_lost_note() -> Outcome {
    let ward = Ward::new(Backend::Nftables)?;
    let folder = ward.site.leases.path().join("ward");
    let note = folder.join("pontoon.network");
    let conf = ward.conf.path().display().to_string();
    let leases = |places: &[&str]| {
        ward.site
            .pontoon_json(&[&["leases", "ward"], places].concat())
    };
    let healthy = leases(&[])?;
    let subnets = |report: &Value| report["subnets"].clone();
    if subnets(&healthy)[0]["used"] != 2 {
        return Err(Failure::new(healthy.to_string()));
    }
    // Lost, or zeroed as by a crash of the machine: the pool as before, from the configuration or else
    // from the bridge.
    let text = fs::read(&note).map_err(Failure::act("read the note"))?;
    for lost in [None, Some(vec![0; text.len()])] {
        match lost {
            None => fs::remove_file(&note),
            Some(zeros) => fs::write(&note, zeros),
        }
        .map_err(Failure::act("lose the note"))?;
        for places in [&[][..], &["--conf-dir", &conf]] {
            let found = leases(places)?;
            if subnets(&found) != subnets(&healthy) {
                return Err(Failure::new(format!("{found}, not {healthy}")));
            }
        }
    }
    // A reboot: another boot's note, and leases older than this boot, of containers that are gone.
    let text = String::from_utf8_lossy(&text).into_owned();
    let text: String = text
        .lines()
        .map(|line| match line.starts_with("boot ") {
            true => "boot 00000000-0000-4000-8000-000000000000\n".to_owned(),
            false => format!("{line}\n"),
        })
        .collect();
    fs::write(&note, text).map_err(Failure::act("write another boot's note"))?;
    let old = folder.join("10.82.0.77");
    fs::write(&old, "before-the-reboot\r\neth0").map_err(Failure::act("plant a lease"))?;
    let file = fs::File::options().write(true).open(&old);
    let then = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    file.and_then(|file| file.set_modified(then))
        .map_err(Failure::act("make it old"))?;
    let found = leases(&[])?;
    let lease = found["leases"].as_array().into_iter().flatten();
    let lease = lease
        .into_iter()
        .find(|lease| lease["address"] == "10.82.0.77");
    if subnets(&found)[0]["used"] != 2 || lease.is_none_or(|lease| lease["earlier_boot"] != true) {
        return Err(Failure::new(format!("after a reboot: {found}")));
    }
    if !ward.examine(&[])?.is_empty() {
        return Err(Failure::new(format!("doctor: {:?}", ward.examine(&[])?)));
    }
    Ok(())
}

/// What an examination costs grows with the containers, not with their square.
#[test]
fn the_cost_is_linear() -> Outcome {
    for backend in [Backend::Nftables, Backend::IptablesNft] {
        let cost = |count: u16| -> Outcome<f64> {
            let ward = Ward::with(backend, &["10.82.0.0/24"], count)?;
            let program = ward.site.runtime().programs().program("pontoon");
            // Processor time of the command and what it runs: the shell's own, and its children's.
            let line = format!("{} doctor > /dev/null; times", program.display());
            let mut command = Command::new("/bin/sh");
            command
                .args(["-c", &line])
                .env("PATH", ward.site.admins_path());
            let times = ward.site.host.command(&mut command)?;
            let children = times.lines().nth(1).unwrap_or_default().to_owned();
            let seconds = |word: &str| -> Option<f64> {
                let (minutes, seconds) = word.split_once('m')?;
                let seconds: f64 = seconds.trim_end_matches('s').parse().ok()?;
                Some(minutes.parse::<f64>().ok()? * 60.0 + seconds)
            };
            Ok(children.split_whitespace().filter_map(seconds).sum())
        };
        let (few, many) = (cost(25)?, cost(100)?);
        eprintln!("{backend}: {few} s with 25 containers, {many} s with 100");
        // Four times as many; sixteen times as much would be their square.
        if few <= 0.0 || many > few * 7.0 {
            return Err(Failure::new(format!("{backend}: {few} s, then {many} s")));
        }
    }
    Ok(())
}
