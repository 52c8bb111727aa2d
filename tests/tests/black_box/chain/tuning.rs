//! `tuning` behind `bridge`: values in the container before ADD, after it, and after DEL.

use std::fs;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use pontoon_lab::{
    Attachment, Backend, Chained, Container, Failure, Network, Outcome, Site, chained_faults,
};
use pontoon_netlink::{LinkChange, RouteSocket};
use serde_json::{Value, json};

const MARTIANS: &str = "net/ipv4/conf/eth0/log_martians";
const BACKLOG: &str = "net/core/somaxconn";
const PORTS: &str = "net/ipv4/ip_local_port_range";

fn tuned(site: &Site, keys: Value) -> Network {
    let base = site.network("tuned", "tuned0", &["10.81.0.0/24", "fd00:81::/64"]);
    let mut list = base.list().clone();
    let mut tuning = json!({
        "type": "tuning", "dataDir": site.leases.path().join("tuning"),
        "capabilities": { "mac": true },
    });
    for (key, value) in keys.as_object().into_iter().flatten() {
        tuning[key] = value.clone();
    }
    list["plugins"][1] = tuning;
    Network::from_list(list)
}

fn everything() -> Value {
    json!({
        "sysctl": {
            "net.core.somaxconn": "500",
            "net/ipv4/conf/IFNAME/log_martians": "1",
            // The kernel prints a tab between the two.
            "net.ipv4.ip_local_port_range": "20000 30000",
        },
        "mac": "02:42:0a:00:00:99", "promisc": true, "allmulti": true, "mtu": 1400, "txQLen": 321,
    })
}

fn scene(keys: Value) -> Outcome<Chained> {
    let site = Site::new(Backend::Nftables)?;
    let network = tuned(&site, keys);
    Chained::new(site, network, 1)
}

fn sysctls(container: &Container) -> Outcome<Vec<String>> {
    [MARTIANS, BACKLOG, PORTS]
        .iter()
        .map(|path| container.sysctl(path))
        .collect()
}

#[track_caller]
fn wrong(text: impl Into<String>) -> Outcome {
    Err(Failure::new(text))
}

/// Everything is set, told in the result, found by CHECK, and put back: sysctls too, which the
/// reference plugin leaves as they are.
#[test]
fn all_is_set_and_all_is_put_back() -> Outcome {
    let mut scene = scene(everything())?;
    let (before, old) = (scene.state()?, sysctls(&scene.container)?);
    let result = scene.add()?;
    let set = sysctls(&scene.container)?;
    if set != ["1", "500", "20000\t30000"] {
        return wrong(format!("sysctls: {set:?}"));
    }
    let details = scene.container.details()?.join("\n");
    let link = "eth0 Some(\"veth\") mac Some([2, 42, a, 0, 0, 99]) mtu 1400 up true promisc true \
                allmulti true queue 321";
    if !details.contains(link) {
        return wrong(details);
    }
    // Routes and IPv6 addresses survive, since the link never goes down.
    for line in [
        "0.0.0.0/0 via Some(10.81.0.1)",
        "::/0 via Some(fd00:81::1)",
        "eth0 fd00:81::2/64",
    ] {
        if !details.contains(line) {
            return wrong(format!("{line} is gone: {details}"));
        }
    }
    let interface = &result["interfaces"][2];
    if interface["mac"] != "02:42:0a:00:00:99" || interface["mtu"] != 1400 {
        return wrong(result.to_string());
    }
    scene.verb("CHECK")?;
    for _ in 0..2 {
        scene.verb("DEL")?;
        before.same_as(&scene.state()?, "DEL")?;
        if sysctls(&scene.container)? != old {
            return wrong("sysctls are not as before");
        }
    }
    Ok(())
}

#[test]
fn check_names_each_value_that_was_changed() -> Outcome {
    let mut scene = scene(everything())?;
    scene.add()?;
    let set = |path: &'static str, value: &'static str| -> Outcome {
        scene
            .container
            .run(|| fs::write(Path::new("/proc/sys").join(path), value))?
            .map_err(Failure::act(path))
    };
    set(BACKLOG, "128")?;
    scene.check_fails(
        "Tuning configured value of /proc/sys/net/core/somaxconn is 500, current value is 128",
    )?;
    set(BACKLOG, "500")?;
    let changes = [
        (
            LinkChange {
                mtu: Some(1300),
                ..LinkChange::default()
            },
            "MTU of eth0 is 1400, current value is 1300",
        ),
        (
            LinkChange {
                promisc: Some(false),
                ..LinkChange::default()
            },
            "configured promisc is true, current value is 0",
        ),
        (
            LinkChange {
                allmulti: Some(false),
                ..LinkChange::default()
            },
            "all-multicast mode of eth0 is true",
        ),
        (
            LinkChange {
                tx_queue_length: Some(9),
                ..LinkChange::default()
            },
            "Transmit Queue Length of eth0 is 321, current value is 9",
        ),
        (
            LinkChange {
                mac: Some([2, 0, 0, 0, 0, 7]),
                ..LinkChange::default()
            },
            "Ethernet of eth0 is 02:42:0a:00:00:99",
        ),
    ];
    // Each hides those that are looked at later, so the last one looked at comes first.
    for at in [3, 2, 0, 1, 4] {
        let (change, words) = &changes[at];
        let act = || -> Result<(), pontoon_netlink::Error> {
            let mut socket = RouteSocket::open()?;
            match socket.link_by_name("eth0")? {
                Some(link) => socket.set_link(link.index, change),
                None => Ok(()),
            }
        };
        scene
            .container
            .run(act)?
            .map_err(Failure::act("change eth0"))?;
        scene.check_fails(words)?;
    }
    Ok(())
}

/// DEL leaves a value alone that was changed after ADD.
#[test]
fn a_value_that_was_changed_after_add_stays() -> Outcome {
    let mut scene = scene(json!({ "sysctl": { "net.core.somaxconn": "500" } }))?;
    scene.add()?;
    scene
        .container
        .run(|| fs::write("/proc/sys/net/core/somaxconn", "700"))?
        .map_err(Failure::act("set somaxconn"))?;
    scene.verb("DEL")?;
    match scene.container.sysctl(BACKLOG)?.as_str() {
        "700" => Ok(()),
        other => wrong(format!("somaxconn is {other}")),
    }
}

/// `args.cni.sysctl` without the key `sysctl`: the reference plugin panics.
#[test]
fn arguments_alone() -> Outcome {
    let args =
        json!({ "args": { "cni": { "sysctl": { "net.core.somaxconn": "500" }, "mtu": 1300 } } });
    let mut scene = scene(args)?;
    scene
        .attachment
        .capabilities
        .insert("mac".to_owned(), json!("02:42:0A:00:00:77"));
    let result = scene.add()?;
    if scene.container.sysctl(BACKLOG)? != "500"
        || result["interfaces"][2]["mac"] != "02:42:0a:00:00:77"
        || result["interfaces"][2]["mtu"] != 1300
    {
        return wrong(result.to_string());
    }
    scene.verb("CHECK")?;
    Ok(())
}

/// Nothing to do: the result passes through, and no file is made.
#[test]
fn no_keys() -> Outcome {
    let mut scene = scene(json!({}))?;
    let before = scene.attachment.result.clone();
    let result = scene.add()?;
    if Some(result) != before {
        return wrong("the result has changed");
    }
    scene.verb("CHECK")?;
    scene.verb("DEL")?;
    Ok(())
}

#[test]
fn refused_before_anything_is_changed() -> Outcome {
    let refused = |keys: Value, code: u64, words: &str| -> Outcome {
        let scene = scene(keys)?;
        let before = scene.state()?;
        match scene.verb("ADD") {
            Err(error) if error.code == code && error.text().contains(words) => {}
            other => return wrong(format!("wanted {code} {words:?}: {other:?}")),
        }
        before.same_as(&scene.state()?, words)
    };
    refused(
        json!({ "mtu": 1400, "sysctl": { "kernel.panic": "1" } }),
        7,
        "invalid net sysctl key: \"kernel.panic\"",
    )?;
    refused(
        json!({ "mtu": 1400, "sysctl": { "net.core.nothing": "1" } }),
        7,
        "no parameter net.core.nothing",
    )?;
    refused(json!({ "mtu": 1400, "mac": "02:42" }), 7, "for MAC addr")?;
    // The kernel's word on a value comes when others are set already: they are put back.
    refused(
        json!({ "sysctl": { "net.core.somaxconn": "500", "net.ipv4.conf.IFNAME.log_martians": "x" } }),
        100,
        "log_martians",
    )?;
    refused(
        json!({ "sysctl": { "net.core.somaxconn": "500" }, "txQLen": 5, "mac": "03:00:00:00:00:01" }),
        100,
        "MAC address",
    )
}

#[test]
fn faults() -> Outcome {
    let make = || {
        let site = Site::new(Backend::Nftables)?;
        let network = tuned(&site, everything());
        Ok((site, network))
    };
    chained_faults(make, 1, 5)
}

/// A second ADD after a kill, without the DEL in between, remembers the values before the first.
#[test]
fn a_killed_add_and_no_del() -> Outcome {
    let mut scene = scene(everything())?;
    let (before, old) = (scene.state()?, sysctls(&scene.container)?);
    scene.add()?;
    scene.add()?;
    scene.verb("DEL")?;
    before.same_as(&scene.state()?, "two ADDs and a DEL")?;
    if sysctls(&scene.container)? == old {
        Ok(())
    } else {
        wrong("sysctls are not as before")
    }
}

/// What the reference plugin has changed is put back by its own file.
#[test]
fn made_by_the_reference_plugin() -> Outcome {
    let scene = scene(json!({ "mtu": 1400 }))?;
    let before = scene.state()?;
    let act = || -> Result<(), pontoon_netlink::Error> {
        let mut socket = RouteSocket::open()?;
        match socket.link_by_name("eth0")? {
            Some(link) => socket.set_link(
                link.index,
                &LinkChange {
                    mtu: Some(1400),
                    promisc: Some(true),
                    ..LinkChange::default()
                },
            ),
            None => Ok(()),
        }
    };
    scene
        .container
        .run(act)?
        .map_err(Failure::act("change eth0"))?;
    let dir = scene.site.leases.path().join("tuning");
    fs::create_dir_all(&dir).map_err(Failure::act("make the data directory"))?;
    let file = dir.join(format!("{}_eth0.json", scene.attachment.container_id));
    fs::write(&file, "{\n \"promisc\": false,\n \"mtu\": 1500\n}")
        .map_err(Failure::act("write the backup"))?;
    scene.verb("DEL")?;
    if file.exists() {
        return wrong("the backup is still there");
    }
    before.same_as(&scene.state()?, "DEL of the reference plugin's attachment")
}

/// GC restores the values of attachments that are not valid, and touches no valid attachment.
#[test]
fn gc() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = tuned(&site, everything());
    let (_keep, kept) = site.join("keep", &network)?;
    let before = site.snapshot()?;
    let (lost, _) = site.join("lost", &network)?;
    let (dead, _) = site.join("dead", &network)?;
    dead.kill()?;
    site.runtime().gc(&network, &[&kept])?;
    before.same_as(&site.snapshot()?, "GC")?;
    if lost.sysctl(BACKLOG)? == "500" {
        return wrong("GC did not put back what a lost container had");
    }
    site.runtime().check(&network, &kept)?;
    let files = fs::read_dir(site.leases.path().join("tuning"))
        .map_err(Failure::act("list the backups"))?;
    match files.count() {
        1 => Ok(()),
        other => wrong(format!("{other} backups")),
    }
}

#[test]
fn every_version() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let before = site.snapshot()?;
    let base = tuned(&site, everything());
    for version in [
        "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
    ] {
        let network = base.clone().in_version(version);
        let (container, mut attachment) = site.join("versions", &network)?;
        if container.sysctl(BACKLOG)? != "500" {
            return wrong(format!("{version}: nothing was set"));
        }
        if version >= "0.4.0" {
            site.runtime().check(&network, &attachment)?;
        }
        attachment.netns.clear();
        attachment.result = None;
        site.runtime().del(&network, &attachment)?;
        site.nothing_left(&before, &[&network], version)?;
    }
    Ok(())
}

/// The host's list, in a mount namespace of its own.
#[test]
fn the_allow_list_of_the_host() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = tuned(&site, json!({ "sysctl": { "net.core.somaxconn": "500" } }));
    let container = Container::new("listed")?;
    let answer = |list: &'static str| -> Outcome<(Option<String>, Option<u64>)> {
        let runtime = site.runtime().here();
        let mut attachment = Attachment::new(&container);
        site.host.run(|| {
            let alone = || -> nix::Result<()> {
                unshare(CloneFlags::CLONE_NEWNS)?;
                let none = None::<&str>;
                mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
                mount(Some("tmpfs"), "/etc", Some("tmpfs"), MsFlags::empty(), none)
            };
            alone().map_err(Failure::act("hide /etc"))?;
            fs::create_dir_all("/etc/cni/tuning").map_err(Failure::act("make /etc/cni/tuning"))?;
            fs::write("/etc/cni/tuning/allowlist.conf", list)
                .map_err(Failure::act("write the list"))?;
            let error = runtime
                .add(&network, &mut attachment)
                .err()
                .map(|error| error.text());
            let status = runtime.status(&network).err().map(|error| error.code);
            runtime.del(&network, &attachment)?;
            Ok((error, status))
        })?
    };
    let allowed = answer("^net.core.[a-z]*$\n")?;
    if allowed != (None, None) {
        return wrong(format!("{allowed:?}"));
    }
    match answer("\n^net.ipv4.conf\n")? {
        (Some(text), Some(50))
            if text.contains("Sysctl net.core.somaxconn is not allowed. Only the following sysctls are allowed: [^net.ipv4.conf]") =>
        {
            Ok(())
        }
        other => wrong(format!("{other:?}")),
    }
}
