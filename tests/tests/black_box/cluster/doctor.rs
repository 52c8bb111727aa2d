//! `pontoon doctor` on a host among several: each fault is made, named with a next step, and mended; then doctor is
//! silent again.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pontoon_lab::{Cluster, Failure, Outcome, Programs};
use serde_json::Value;

use super::guests::{ip, run};
use super::scene::{NETWORK, PATIENCE, Scene, wait_for};

/// What doctor on a host finds.
pub(super) struct Report {
    pub(super) findings: Vec<Value>,
    took: Duration,
}

pub(super) fn examine(scene: &Scene, number: u8) -> Outcome<Report> {
    let conf = scene.at(number, "net.d").display().to_string();
    let plugins = Programs::built()?.dir().display().to_string();
    let arguments = [
        "doctor",
        "--json",
        "--conf-dir",
        &conf,
        "--bin-dir",
        &plugins,
    ];
    let started = Instant::now();
    let output = scene.run_program("pontoon", number, &arguments)?;
    let took = started.elapsed();
    let report: Value = serde_json::from_slice(&output.stdout).map_err(|error| {
        let words = String::from_utf8_lossy(&output.stderr);
        Failure::new(format!("doctor on h{number}: {error}: {words}"))
    })?;
    let findings = report["findings"].as_array().cloned().unwrap_or_default();
    for finding in &findings {
        let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        let next = text("mend") + &text("advice");
        if text("meaning").is_empty() || text("evidence").is_empty() || next.is_empty() {
            return Err(Failure::new(format!("says too little: {finding}")));
        }
    }
    Ok(Report { findings, took })
}

impl Report {
    fn kinds(&self) -> BTreeSet<&str> {
        let kinds = self.findings.iter().filter_map(|one| one["id"].as_str());
        kinds.collect()
    }

    /// The one finding of a kind, with this in its object and this in its evidence.
    pub(super) fn has(&self, kind: &str, object: &str, evidence: &str) -> Outcome {
        let is = |one: &&Value| {
            one["id"] == kind
                && one["object"].as_str().is_some_and(|it| it.contains(object))
                && one["evidence"]
                    .as_str()
                    .is_some_and(|it| it.contains(evidence))
        };
        match self.findings.iter().filter(is).count() {
            1 => Ok(()),
            _ => Err(Failure::new(format!(
                "no {kind} of {object} with {evidence:?}: {:#?}",
                self.findings
            ))),
        }
    }
}

/// Wants exactly these kinds.
pub(super) fn found(scene: &Scene, number: u8, expected: &[&str]) -> Outcome<Report> {
    let report = examine(scene, number)?;
    match report.kinds() == expected.iter().copied().collect() {
        true => Ok(report),
        false => Err(Failure::new(format!(
            "h{number}: not {expected:?}: {:#?}",
            report.findings
        ))),
    }
}

/// Waits until doctor is silent on a host; what it found last when it is not.
pub(super) fn silent(scene: &Scene, number: u8) -> Outcome {
    let what = format!("silence of doctor on h{number}");
    let quiet = wait_for(&what, PATIENCE, || {
        Ok(examine(scene, number)?.findings.is_empty().then_some(()))
    });
    let last = |error| match examine(scene, number) {
        Ok(report) => Failure::new(format!("{error}: {:#?}", report.findings)),
        Err(error) => error,
    };
    quiet.map(drop).map_err(last)
}

/// Hosts with VXLAN between them, and doctor silent on each.
fn healthy() -> Outcome<Scene> {
    let scene = Scene::with_network(&["--mode", "vxlan"])?;
    for number in 1..=3 {
        scene.wait_for_status(number, "all hosts are alive", |status| {
            ["h1", "h2", "h3"]
                .iter()
                .all(|host| status["hosts"][host] == true)
        })?;
        silent(&scene, number)?;
    }
    Ok(scene)
}

fn on_host(scene: &Scene, number: u8, program: &str, arguments: &str) -> Outcome {
    run(
        scene.cluster.hosts[usize::from(number) - 1].netns(),
        program,
        arguments,
    )
    .map(drop)
}

/// The first address of a host's block.
fn first(scene: &Scene, number: u8) -> Outcome<Ipv4Addr> {
    let block = scene.block_of(number)?;
    let address = block.split('/').next().unwrap_or_default();
    address.parse().map_err(Failure::act("read a block"))
}

#[test]
fn a_healthy_cluster_has_no_finding_and_is_looked_at_in_two_seconds() -> Outcome {
    let scene = healthy()?;
    let times: Vec<Duration> = (0..3)
        .map(|_| Ok(found(&scene, 1, &[])?.took))
        .collect::<Outcome<_>>()?;
    eprintln!("doctor on a host of three took {times:?}");
    match times.iter().min() {
        Some(best) if *best < Duration::from_secs(2) => Ok(()),
        _ => Err(Failure::new(format!("doctor took {times:?}"))),
    }
}

#[test]
fn each_of_the_three_tables_that_is_wrong_while_no_agent_runs() -> Outcome {
    let scene = healthy()?;
    scene.kill(1)?;
    let report = found(&scene, 1, &["agent-not-running"])?;
    report.has(
        "agent-not-running",
        "pontoon-node",
        "no pontoon-node answers",
    )?;
    let (block, next) = (scene.block_of(2)?, first(&scene, 2)?);
    let mac = {
        let file = scene.file(1, "lan.peers.json")?;
        let peers = file["peers"].as_array().into_iter().flatten();
        let mut peers = peers.filter(|peer| peer["host"] == "h2");
        let mac = peers
            .next()
            .and_then(|peer| peer["mac"].as_str())
            .map(str::to_owned);
        mac.ok_or_else(|| Failure::new("h1 does not know h2"))?
    };
    for (program, arguments, evidence) in [
        ("ip", format!("route del {block} proto 112"), block.as_str()),
        ("ip", format!("neigh del {next} dev vx-lan"), "neighbour"),
        (
            "bridge",
            format!("fdb del {mac} dev vx-lan dst 198.18.60.2 self"),
            "forwarding entry to 198.18.60.2",
        ),
    ] {
        on_host(&scene, 1, program, &arguments)?;
        let report = found(&scene, 1, &["agent-not-running", "tunnel-entries-wrong"])?;
        report.has("tunnel-entries-wrong", "network lan", evidence)?;
        // As the mend says, with the configuration where the lab has it.
        scene.run(
            1,
            &["--config", &scene.settings(1, "h1")?.display().to_string()],
            &["--once"],
        )?;
        found(&scene, 1, &["agent-not-running"])?;
    }
    scene.start(1)?;
    silent(&scene, 1)
}

#[test]
fn a_host_that_is_dead() -> Outcome {
    let scene = healthy()?;
    scene.stop(3);
    scene.wait_for_status(1, "h3 is dead", |status| status["hosts"]["h3"] == false)?;
    found(&scene, 1, &["host-dead"])?.has("host-dead", "host h3", "lease")?;
    scene.start(3)?;
    silent(&scene, 1)?;
    // Alive for etcd, and out of reach for one host alone.
    let blocked = "add rule ip t input ip saddr 198.18.60.2 udp dport 4789 drop";
    for arguments in [
        "add table ip t",
        "add chain ip t input { type filter hook input priority 0; }",
    ] {
        on_host(&scene, 1, "nft", arguments)?;
    }
    on_host(&scene, 1, "nft", blocked)?;
    on_host(
        &scene,
        1,
        "nft",
        "add rule ip t input ip saddr 198.18.60.2 icmp type echo-reply drop",
    )?;
    found(&scene, 1, &["host-unreachable"])?.has(
        "host-unreachable",
        "host h2 on network lan",
        "198.18.60.2",
    )?;
    on_host(&scene, 1, "nft", "delete table ip t")?;
    silent(&scene, 1)
}

#[test]
fn the_udp_port_of_the_tunnel_is_filtered_on_the_other_host() -> Outcome {
    let scene = healthy()?;
    for arguments in [
        "add table ip t",
        "add chain ip t input { type filter hook input priority -200; }",
        "add rule ip t input udp dport 4789 drop",
    ] {
        on_host(&scene, 2, "nft", arguments)?;
    }
    let report = found(&scene, 1, &["tunnel-blocked"])?;
    report.has("tunnel-blocked", "host h2 on network lan", "UDP port 4789")?;
    on_host(&scene, 2, "nft", "delete table ip t")?;
    silent(&scene, 1)
}

#[test]
fn large_packets_are_lost_on_the_way() -> Outcome {
    let scene = healthy()?;
    ip(scene.cluster.switch(), "link set h2 mtu 1400")?;
    let report = found(&scene, 1, &["tunnel-mtu"])?;
    // 1,400 bytes less 50 of the tunnel.
    report.has(
        "tunnel-mtu",
        "host h2 on network lan",
        "of 1450 bytes none arrives, of 1350 bytes they do",
    )?;
    ip(scene.cluster.switch(), "link set h2 mtu 1500")?;
    silent(&scene, 1)
}

/// A network card that sends the checksum of TCP in the tunnel as the kernel left it, to be completed: the other host
/// drops such packets. Here the switch does.
#[test]
fn checksums_of_tcp_in_the_tunnel_are_not_completed() -> Outcome {
    let scene = healthy()?;
    let (from, to) = (first(&scene, 1)?, first(&scene, 2)?);
    // What the kernel leaves: the sum of the pseudo header of a segment with 20 bytes of options, folded (RFC 9293,
    // section 3.1).
    let words = [from.octets(), to.octets()].concat();
    let words = words
        .chunks(2)
        .map(|two| u32::from(u16::from_be_bytes([two[0], two[1]])));
    let sum = words.sum::<u32>() + 6 + 40;
    let sum = (sum & 0xffff) + (sum >> 16);
    let switch = scene.cluster.switch();
    for arguments in [
        "add table netdev t".to_owned(),
        "add chain netdev t c { type filter hook ingress device h1 priority 0; }".to_owned(),
        // Behind UDP, VXLAN and Ethernet: the protocol of IPv4, and the checksum of TCP.
        format!("add rule netdev t c udp dport 4789 @th,312,8 6 @th,528,16 {sum} drop"),
    ] {
        run(switch, "nft", &arguments)?;
    }
    let report = found(&scene, 1, &["checksum-offload-broken"])?;
    report.has(
        "checksum-offload-broken",
        "host h2 on network lan",
        &to.to_string(),
    )?;
    run(switch, "nft", "delete table netdev t")?;
    silent(&scene, 1)
}

/// Another machine's clock cannot be set here: its answers are changed on their way out.
#[test]
fn a_clock_that_is_an_hour_ahead() -> Outcome {
    let scene = healthy()?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(Failure::act("read the clock"))?;
    let ahead = (now.as_millis() + 3_600_000) % (24 * 60 * 60 * 1000);
    for arguments in [
        "add table ip t".to_owned(),
        "add chain ip t output { type filter hook output priority 0; }".to_owned(),
        format!("add rule ip t output icmp type timestamp-reply @th,96,32 set {ahead}"),
    ] {
        on_host(&scene, 2, "nft", &arguments)?;
    }
    found(&scene, 1, &["clocks-apart"])?.has("clocks-apart", "host h2", "s ahead of")?;
    on_host(&scene, 2, "nft", "delete table ip t")?;
    silent(&scene, 1)
}

#[test]
fn two_hosts_confirm_one_block() -> Outcome {
    let scene = healthy()?;
    let block = scene.block_of(1)?;
    // A host that is not there, so that none gives it up.
    let key = format!("/pontoon/v1/host/h9/block/lan/{}", block.replace('/', "-"));
    scene.etcdctl(&format!("put {key} {{}}"))?;
    let report = wait_for("the finding", PATIENCE, || {
        let report = examine(&scene, 1)?;
        Ok(report
            .kinds()
            .contains("block-with-two-owners")
            .then_some(report))
    });
    let (report, _) = report?;
    report.has(
        "block-with-two-owners",
        &format!("{block} of network {NETWORK}"),
        "h1 confirmed it first, then h9",
    )?;
    report.has("host-dead", "host h9", "lease")?;
    scene.ask(1, &["node", "forget", "h9"])?;
    silent(&scene, 1)
}

#[test]
fn what_the_agent_warns_of_is_a_finding() -> Outcome {
    let scene = healthy()?;
    scene.etcdctl("put /pontoon/v1/net/bad {")?;
    let warns = |status: &Value| {
        status["warnings"]
            .as_object()
            .is_some_and(|it| !it.is_empty())
    };
    scene.wait_for_status(1, "a warning", warns)?;
    let report = found(&scene, 1, &["agent-warns"])?;
    report.has("agent-warns", "/pontoon/v1/net/bad", "cannot be read")?;
    scene.etcdctl("del /pontoon/v1/net/bad")?;
    silent(&scene, 1)
}

#[test]
fn members_of_etcd_that_do_not_answer() -> Outcome {
    let scene = healthy()?;
    scene.etcd.borrow_mut().kill(1)?;
    let member = format!("http://{}:2379", Cluster::address(1));
    wait_for("another member is asked", PATIENCE, || {
        Ok((scene.status(2)?["etcd"]["connected"] == true).then_some(()))
    })?;
    let report = found(&scene, 2, &["etcd-member-silent"])?;
    report.has("etcd-member-silent", &member, "")?;
    scene.etcd.borrow_mut().kill(2)?;
    scene.wait_for_status(3, "etcd is away", |status| {
        status["etcd"]["connected"] == false
    })?;
    let report = found(&scene, 3, &["etcd-silent"])?;
    report.has("etcd-silent", "etcd", "for")?;
    eprintln!("doctor without etcd took {:?}", report.took);
    for number in [1, 2] {
        scene.etcd.borrow_mut().restart(&scene.cluster, number)?;
    }
    silent(&scene, 3)?;
    silent(&scene, 2)
}
