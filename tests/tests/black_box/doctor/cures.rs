//! `pontoon doctor`: a healthy host yields no finding; each thing that can be wrong is planted, found
//! by name, and mended by the command that is printed.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::doctor_scene::DoctorScene;
use super::illnesses::{
    BRIDGES, CONFIGURED, FILTERS, FaultCase, INTERIORS, LEFTOVERS, PORTS, RULES, SWITCHES,
};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use pontoon_lab::{
    Backend, Failure, NameServer, OUTSIDE_V4, Outcome, Programs, Scratch, Site, find, missing, tcp,
};
use serde_json::{Value, json};

impl DoctorScene {
    /// Whether the first container reaches the outside.
    fn reaches_outside(&self) -> Outcome<bool> {
        let _server = self.site.host.serve_outside(7777)?;
        let target = SocketAddr::new(OUTSIDE_V4, 7777);
        let reply = self.containers[0]
            .0
            .run(|| tcp(target, Duration::from_secs(2)))?;
        Ok(reply.is_ok())
    }
}

#[test]
fn a_healthy_host_has_no_findings() -> Outcome {
    for backend in Backend::ALL {
        let ward = DoctorScene::new(backend)?;
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
fn cured(illnesses: &[FaultCase]) -> Outcome {
    let mut wrong = Vec::new();
    for (name, expected, plant) in illnesses {
        let mut ward = DoctorScene::new(Backend::Nftables)?;
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
fn fixed(illnesses: &[FaultCase]) -> Outcome {
    let mut wrong = Vec::new();
    for (name, _, plant) in illnesses {
        let mut ward = DoctorScene::new(Backend::Nftables)?;
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
        let mut ward = DoctorScene::new(Backend::Nftables)?;
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
    let mut ward = DoctorScene::new(Backend::Nftables)?;
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
        let ward = DoctorScene::new(backend)?;
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
    let mut ward = DoctorScene::with(Backend::Nftables, &["10.82.0.0/29"], 5)?;
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
    let (_container, kept) = kept.ok_or_else(|| Failure::new("no container was kept"))?;
    Ok(ward.site.runtime().check(&ward.network, &kept)?)
}

#[test]
fn a_port_that_a_process_listens_on() -> Outcome {
    let mut ward = DoctorScene::new(Backend::Nftables)?;
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

/// Names: the resolver killed, a server that is silent, a file that names no server.
#[test]
fn the_resolver_and_its_servers() -> Outcome {
    let mut ward = DoctorScene::new(Backend::Nftables)?;
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
        // The file belongs to the admin: no command edits it.
        if kinds != [expected] || !found[0].1.is_empty() {
            return Err(Failure::new(format!("{found:?}, not {expected}")));
        }
        write(&good)?;
        ward.cure(&[])?;
    }
    // The resolver runs, and no question reaches it.
    ward.shell("nft flush map inet pontoon resolver4")?;
    ward.cure(&["rules-missing"])?;
    ward.site.kill_resolver()?;
    ward.cure(&["resolver-not-running"])?;
    // Started without the right to become another user.
    ward.site.kill_resolver()?;
    let program = Programs::built()?.dir().join("pontoon-dns");
    ward.shell(&format!(
        "sleep 0.2; setpriv --bounding-set=-setuid,-setgid {} --detached --state {} \
         < /dev/null > /dev/null 2>&1 &",
        program.display(),
        ward.site.host.state_dir().display()
    ))?;
    let begun = Instant::now();
    while ward.site.pontoon_json(&["dns", "status"]).is_err() {
        if begun.elapsed() > Duration::from_secs(10) {
            return Err(Failure::new("the resolver did not start"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let found = ward.examine(&[])?;
    let kinds: Vec<&str> = found.iter().map(|(id, ..)| id.as_str()).collect();
    if kinds != ["resolver-privileged"] {
        return Err(Failure::new(format!("{found:?}, not resolver-privileged")));
    }
    ward.site.kill_resolver()?;
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
    let mut ward = DoctorScene::new(Backend::Nftables)?;
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
    let ward = DoctorScene::new(Backend::IptablesNft)?;
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
