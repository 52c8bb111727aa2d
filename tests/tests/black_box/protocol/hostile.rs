//! Configuration that is meant to do harm, and a host on which things fail: refused by name, without a
//! trace, and never taken for success.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use pontoon_lab::{
    Attachment, Backend, Container, Failure, Network, Outcome, Programs, Site, same,
};
use serde_json::{Value, json};

/// For what must not wait: a plugin takes some hundredth of this on a busy machine.
const SOON: Duration = Duration::from_secs(10);

#[track_caller]
fn wrong(text: impl Into<String>) -> Outcome {
    Err(Failure::new(text.into()))
}

/// What the kernel and the state directory have of an attachment that was refused must be nothing; its DEL,
/// GC and the port's next user must succeed.
fn refused_without_a_trace(
    site: &Site,
    network: &Network,
    mut attachment: Attachment,
    about: &str,
) -> Outcome {
    let before = site.snapshot()?;
    let Err(error) = site.runtime().add(network, &mut attachment) else {
        return wrong(format!("{about}: accepted"));
    };
    if error.text().len() > 1200 {
        return wrong(format!("{about}: {} bytes of text", error.text().len()));
    }
    // The plugins before keep what is theirs until DEL.
    for plugin in ["portmap", "firewall"] {
        let records = site.host.state_dir().join(plugin);
        if records.exists() {
            return wrong(format!("{about}: {} is there", records.display()));
        }
    }
    site.runtime().del(network, &attachment)?;
    site.runtime().gc(network, &[])?;
    let plain = plain(site);
    let other = Container::new("other")?;
    let mut next = Attachment::new(&other).publish("", 8080, 80, "tcp");
    site.runtime().add(&plain, &mut next)?;
    site.runtime().del(&plain, &next)?;
    site.nothing_left(&before, &[network, &plain], about)
}

fn plain(site: &Site) -> Network {
    site.firewalled("plain", &["10.62.1.0/24"], json!({}))
}

fn hostile(site: &Site) -> Network {
    site.firewalled("hostile", &["10.62.0.0/24", "fd00:62::/64"], json!({}))
}

#[test]
fn ports_that_cannot_be_written() -> Outcome {
    let iptables: [(&str, Value); 6] = [
        ("conditionsV4", json!(["-s", "1.2.3.4", "-j", "DROP"])),
        (
            "conditionsV6",
            json!(["-m", "comment", "--comment", "a\"b"]),
        ),
        ("conditionsV4", json!(vec!["-m"; 200])),
        // Sound words, which the program itself refuses.
        ("conditionsV4", json!(["-m", "nosuchmatch"])),
        ("externalSetMarkChain", json!("a b")),
        ("externalSetMarkChain", json!("x".repeat(10_000))),
    ];
    let nftables: [(&str, Value); 2] = [
        ("conditionsV4", json!(["drop"])),
        ("conditionsV6", json!(["x".repeat(10_000)])),
    ];
    for backend in Backend::ALL {
        let site = Site::new(backend)?;
        let cases = match backend {
            Backend::Nftables => &nftables[..],
            _ => &iptables[..],
        };
        for (key, value) in cases {
            let network = hostile(&site).with("portmap", key, value.clone());
            let container = Container::new("refused")?;
            let attachment = Attachment::new(&container).publish("", 8080, 80, "tcp");
            let shown: String = value.to_string().chars().take(60).collect();
            let about = format!("{} {key} {shown}", backend.key());
            refused_without_a_trace(&site, &network, attachment, &about)?;
        }
    }
    Ok(())
}

#[test]
fn names_that_cannot_be_written() -> Outcome {
    for backend in [Backend::IptablesNft, Backend::IptablesLegacy] {
        let site = Site::new(backend)?;
        for ifname in ["a\"b", "a'b", "\u{e9}th\\"] {
            let apart = site.firewalled("apart", &["10.62.2.0/24"], json!({ "icc": false }));
            for (network, publish) in [(hostile(&site), true), (apart, false)] {
                let container = Container::new("named")?;
                let mut attachment = Attachment::new(&container);
                if publish {
                    attachment = attachment.publish("", 8080, 80, "tcp");
                }
                attachment.ifname = ifname.to_owned();
                let about = format!("{} interface {ifname}", backend.key());
                refused_without_a_trace(&site, &network, attachment, &about)?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_bridge_that_cannot_be_written_leaves_no_note() -> Outcome {
    for backend in [Backend::IptablesNft, Backend::IptablesLegacy] {
        let site = Site::new(backend)?;
        let before = site.snapshot()?;
        let network = site.network("quoted", "br\"0", &["10.62.0.0/24"]);
        let container = Container::new("quoted")?;
        let mut attachment = Attachment::new(&container);
        if site.runtime().add(&network, &mut attachment).is_ok() {
            return wrong("a bridge br\"0 is accepted");
        }
        before.same_as(&site.snapshot()?, "the refused ADD")?;
        site.runtime().del(&network, &attachment)?;
        before.same_as(&site.snapshot()?, "its DEL")?;
    }
    Ok(())
}

/// A record of a release that wrote it before it knew that its rules cannot be written.
#[test]
fn what_cannot_be_written_is_withdrawn_by_its_owner() -> Outcome {
    for backend in [Backend::IptablesNft, Backend::IptablesLegacy] {
        let site = Site::new(backend)?;
        let before = site.snapshot()?;
        let network = hostile(&site);
        let container = Container::new("recorded")?;
        let mut attachment = Attachment::new(&container).publish("", 8080, 80, "tcp");
        site.runtime().add(&network, &mut attachment)?;
        let path = site.host.state_dir().join(format!(
            "portmap/{}/{}:eth0",
            network.name(),
            attachment.container_id
        ));
        let bytes = fs::read(&path).map_err(Failure::act("read the record"))?;
        let mut record: Value =
            serde_json::from_slice(&bytes).map_err(Failure::act("parse the record"))?;
        record["published"]["conditions_v4"] = json!(["-j", "DROP"]);
        fs::write(&path, record.to_string()).map_err(Failure::act("write the record"))?;
        site.runtime().del(&network, &attachment)?;
        site.nothing_left(&before, &[&network], "DEL of such a record")?;
    }
    Ok(())
}

fn make_fifo(path: &Path) -> std::io::Result<()> {
    mkfifo(path, Mode::S_IRWXU).map_err(std::io::Error::from)
}

/// Calls one plugin, in time, and wants this code; 0 is success.
fn answers(
    site: &Site,
    (verb, kind): (&str, &str),
    stdin: &Value,
    attachment: &Attachment,
    code: u64,
) -> Outcome<String> {
    let began = Instant::now();
    let runtime = site.runtime();
    let call = runtime.attachment_call(verb, stdin, attachment);
    let finished = runtime.call(kind, &call)?;
    let found = finished.verdict(kind).err();
    let shown: String = format!("{kind} {verb}: {} {}", finished.stdout, finished.stderr)
        .chars()
        .take(1500)
        .collect();
    if began.elapsed() > SOON {
        return Err(Failure::new(format!("{:?}: {shown}", began.elapsed())));
    }
    if found.as_ref().map_or(0, |error| error.code) != code || finished.stdout.len() > 8192 {
        return Err(Failure::new(format!("wanted code {code}: {shown}")));
    }
    Ok(found.map(|error| error.text()).unwrap_or_default())
}

#[test]
fn names_of_a_previous_result_are_names_of_the_kernel() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let container = Container::new("long")?;
    let attachment = Attachment::new(&container).publish("", 80, 80, "tcp");
    for name in ["x".repeat(66_000), "sixteen-letters!".into(), "a/b".into()] {
        for place in 0..3 {
            let mut interfaces = json!([
                { "name": "br9" }, { "name": "veth9" },
                { "name": "eth0", "sandbox": container.path_text() },
            ]);
            interfaces[place]["name"] = json!(name);
            for kind in ["portmap", "firewall", "dns", "tuning", "bandwidth", "sbr"] {
                let stdin = json!({
                    "cniVersion": "1.1.0", "name": "long", "type": kind,
                    "runtimeConfig": { "portMappings": [{ "hostPort": 80, "containerPort": 80 }] },
                    "prevResult": {
                        "cniVersion": "1.1.0", "interfaces": interfaces,
                        "ips": [{ "interface": 2, "address": "10.9.0.2/24", "gateway": "10.9.0.1" }],
                    },
                });
                let text = answers(&site, ("ADD", kind), &stdin, &attachment, 7)?;
                if !text.contains("interface name") || text.len() > 600 {
                    return wrong(format!("{kind}: {text:.600}"));
                }
                answers(&site, ("DEL", kind), &stdin, &attachment, 0)?;
            }
        }
    }
    Ok(())
}

#[test]
fn values_without_number_and_words_without_end_are_refused_shortly() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let container = Container::new("long")?;
    let attachment = Attachment::new(&container);
    let network = |key: &str, value: Value| {
        let mut stdin = json!({
            "cniVersion": "1.1.0", "name": "long", "type": "bridge",
            "ipam": { "type": "host-local", "dataDir": site.leases.path(), "subnet": "10.62.0.0/24" },
        });
        stdin[key] = value;
        stdin
    };
    for (value, limit) in [
        (json!(vec![1; 1_000_000]), "400000 values"),
        (json!(vec![json!({}); 400_000]), "400000 values"),
        (json!("x".repeat(7_000_000)), "6291456 bytes"),
    ] {
        let stdin = network("unknown", value);
        let text = answers(&site, ("ADD", "bridge"), &stdin, &attachment, 7)?;
        if !text.contains(limit) {
            return wrong(text);
        }
    }
    let word = "x".repeat(300_000);
    for key in [
        "cniVersion",
        "name",
        "bridge",
        "mtu",
        "ipMasq",
        "ipMasqBackend",
        "ipam",
        "dns",
        "args",
    ] {
        let stdin = network(key, json!(word));
        let runtime = site.runtime();
        let call = runtime.attachment_call("ADD", &stdin, &attachment);
        let finished = runtime.call("bridge", &call)?;
        let text = finished.stdout + &finished.stderr;
        if finished.status != Some(1) || text.len() > 1500 || text.contains(&word[..201]) {
            return wrong(format!("{key}: {} bytes: {text:.600}", text.len()));
        }
    }
    Ok(())
}

#[test]
fn rules_that_are_changed_back_are_in_force() -> Outcome {
    for backend in Backend::ALL {
        let site = Site::new(backend)?;
        let before = site.snapshot()?;
        let first = site.network("back", "back0", &["10.62.0.0/24"]);
        let second = first
            .clone()
            .with("bridge", "snatUnchecked", json!(true))
            .with(
                "bridge",
                "snat",
                json!([{ "source": "198.18.7.77", "out": "dev9" }]),
            );
        let (_one, one) = site.join("one", &first)?;
        let (_two, two) = site.join("two", &second)?;
        let (_three, three) = site.join("three", &first)?;
        for attachment in [&one, &three] {
            site.runtime().check(&first, attachment)?;
        }
        for attachment in [&one, &two, &three] {
            site.runtime().del(&first, attachment)?;
        }
        site.nothing_left(&before, &[&first], "rules changed and changed back")?;
    }
    Ok(())
}

/// As a full disk behind standard output, or a runtime that has closed its end.
#[test]
fn a_result_that_cannot_be_told_leaves_nothing() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let before = site.snapshot()?;
    let network = site.network("untold", "untold0", &["10.62.0.0/24"]);
    let container = Container::new("untold")?;
    let attachment = Attachment::new(&container);
    for kind in ["bridge", "ptp"] {
        let mut plugin = network.plugins()[0].clone();
        plugin["type"] = json!(kind);
        let stdin = network.stdin(&plugin, &attachment.capabilities, None);
        let config = site.leases.path().join("config");
        fs::write(&config, stdin.to_string()).map_err(Failure::act("write the configuration"))?;
        let call = site.runtime().attachment_call("ADD", &stdin, &attachment);
        let program = Programs::built()?.program(kind);
        let open = |path: &Path, write: bool| File::options().read(!write).write(write).open(path);
        let run = || -> std::io::Result<(Option<i32>, String)> {
            let output = Command::new(&program)
                .env_clear()
                .envs(call.environment.iter().map(|(name, value)| (name, value)))
                .stdin(open(&config, false)?)
                .stdout(open(Path::new("/dev/full"), true)?)
                .stderr(Stdio::piped())
                .spawn()?
                .wait_with_output()?;
            Ok((
                output.status.code(),
                String::from_utf8_lossy(&output.stderr).into_owned(),
            ))
        };
        let (status, said) = site
            .host
            .run(run)?
            .map_err(Failure::act("run the plugin"))?;
        fs::remove_file(&config).map_err(Failure::act("remove the configuration"))?;
        if status != Some(1) || !said.contains("cannot write the result to standard output") {
            return wrong(format!("{kind}: {status:?}: {said}"));
        }
        site.nothing_left(
            &before,
            &[&network],
            &format!("{kind} without standard output"),
        )?;
    }
    Ok(())
}

#[test]
fn what_cannot_be_read_is_no_empty_list() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let io = |act: &'static str| Failure::act(act);
    // The index of names, by which the firewall finds whom a link leads to.
    let network = site.firewalled("apart", &["10.62.0.0/24"], json!({ "icc": false }));
    let (_db, db) = site.join("db", &network)?;
    let named = site.host.state_dir().join("links/apart/named");
    fs::write(named.join("web"), "").map_err(io("plant a file"))?;
    let client = Container::new("client")?;
    let mut attachment = Attachment::new(&client);
    let links = json!([{ "container": "web", "ports": [{ "port": 80 }] }]);
    attachment.capabilities.insert("links".into(), links);
    let Err(error) = site.runtime().add(&network, &mut attachment) else {
        return wrong("firewall took an unreadable index for an empty one");
    };
    same("code", &error.code.to_string(), "5")?;
    fs::remove_file(named.join("web")).map_err(io("remove it"))?;
    for attachment in [&attachment, &db] {
        site.runtime().del(&network, attachment)?;
    }
    // One network's part of a container's files.
    let named = site.named_network("parts", 88, json!({}));
    let container = Container::new("parts")?;
    let mut attachment = Attachment::new(&container);
    let files = site.host.state_dir().join("containers").join(&container.id);
    for plant in ["fifo", "directory", "garbage"] {
        let part = files.join(".other:eth1");
        fs::create_dir_all(&files).map_err(io("make the folder"))?;
        match plant {
            "fifo" => make_fifo(&part).map_err(io("make a fifo"))?,
            "directory" => fs::create_dir(&part).map_err(io("make a directory"))?,
            _ => fs::write(&part, "{\"servers\": ").map_err(io("write garbage"))?,
        }
        let began = Instant::now();
        let Err(error) = site.runtime().add(&named, &mut attachment) else {
            return wrong(format!("dns took a {plant} for nothing"));
        };
        same("code", &error.code.to_string(), "5")?;
        let _ = fs::remove_file(&part).or_else(|_| fs::remove_dir(&part));
        site.runtime().del(&named, &attachment)?;
        if began.elapsed() > SOON || files.exists() {
            return wrong(format!("{plant}: {:?}", began.elapsed()));
        }
    }
    // What tuning found before.
    let data = site.leases.path().join("tuning");
    let stdin = json!({
        "cniVersion": "1.1.0", "name": "tuned", "type": "tuning", "dataDir": data,
        "sysctl": { "net.core.somaxconn": "500" }, "prevResult": { "cniVersion": "1.1.0" },
    });
    let attachment = Attachment::new(&container);
    answers(&site, ("ADD", "tuning"), &stdin, &attachment, 0)?;
    let backup = data.join(format!("{}_eth0.json", container.id));
    let aside = data.join("aside");
    fs::rename(&backup, &aside).map_err(io("move the backup"))?;
    make_fifo(&backup).map_err(io("make a fifo"))?;
    answers(&site, ("DEL", "tuning"), &stdin, &attachment, 5)?;
    fs::rename(&aside, &backup).map_err(io("move it back"))?;
    answers(&site, ("DEL", "tuning"), &stdin, &attachment, 0)?;
    match container.sysctl("net/core/somaxconn")?.as_str() {
        "500" => wrong("the value of before is forgotten"),
        _ => Ok(()),
    }
}

#[test]
fn nothing_is_waited_for_followed_or_read_without_end() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let container = Container::new("planted")?;
    let attachment = Attachment::new(&container);
    let victim = site.leases.path().join("victim");
    let folder = site.leases.path().join("planted");
    let stdin = |keys: Value| {
        let mut ipam = json!({ "type": "host-local", "dataDir": site.leases.path(), "subnet": "10.62.0.0/24" });
        for (key, value) in keys.as_object().into_iter().flatten() {
            ipam[key] = value.clone();
        }
        json!({ "cniVersion": "1.1.0", "name": "planted", "type": "host-local", "ipam": ipam })
    };
    let act = |act: &'static str| Failure::act(act);
    let fifo = site.leases.path().join("fifo");
    make_fifo(&fifo).map_err(act("make a fifo"))?;
    let huge = site.leases.path().join("huge");
    let sparse = |path: &Path| File::create(path)?.set_len(2 << 30);
    sparse(&huge).map_err(act("make a huge file"))?;
    for path in [Path::new("/dev/zero"), &fifo, &huge, Path::new("/etc")] {
        let keys = json!({ "resolvConf": path });
        let text = answers(&site, ("ADD", "host-local"), &stdin(keys), &attachment, 5)?;
        if !text.contains(&path.display().to_string()) {
            return wrong(text);
        }
        let mut dns = json!({
            "cniVersion": "1.1.0", "name": "planted", "type": "dns", "resolvConf": path,
            "prevResult": { "cniVersion": "1.1.0",
                "interfaces": [{ "name": "eth0", "sandbox": container.path_text() }],
                "ips": [{ "interface": 0, "address": "10.62.0.9/24" }] },
        });
        answers(&site, ("ADD", "dns"), &dns, &attachment, 5)?;
        dns["resolvConf"] = json!("/etc/resolv.conf");
        answers(&site, ("DEL", "dns"), &dns, &attachment, 0)?;
    }
    for name in [
        "10.62.0.2",
        "lock",
        "last_reserved_ip.0",
        "pontoon.network",
        "pontoon.network.new",
        ".pontoon-spare.0",
    ] {
        for plant in ["fifo", "link", "huge", "device", "directory"] {
            fs::create_dir_all(&folder).map_err(act("make the folder"))?;
            fs::write(&victim, "untouched").map_err(act("write the victim"))?;
            let path = folder.join(name);
            match plant {
                "fifo" => make_fifo(&path).map_err(act("make a fifo"))?,
                "link" => symlink(&victim, &path).map_err(act("make a link"))?,
                "huge" => sparse(&path).map_err(act("make a huge file"))?,
                "device" => symlink("/dev/zero", &path).map_err(act("make a link"))?,
                _ => fs::create_dir(&path).map_err(act("make a directory"))?,
            }
            let stdin = stdin(json!({}));
            let began = Instant::now();
            for verb in ["ADD", "CHECK", "DEL"] {
                // Served beside it, or refused by name: not in silence, and at once.
                let runtime = site.runtime();
                let call = runtime.attachment_call(verb, &stdin, &attachment);
                let finished = runtime.call("host-local", &call)?;
                if let Err(error) = finished.verdict("host-local")
                    && (error.code == 0 || !error.text().contains("planted"))
                    && verb != "CHECK"
                {
                    return wrong(format!("{plant} as {name}, {verb}: {error}"));
                }
            }
            let text = fs::read_to_string(&victim).map_err(act("read the victim"))?;
            if text != "untouched" || began.elapsed() > SOON {
                return wrong(format!(
                    "{plant} as {name}: {text:?}, {:?}",
                    began.elapsed()
                ));
            }
            fs::remove_dir_all(&folder).map_err(act("remove the folder"))?;
        }
    }
    Ok(())
}

/// A lease of the reference plugin has no boot in it, only a time; the clock was wrong when it was written.
#[test]
fn a_lease_from_before_a_clock_step_is_kept_while_its_address_lives() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = site.network("clock", "clock0", &["10.62.0.0/24"]);
    let (one, first) = site.join("one", &network)?;
    let (_two, second) = site.join("two", &network)?;
    let folder = site.leases.path().join("clock");
    let act = |act: &'static str| Failure::act(act);
    let address = |attachment: &Attachment| attachment.address(false).unwrap_or_default();
    for attachment in [&first, &second] {
        let lease = File::options()
            .write(true)
            .open(folder.join(address(attachment)))
            .map_err(act("open the lease"))?;
        let wrong_clock = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        lease
            .set_times(FileTimes::new().set_modified(wrong_clock))
            .map_err(act("set its time"))?;
    }
    // What the reference does not write.
    for name in ["pontoon.network", "last_reserved_ip.0"] {
        fs::remove_file(folder.join(name)).map_err(act("remove a file of the directory"))?;
    }
    // A host whose clock was wrong has containers that died, too.
    one.kill()?;
    // The kernel takes a dead namespace apart later, and until then its address answers.
    let host_end = first
        .result
        .as_ref()
        .map(|result| &result["interfaces"][1]["name"]);
    let host_end = host_end.and_then(Value::as_str).unwrap_or_default();
    let until = Instant::now() + Duration::from_secs(20);
    while site
        .host
        .command(Command::new("ip").arg("link"))?
        .contains(host_end)
    {
        if Instant::now() > until {
            return wrong(format!("{host_end} of a dead namespace is still there"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let (_three, third) = site.join("three", &network)?;
    if address(&third) == address(&second) || !folder.join(address(&second)).exists() {
        return wrong(format!(
            "{} of a living container is taken",
            address(&second)
        ));
    }
    same(
        "the address of the dead one",
        &address(&third),
        &address(&first),
    )?;
    for attachment in [&second, &third] {
        site.runtime().del(&network, attachment)?;
    }
    Ok(())
}

#[test]
fn no_alias_stands_in_for_the_id_of_another_container() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = site.named_network("ids", 88, json!({}));
    let (one, first) = site.join_named("web", &network)?;
    let two = Container::new("thief")?;
    let mut second = Attachment::new(&two).named("thief");
    let aliases = json!([one.id, one.id.get(..12).unwrap_or(&one.id), "fine"]);
    second.capabilities.insert("aliases".into(), aliases);
    site.runtime().add(&network, &mut second)?;
    let at = format!("@{}", second.gateway(false).unwrap_or_default());
    let own = first.address(false).unwrap_or_default();
    for name in [one.id.as_str(), one.id.get(..12).unwrap_or(&one.id)] {
        same(name, &two.dig(&[&at, name])?, &format!("NOERROR {own}"))?;
    }
    let thief = second.address(false).unwrap_or_default();
    same(
        "an alias",
        &two.dig(&[&at, "fine"])?,
        &format!("NOERROR {thief}"),
    )?;
    for attachment in [&first, &second] {
        site.runtime().del(&network, attachment)?;
    }
    Ok(())
}
