//! Beside a real firewalld 1.3, which rejects what is forwarded for an interface that no zone lets
//! pass: the bridge goes into a zone and out of it again, or who is on none by address.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use pontoon_lab::{
    Attachment, BOTH, Backend, Container, Daemon, Echo, Failure, HOST_V4, HOST_V6, Network,
    OUTSIDE_V4, OUTSIDE_V6, Outcome, Programs, Runtime, Scratch, Site, libraries, missing,
    target_dir,
};
use serde_json::{Value, json};

const LAN: [&str; 2] = ["10.85.0.0/24", "fd00:85::/64"];
const LONG: Duration = Duration::from_secs(3);
const SHORT: Duration = Duration::from_millis(300);

/// firewalld and the bus that it is called by, on one host.
struct Firewalld {
    // In this order.
    _daemon: Daemon,
    _bus: Daemon,
    root: PathBuf,
    dir: Scratch,
}

impl Firewalld {
    fn start(site: &Site) -> Outcome<Self> {
        let root = target_dir()?.join("tools/firewalld-1.3");
        if !root.join("usr/sbin/firewalld").exists() {
            return Err(missing("firewalld 1.3"));
        }
        let dir = Scratch::new("firewalld")?;
        let at = |name: &str| dir.path().join(name);
        let socket = at("bus");
        let rules = ["own", "send_destination", "receive_sender"]
            .map(|what| format!("<allow {what}='*'/>"))
            .concat();
        let bus = format!(
            "<!DOCTYPE busconfig PUBLIC '-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN' \
             'http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd'>\n\
             <busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
             <policy context='default'><allow user='*'/>{rules}</policy></busconfig>",
            socket.display()
        );
        fs::write(at("bus.conf"), bus).map_err(Failure::act("write the bus's configuration"))?;
        let mut command = Command::new(root.join("usr/bin/dbus-daemon"));
        command
            .env("LD_LIBRARY_PATH", libraries(&root))
            .arg(format!("--config-file={}", at("bus.conf").display()))
            .args(["--nofork", "--nopidfile"]);
        let bus = Daemon::start(&site.host, &mut command, &at("bus.log"), || socket.exists())?;
        let system = at("etc");
        for part in [
            "",
            "zones",
            "services",
            "policies",
            "ipsets",
            "helpers",
            "icmptypes",
        ] {
            fs::create_dir(system.join(part)).map_err(Failure::act("make firewalld's files"))?;
        }
        fs::copy(
            root.join("etc/firewalld/firewalld.conf"),
            system.join("firewalld.conf"),
        )
        .map_err(Failure::act("copy firewalld.conf"))?;
        let mut command = python(&root, &dir, "usr/sbin/firewalld");
        command
            .args(["--nofork", "--nopid", "--system-config"])
            .arg(&system)
            .arg("--default-config")
            .arg(root.join("usr/lib/firewalld"))
            .arg("--log-file")
            .arg(at("firewalld.log"));
        let daemon = Daemon::start(&site.host, &mut command, &at("out.log"), || {
            let mut state = python(&root, &dir, "usr/bin/firewall-cmd");
            site.host.command(state.arg("--state")).is_ok()
        })?;
        Ok(Self {
            _daemon: daemon,
            _bus: bus,
            root,
            dir,
        })
    }

    fn command(&self, site: &Site, arguments: &[&str]) -> Outcome<String> {
        let mut command = python(&self.root, &self.dir, "usr/bin/firewall-cmd");
        site.host.command(command.args(arguments))
    }

    /// A runtime that passes on where the bus is.
    fn runtime<'s>(&self, site: &'s Site) -> Runtime<'s> {
        site.runtime()
            .with_env("DBUS_SYSTEM_BUS_ADDRESS", &address(&self.dir))
    }

    /// `pontoon repair`.
    fn repair(&self, site: &Site) -> Outcome {
        let mut command = Command::new(site.runtime().programs().program("pontoon"));
        command
            .args(["repair", "lan"])
            .env("PATH", site.admins_path())
            .env("DBUS_SYSTEM_BUS_ADDRESS", address(&self.dir));
        site.host.command(&mut command).map(drop)
    }
}

/// Of the bus.
fn address(dir: &Scratch) -> String {
    format!("unix:path={}", dir.path().join("bus").display())
}

/// A program of firewalld's, which are in Python.
fn python(root: &std::path::Path, dir: &Scratch, program: &str) -> Command {
    let arch = format!(
        "usr/lib/{}-linux-gnu/girepository-1.0",
        std::env::consts::ARCH
    );
    let mut command = Command::new("/usr/bin/python3");
    command
        .env("LD_LIBRARY_PATH", libraries(root))
        .env("PYTHONPATH", root.join("usr/lib/python3/dist-packages"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("GI_TYPELIB_PATH", root.join(arch))
        .env("DBUS_SYSTEM_BUS_ADDRESS", address(dir))
        .arg(root.join(program));
    command
}

/// A container with a server on port 80, published on 8080.
struct Guest {
    container: Container,
    attachment: Attachment,
    _server: Echo,
}

impl Guest {
    fn join(runtime: &Runtime<'_>, network: &Network) -> Outcome<Self> {
        let container = Container::new("web")?;
        let mut attachment = Attachment::new(&container)
            .publish("", 8080, 80, "tcp")
            .publish("", 8080, 80, "udp");
        runtime.add(network, &mut attachment)?;
        let server = container.serve(80)?;
        Ok(Self {
            container,
            attachment,
            _server: server,
        })
    }

    /// The way out, and the way in to the published port, work or do not.
    #[track_caller]
    fn passes(&self, site: &Site, passes: bool, when: &str) {
        let wait = if passes { LONG } else { SHORT };
        for (host, outside) in [(HOST_V4, OUTSIDE_V4), (HOST_V6, OUTSIDE_V6)] {
            for (name, ask) in BOTH {
                let out = SocketAddr::new(outside, 80);
                let answer = self.container.run(|| ask(out, wait)).unwrap();
                assert_eq!(
                    answer.is_ok(),
                    passes,
                    "{}, {when}: {name} out",
                    site.backend
                );
                if passes {
                    let published = SocketAddr::new(host, 8080);
                    let answer = site.host.run_outside(|| ask(published, wait)).unwrap();
                    assert!(answer.is_ok(), "{}, {when}: {name} in", site.backend);
                }
            }
        }
    }
}

fn network(site: &Site, keys: Value) -> Network {
    site.firewalled("lan", &LAN, keys)
}

#[test]
fn a_bridge_goes_into_a_zone() -> Outcome {
    for backend in Backend::ALL {
        let site = Site::new(backend)?;
        let firewalld = Firewalld::start(&site)?;
        let _beyond = site.host.serve_outside(80)?;
        let runtime = firewalld.runtime(&site);
        // A bridge without the firewall plugin is what firewalld rejects.
        let bare = site.network("bare", "br-bare", &["10.86.0.0/24", "fd00:86::/64"]);
        let rejected = Guest::join(&runtime, &bare)?;
        rejected.passes(&site, false, "without the firewall plugin");
        runtime.del(&bare, &rejected.attachment)?;
        let lan = network(&site, json!({ "profile": "docker" }));
        let web = Guest::join(&runtime, &lan)?;
        web.passes(&site, true, "in the zone");
        site.pontoon_ends(&["doctor"], 0)?;
        runtime.check(&lan, &web.attachment)?;
        runtime.status(&lan.clone().in_version("1.1.0"))?;
        let zone = ["--zone=trusted", "--list-interfaces"];
        assert_eq!(firewalld.command(&site, &zone)?.trim(), "br-lan");
        firewalld.command(&site, &["--reload"])?;
        web.passes(&site, false, "after firewalld's reload");
        // The next ADD mends it: the zone, and in iptables all rules, which firewalld flushes.
        let next = Container::new("next")?;
        let mut attachment = Attachment::new(&next);
        runtime.add(&lan, &mut attachment)?;
        web.passes(&site, true, "after the next ADD");
        runtime.del(&lan, &attachment)?;
        // The interface is removed from the zone: CHECK says so, and one command adds it again.
        firewalld.command(&site, &["--zone=trusted", "--remove-interface=br-lan"])?;
        web.passes(&site, false, "taken out");
        let error = runtime.check(&lan, &web.attachment);
        let error = error
            .err()
            .ok_or_else(|| Failure::new("CHECK saw nothing"))?;
        assert!(
            error.msg.contains("zone trusted of firewalld lacks"),
            "{error}"
        );
        firewalld.repair(&site)?;
        web.passes(&site, true, "after pontoon repair");
        runtime.del(&lan, &web.attachment)?;
        runtime.gc(&lan.clone().in_version("1.1.0"), &[])?;
        assert_eq!(firewalld.command(&site, &zone)?.trim(), "");
    }
    Ok(())
}

#[test]
fn the_zone_and_the_backend_are_keys() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let keys = json!({ "backend": "firewalld", "firewalldZone": "internal" });
    let lan = network(&site, keys);
    // Without firewalld the backend is not there.
    let container = Container::new("early")?;
    let mut attachment = Attachment::new(&container);
    let nowhere = site
        .runtime()
        .with_env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus");
    let error = nowhere.add(&lan, &mut attachment).err();
    let error = error.ok_or_else(|| Failure::new("ADD found a firewalld"))?;
    assert!(
        error.msg.contains("/nonexistent/bus does not answer"),
        "{error}"
    );
    nowhere.del(&lan, &attachment)?;
    let firewalld = Firewalld::start(&site)?;
    let runtime = firewalld.runtime(&site);
    let web = Guest::join(&runtime, &lan)?;
    let zone = ["--zone=internal", "--list-interfaces"];
    assert_eq!(firewalld.command(&site, &zone)?.trim(), "br-lan");
    runtime.check(&lan, &web.attachment)?;
    // Another zone from the next ADD on.
    let other = lan
        .clone()
        .with("firewall", "firewalldZone", json!("trusted"));
    runtime.del(&lan, &web.attachment)?;
    let web = Guest::join(&runtime, &other)?;
    assert_eq!(firewalld.command(&site, &zone)?.trim(), "");
    // A zone that does not exist.
    let wrong = lan
        .clone()
        .with("firewall", "firewalldZone", json!("nozone"));
    let container = Container::new("wrong")?;
    let mut attachment = Attachment::new(&container);
    let error = runtime.add(&wrong, &mut attachment).err();
    let error = error.ok_or_else(|| Failure::new("ADD found zone nozone"))?;
    assert!(error.msg.contains("INVALID_ZONE"), "{error}");
    runtime.del(&wrong, &attachment)?;
    runtime.del(&other, &web.attachment)?;
    Ok(())
}

/// A container's address as the reference plugin says it to firewalld.
fn source(attachment: &Attachment, v6: bool) -> String {
    let address = attachment.address(v6).unwrap_or_default();
    format!("{address}/{}", if v6 { 128 } else { 32 })
}

/// What the reference's firewall has put into a zone, our DEL and our GC take out; what an older Pontoon has
/// put there without prefix length, too; and nothing of another container.
#[test]
fn sources_of_the_reference_and_of_older_versions_go() -> Outcome {
    let site = Site::new(Backend::IptablesNft)?;
    let firewalld = Firewalld::start(&site)?;
    let runtime = firewalld.runtime(&site);
    let reference = Programs::reference("1.9.1")?;
    let theirs = Runtime::new(&site.host, &reference, site.runtime().path())
        .with_env("DBUS_SYSTEM_BUS_ADDRESS", &address(&firewalld.dir));
    let zone = ["--zone=internal", "--list-sources"];
    let sources = || -> Outcome<Vec<String>> {
        let text = firewalld.command(&site, &zone)?;
        Ok(text.split_whitespace().map(str::to_owned).collect())
    };
    let keys = json!({ "backend": "firewalld", "firewalldZone": "internal" });
    let bridged = network(&site, keys).in_version("1.0.0");
    let mut list = bridged.list().clone();
    let ipam = list["plugins"][0]["ipam"].clone();
    list["plugins"][0] = json!({
        "type": "ptp", "ipMasq": true, "ipMasqBackend": site.backend.key(), "ipam": ipam,
    });
    for lan in [Network::from_list(list), bridged] {
        let both = |attachment: &Attachment| [false, true].map(|v6| source(attachment, v6));
        let mut held = Vec::new();
        for _ in 0..3 {
            let container = Container::new("theirs")?;
            let mut attachment = Attachment::new(&container);
            theirs.add(&lan, &mut attachment)?;
            for source in both(&attachment) {
                assert!(sources()?.contains(&source), "the reference adds {source}");
            }
            // CHECK cannot judge their rules, and does not call them missing.
            runtime.check(&lan, &attachment)?;
            held.push((container, attachment));
        }
        runtime.del(&lan, &held[0].1)?;
        let left = sources()?;
        assert!(
            both(&held[0].1).iter().all(|source| !left.contains(source)),
            "DEL leaves {left:?}"
        );
        let others = [&held[1], &held[2]]
            .map(|(_, attachment)| both(attachment))
            .concat();
        assert!(
            others.iter().all(|source| left.contains(source)),
            "DEL takes {others:?}: {left:?}"
        );
        // As an older version spelled it.
        let address = held[1].1.address(false).unwrap_or_default();
        firewalld.command(
            &site,
            &["--zone=internal", &format!("--remove-source={address}/32")],
        )?;
        firewalld.command(
            &site,
            &["--zone=internal", &format!("--add-source={address}")],
        )?;
        runtime.gc(&lan.clone().in_version("1.1.0"), &[&held[2].1])?;
        let mut left = sources()?;
        left.sort();
        let mut last = both(&held[2].1);
        last.sort();
        assert_eq!(left, last, "GC");
        runtime.del(&lan, &held[2].1)?;
        assert_eq!(sources()?, Vec::<String>::new());
    }
    Ok(())
}

/// Who is on no bridge is a source of the zone, as the reference plugin makes it.
#[test]
fn without_a_bridge_by_address() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let firewalld = Firewalld::start(&site)?;
    let _beyond = site.host.serve_outside(80)?;
    let runtime = firewalld.runtime(&site);
    let lan = network(&site, json!({}));
    let mut list = lan.list().clone();
    let ipam = list["plugins"][0]["ipam"].clone();
    list["plugins"][0] = json!({
        "type": "ptp", "ipMasq": true, "ipMasqBackend": site.backend.key(), "ipam": ipam,
    });
    let lan = Network::from_list(list);
    let web = Guest::join(&runtime, &lan)?;
    web.passes(&site, true, "a source of the zone");
    let sources = ["--zone=trusted", "--list-sources"];
    let listed = firewalld.command(&site, &sources)?;
    for v6 in [false, true] {
        let source = source(&web.attachment, v6);
        assert!(
            listed.split_whitespace().any(|word| word == source),
            "{source} in {listed}"
        );
    }
    runtime.check(&lan, &web.attachment)?;
    runtime.del(&lan, &web.attachment)?;
    assert_eq!(firewalld.command(&site, &sources)?.trim(), "");
    Ok(())
}
