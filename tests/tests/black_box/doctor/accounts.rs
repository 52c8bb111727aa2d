//! What `pontoon doctor` and the commands beside it tell where no command of theirs mends: interfaces that
//! are gone, plugins of other vendors, hosts without a way out, users who are not root; and what it costs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::doctor_scene::DoctorScene;
use pontoon_lab::{Backend, Failure, Outcome, Scratch};
use serde_json::{Value, json};

/// The veth pair of a container is gone: only its runtime can attach it again.
#[test]
fn an_interface_that_is_gone() -> Outcome {
    let mut ward = DoctorScene::new(Backend::Nftables)?;
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
    let mut ward = DoctorScene::new(Backend::Nftables)?;
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
    let ward = DoctorScene::new(Backend::Nftables)?;
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
        let ward = DoctorScene::new(Backend::Nftables)?;
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
    let ward = DoctorScene::new(Backend::Nftables)?;
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
        (&["leases", "ward", "--data-dir", &data], 1, "cannot list"),
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
        (&["ls"], 1, "cannot list"),
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
        let ward = DoctorScene::new(backend)?;
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
    let ward = DoctorScene::new(Backend::Nftables)?;
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
            let ward = DoctorScene::with(backend, &["10.82.0.0/24"], count)?;
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
