//! `pontoon trace` ends with an answer: the network and the key that decided, what becomes of the reply, rules
//! as their tools print them, and what is wrong with a question.

use std::process::Command;

use pontoon_lab::{
    Attachment, Backend, Container, Failure, HOST_V4, HOST_V6, Network, OUTSIDE_V4, OUTSIDE_V6,
    Outcome, Site, find, missing,
};
use serde_json::{Value, json};

const LAN: [&str; 2] = ["10.87.0.0/24", "fd00:87::/64"];
const OTHER: [&str; 2] = ["10.88.0.0/24", "fd00:88::/64"];

struct Guest {
    container: Container,
    attachment: Attachment,
}

impl Guest {
    fn join(site: &Site, name: &str, network: &Network) -> Outcome<Self> {
        let container = Container::new(name)?;
        let mut attachment = Attachment::new(&container).publish("", 8080, 80, "tcp");
        // Only one publishes.
        if name != "web" {
            attachment = Attachment::new(&container);
        }
        site.runtime().add(network, &mut attachment)?;
        Ok(Self {
            container,
            attachment,
        })
    }

    fn at(&self, v6: bool, port: u16) -> String {
        let address = self.attachment.address(v6).unwrap_or_default();
        match v6 {
            true => format!("[{address}]:{port}"),
            false => format!("{address}:{port}"),
        }
    }

    fn id(&self) -> &str {
        &self.container.id
    }
}

fn verdict(site: &Site, from: &str, to: &str) -> Outcome<String> {
    let told = site.pontoon(&["trace", from, to])?;
    let line = told
        .stdout
        .lines()
        .find(|line| line.starts_with("verdict: "));
    line.map(str::to_owned)
        .ok_or_else(|| Failure::new(format!("{from} {to}: {}{}", told.stdout, told.stderr)))
}

/// The verdict of a person's trace, and the fields of a program's.
#[track_caller]
fn decides(site: &Site, from: &str, to: &str, words: &str, fields: Value) -> Outcome {
    let place = std::panic::Location::caller().line();
    let told = verdict(site, from, to)?;
    let json = site.pontoon_json(&["trace", from, to])?;
    let end = &json["end"];
    let fits = fields
        .as_object()
        .into_iter()
        .flatten()
        .all(|(key, value)| end[key] == *value);
    if told == format!("verdict: {words}") && fits {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{}, line {place}: {from} to {to}:\n{told}\nnot\nverdict: {words}\n{end}",
        site.backend
    )))
}

/// Each key that can keep a packet from passing is named, with its network, in both families and all backends.
#[test]
fn the_network_and_the_key_that_decided() -> Outcome {
    for backend in Backend::ALL {
        let site = Site::new(backend)?;
        let docker = site.firewalled("lan", &LAN, json!({ "profile": "docker" }));
        let web = Guest::join(&site, "web", &docker)?;
        let quiet = site.firewalled(
            "quiet",
            &OTHER,
            json!({ "icc": false, "hostAccess": false }),
        );
        let one = Guest::join(&site, "one", &quiet)?;
        let two = Guest::join(&site, "two", &quiet)?;
        let inner = ["10.89.0.0/24", "fd00:89::/64"];
        let inner = site.firewalled("inner", &inner, json!({ "internal": true }));
        let shut = Guest::join(&site, "shut", &inner)?;
        let same = |number: u8| {
            let subnets = [
                format!("10.9{number}.0.0/24"),
                format!("fd00:9{number}::/64"),
            ];
            let subnets = [subnets[0].as_str(), subnets[1].as_str()];
            site.firewalled(
                &format!("same{number}"),
                &subnets,
                json!({ "ingressPolicy": "same-bridge" }),
            )
        };
        let (near, far) = (same(0), same(1));
        let near = Guest::join(&site, "near", &near)?;
        let far = Guest::join(&site, "far", &far)?;
        for v6 in [false, true] {
            let outside = if v6 { OUTSIDE_V6 } else { OUTSIDE_V4 };
            let outside = &*outside.to_string();
            decides(
                &site,
                outside,
                &web.at(v6, 81),
                "dropped by network lan: directAccess is closed (profile docker); publish the port or set trustedInterfaces",
                json!({ "network": "lan", "key": "directAccess", "value": "closed", "verdict": "dropped" }),
            )?;
            decides(
                &site,
                one.id(),
                &web.at(v6, 81),
                "dropped by network lan: isolation is true (profile docker); publish the port, join one network, or set isolation to false",
                json!({ "network": "lan", "key": "isolation" }),
            )?;
            decides(
                &site,
                one.id(),
                &two.at(v6, 81),
                "dropped by network quiet: icc is false; allow this port by links, or set icc",
                json!({ "network": "quiet", "key": "icc", "value": "false" }),
            )?;
            let gateway = one.attachment.gateway(v6).unwrap_or_default();
            let gateway = if v6 {
                format!("[{gateway}]:81")
            } else {
                format!("{gateway}:81")
            };
            decides(
                &site,
                one.id(),
                &gateway,
                "dropped by network quiet: hostAccess is false; set hostAccess",
                json!({ "network": "quiet", "key": "hostAccess" }),
            )?;
            decides(
                &site,
                "host",
                &one.at(v6, 81),
                "dropped by network quiet: hostAccess is false; set hostAccess",
                json!({ "network": "quiet", "key": "hostAccess" }),
            )?;
            let beyond = match v6 {
                true => format!("[{OUTSIDE_V6}]:81"),
                false => format!("{OUTSIDE_V4}:81"),
            };
            for (from, to) in [(shut.id(), &*beyond), (outside, &*shut.at(v6, 81))] {
                decides(
                    &site,
                    from,
                    to,
                    "dropped by network inner: internal is true; join another network as well, or unset internal",
                    json!({ "network": "inner", "key": "internal" }),
                )?;
            }
            decides(
                &site,
                near.id(),
                &far.at(v6, 81),
                "dropped by network same1: ingressPolicy is same-bridge; set ingressPolicy to open",
                json!({ "network": "same1", "key": "ingressPolicy" }),
            )?;
        }
    }
    Ok(())
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Outcome {
    if found == expected {
        return Ok(());
    }
    Err(Failure::new(format!("{what}: {found:?}, not {expected:?}")))
}

fn run(site: &Site, program: &str, arguments: &[&str]) -> Outcome<String> {
    let path = find(program).ok_or_else(|| missing(program))?;
    site.host.command(Command::new(path).args(arguments))
}

/// The admin's rule and a neighbour's chain are called what they are, with the command that removes the rule.
#[test]
fn the_admins_chain_and_a_neighbours_by_name() -> Outcome {
    for backend in Backend::ALL {
        let site = Site::new(backend)?;
        let lan = site.firewalled("lan", &LAN, json!({ "profile": "docker" }));
        let web = Guest::join(&site, "web", &lan)?;
        let told = match backend {
            Backend::Nftables => {
                run(
                    &site,
                    "nft",
                    &[
                        "add",
                        "rule",
                        "inet",
                        "pontoon",
                        "admin",
                        "ip",
                        "daddr",
                        "198.18.7.2",
                        "drop",
                    ],
                )?;
                verdict(&site, web.id(), "198.18.7.2:80")?
            }
            backend => {
                let multi = match backend {
                    Backend::IptablesNft => "xtables-nft-multi",
                    _ => "xtables-legacy-multi",
                };
                run(
                    &site,
                    multi,
                    &[
                        "iptables",
                        "-A",
                        "CNI-ADMIN",
                        "-d",
                        "198.18.7.2",
                        "-j",
                        "DROP",
                    ],
                )?;
                verdict(&site, web.id(), "198.18.7.2:80")?
            }
        };
        let wanted = [
            "dropped by the admin's chain ",
            "198.18.7.2",
            "change the rule there (",
        ];
        if let Some(word) = wanted.iter().find(|word| !told.contains(**word)) {
            return Err(Failure::new(format!("{backend}: no {word}: {told}")));
        }
        // What the verdict prints can be run.
        let command = told
            .rsplit_once("there (")
            .map(|(_, command)| command.trim_end_matches(')'));
        let command = command.unwrap_or_default().to_owned();
        let mut shell = Command::new("sh");
        shell.env("PATH", site.admins_path()).args(["-c", &command]);
        site.host.command(&mut shell)?;
        let told = verdict(&site, web.id(), "198.18.7.2:80")?;
        if !told.starts_with("verdict: arrives") {
            return Err(Failure::new(format!("{backend}: after {command}: {told}")));
        }
        run(&site, "nft", &["add", "table", "inet", "theirs"])?;
        run(
            &site,
            "nft",
            &["add chain inet theirs gate { type filter hook forward priority 5; policy drop; }"],
        )?;
        decides(
            &site,
            web.id(),
            "198.18.7.2:80",
            "dropped by chain gate of inet theirs, which no network of Pontoon has made: its policy, no rule there lets it pass; let br-lan pass there",
            json!({ "chain": "inet theirs, chain gate", "hook": "forward" }),
        )?;
        run(&site, "nft", &["delete", "table", "inet", "theirs"])?;
    }
    Ok(())
}

#[track_caller]
fn ends(site: &Site, from: &str, to: &str, words: &str, status: i32) -> Outcome {
    let place = std::panic::Location::caller().line();
    let finished = site.pontoon(&["trace", from, to])?;
    let line = finished
        .stdout
        .lines()
        .find(|line| line.starts_with("verdict: "))
        .unwrap_or_default();
    if line.contains(words) && finished.status == Some(status) {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{}, line {place}: exit {:?}, no \"{words}\" in the verdict of:\n{}{}",
        site.backend, finished.status, finished.stdout, finished.stderr
    )))
}

/// The way back is followed: without a route, without a listener, past the host, through a strict filter.
#[test]
fn what_becomes_of_the_reply() -> Outcome {
    for backend in [Backend::IptablesNft, Backend::Nftables] {
        let site = Site::new(backend)?;
        let lan = site.firewalled("lan", &LAN, json!({ "profile": "docker" }));
        let web = Guest::join(&site, "web", &lan)?;
        let families = [
            (OUTSIDE_V4, format!("{HOST_V4}:8080"), "-4"),
            (OUTSIDE_V6, format!("[{HOST_V6}]:8080"), "-6"),
        ];
        for (from, to, family) in &families {
            let (from, to, family) = (from.to_string(), to.as_str(), *family);
            let from = from.as_str();
            ends(&site, from, to, "verdict: arrives: at", 1)?;
            ends(
                &site,
                from,
                to,
                "but the reply is lost: no process listens on 80/tcp in container",
                1,
            )?;
            let _server = web.container.serve(80)?;
            ends(&site, from, to, "listens on 80/tcp, and has a way back", 0)?;
            let live = site.pontoon_json(&["trace", "host", to, "--live"])?;
            equal("the answer", &live["live"]["answer"], &json!("answered"))?;
            equal("differences", &live["live"]["differences"], &json!([]))?;
            let route = |act: &str, via: &[&str]| {
                let mut command = Command::new("ip");
                command.args([family, "route", act, "default"]).args(via);
                web.container.run(|| command.status())
            };
            let gateway = web.attachment.gateway(family == "-6").unwrap_or_default();
            let done = route("del", &[])?.map_err(Failure::act("run ip"))?;
            equal("ip route del", done.success(), true)?;
            ends(&site, from, to, "but the reply is lost: container", 1)?;
            ends(&site, from, to, "and no default route", 1)?;
            let done = route("add", &["via", &gateway])?.map_err(Failure::act("run ip"))?;
            equal("ip route add", done.success(), true)?;
            ends(&site, from, to, "has a way back", 0)?;
        }
    }
    Ok(())
}

/// A second network whose default route comes first, and a strict reverse-path filter: the reply does not
/// leave by the interface that the packet came in by.
#[test]
fn a_second_address_beside_a_strict_filter() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let lan = site.network("lan", "br-lan", &LAN);
    let other = site.network("other", "br-other", &OTHER);
    let web = Guest::join(&site, "web", &lan)?;
    let mut second = Attachment {
        ifname: "eth1".to_owned(),
        ..Attachment::new(&web.container)
    };
    site.runtime().add(&other, &mut second)?;
    let _server = web.container.serve(80)?;
    let to = "198.18.7.1:8080";
    ends(&site, "198.18.7.2", to, "has a way back", 0)?;
    // The second network becomes the way out.
    let gateway = second.gateway(false).unwrap_or_default();
    let mut command = Command::new("ip");
    command.args([
        "route", "replace", "default", "via", &gateway, "dev", "eth1",
    ]);
    let done = web
        .container
        .run(|| command.status())?
        .map_err(Failure::act("run ip"))?;
    equal("ip route replace", done.success(), true)?;
    ends(&site, "198.18.7.2", to, "has a way back", 0)?;
    site.host.set("net/ipv4/conf/br-other/rp_filter", "1")?;
    ends(
        &site,
        "198.18.7.2",
        to,
        "the strict reverse-path filter of br-other drops it",
        1,
    )?;
    Ok(())
}

/// Five lines at most without `-v`; with it each rule in the words of its tool, so that it can be found there,
/// and the kernel's own tracing calls chains the same.
#[test]
fn five_lines_and_rules_in_their_tools_words() -> Outcome {
    for backend in Backend::ALL {
        let site = Site::new(backend)?;
        let lan = site.firewalled("lan", &LAN, json!({ "profile": "docker" }));
        let web = Guest::join(&site, "web", &lan)?;
        let outside = OUTSIDE_V4.to_string();
        for (from, to) in [
            (&*outside, "198.18.7.1:8080"),
            (web.id(), "198.18.7.2:80"),
            (&*outside, &*web.at(false, 81)),
        ] {
            let told = site.pontoon(&["trace", from, to])?.stdout;
            if told.lines().count() > 5 || told.contains("-A ") || told.contains("# handle") {
                return Err(Failure::new(format!("{backend}: not five lines:\n{told}")));
            }
            let told = site.pontoon(&["trace", from, to, "-v"])?.stdout;
            let mut listing = run(&site, "nft", &["-a", "list", "ruleset"])?;
            for multi in ["xtables-nft-multi", "xtables-legacy-multi"] {
                listing += &run(&site, multi, &["iptables-save"])?;
            }
            let mut rules = 0;
            for line in told
                .lines()
                .filter(|line| line.starts_with("  ") && !line.starts_with("    "))
            {
                let Some((place, rule)) = line.trim().split_once(": ") else {
                    continue;
                };
                if !place.contains("tables") && !place.contains("pontoon") || rule == "policy" {
                    continue;
                }
                // iptables' handles are those that nft shows.
                let rule = match rule.starts_with("-A ") {
                    true => rule.split(" # handle").next().unwrap_or_default(),
                    false => rule,
                };
                rules += 1;
                if !listing.contains(rule) {
                    return Err(Failure::new(format!(
                        "{backend}: not in the listing: {rule}\n{listing}"
                    )));
                }
            }
            if rules == 0 {
                return Err(Failure::new(format!("{backend}: no rules:\n{told}")));
            }
        }
        let told = site.pontoon_json(&["trace", "host", "198.18.7.1:8080", "--live"])?;
        let chains = |steps: &Value| -> Vec<String> {
            let steps = steps.as_array().into_iter().flatten();
            steps
                .filter_map(|step| step["chain"].as_str().map(str::to_owned))
                .collect()
        };
        let predicted = chains(&told["steps"]);
        let strange: Vec<String> = chains(&told["live"]["steps"])
            .into_iter()
            .filter(|chain| !predicted.contains(chain))
            .collect();
        if !strange.is_empty() {
            return Err(Failure::new(format!(
                "{backend}: {strange:?} in the live list, not in {predicted:?}"
            )));
        }
    }
    Ok(())
}

#[test]
fn a_wrong_question_is_called_that() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    for (to, words) in [
        ("db:99999", "\"99999\" is no port"),
        ("db:http", "\"http\" is no port"),
        ("10.93.0.3:5432/udp", "--proto udp"),
        (
            "localhost:8080",
            "localhost is another one in each container",
        ),
        (":8080", "no receiver before the port"),
        ("8080", "a port without a receiver"),
        ("db:80", "no container is called db"),
    ] {
        let told = site.pontoon(&["trace", "host", to])?;
        if !told.stderr.contains(words) || told.stdout.lines().count() > 0 {
            return Err(Failure::new(format!(
                "{to}: {}{}",
                told.stdout, told.stderr
            )));
        }
    }
    let told = site.pontoon(&["trace", "web:80", "host:80"])?.stderr;
    equal("a port of SRC", told.contains("SRC takes no port"), true)
}
