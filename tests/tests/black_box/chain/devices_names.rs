//! `host-device`: devices whose names clash, that programs drive, or that are parts of others; and
//! `tuning` after one that has no interface in the container.

use std::fs;
use std::os::unix::fs::symlink;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use pontoon_lab::{Attachment, Backend, Container, Failure, Network, Outcome, Site, cable};
use pontoon_netlink::{LinkChange, RouteSocket};
use serde_json::{Value, json};

#[track_caller]
fn wrong(text: impl Into<String>) -> Outcome {
    Err(Failure::new(text))
}

fn network(keys: &Value, more: &[Value]) -> Network {
    let mut plugin = json!({
        "type": "host-device",
        "ipam": { "type": "static", "addresses": [{ "address": "198.18.8.1/24" }] },
    });
    for (key, value) in keys.as_object().into_iter().flatten() {
        plugin[key] = value.clone();
    }
    let mut plugins = vec![plugin];
    plugins.extend_from_slice(more);
    Network::from_list(json!({ "cniVersion": "1.1.0", "name": "device", "plugins": plugins }))
}

/// A cable to the outside under this name on the host.
fn spare(site: &Site, name: &str) -> Outcome {
    let lay =
        || RouteSocket::open()?.create_veth(&cable(name, site.host.outside(), [2, 0, 0, 0, 8, 2]));
    let laid = site.host.run(lay)?;
    laid.map(drop).map_err(Failure::act("lay a cable"))
}

fn up(site: &Site, name: &str) -> Outcome {
    site.host
        .command(std::process::Command::new("ip").args(["link", "set", name, "up"]))?;
    Ok(())
}

/// The usual case of a second interface: host `eth1` becomes `net1` of a container that has an
/// `eth1` of its own.
#[test]
fn the_hosts_name_may_be_taken_in_the_container() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    spare(&site, "eth1")?;
    up(&site, "eth1")?;
    let home = site
        .network("home", "home0", &["10.88.0.0/24"])
        .first_only();
    let device = network(&json!({ "device": "eth1" }), &[]);
    let before = site.snapshot()?;
    let container = Container::new("pod")?;
    let mut first = Attachment {
        ifname: "eth1".to_owned(),
        ..Attachment::new(&container)
    };
    site.runtime().add(&home, &mut first)?;
    let inside = container.details()?;
    let mut second = Attachment {
        ifname: "net1".to_owned(),
        ..Attachment::new(&container)
    };
    let result = site.runtime().add(&device, &mut second)?;
    if result["interfaces"][0]["name"] != "net1" {
        return wrong(result.to_string());
    }
    site.runtime().check(&device, &second)?;
    site.runtime().check(&home, &first)?;
    for _ in 0..2 {
        site.runtime().del(&device, &second)?;
    }
    if container.details()? != inside {
        return wrong(format!("{:#?}\nis not\n{inside:#?}", container.details()?));
    }
    site.runtime().del(&home, &first)?;
    site.nothing_left(&before, &[&home], "DEL")
}

/// A failed step after the move gives the device back under its name.
#[test]
fn a_failure_after_a_clash_gives_it_back() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    spare(&site, "eth1")?;
    let home = site
        .network("home", "home0", &["10.88.0.0/24"])
        .first_only();
    let device = network(&json!({ "device": "eth1" }), &[]);
    let container = Container::new("pod")?;
    let mut first = Attachment {
        ifname: "eth1".to_owned(),
        ..Attachment::new(&container)
    };
    site.runtime().add(&home, &mut first)?;
    let before = site.snapshot()?;
    for point in [
        "host-device.recorded",
        "host-device.moved",
        "host-device.configured",
    ] {
        let mut second = Attachment {
            ifname: "net1".to_owned(),
            ..Attachment::new(&container)
        };
        let runtime = site.runtime().with_env("PONTOON_FAULT", point);
        if runtime.add(&device, &mut second).is_ok() {
            return wrong(format!("{point} did not fail"));
        }
        before.same_as(&site.snapshot()?, point)?;
    }
    Ok(())
}

/// The host has got another interface of the name: DEL says so, and the container's device stays as
/// it is until the name is free.
#[test]
fn a_del_that_meets_a_clash_changes_nothing() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    spare(&site, "spare0")?;
    up(&site, "spare0")?;
    let device = network(&json!({ "device": "spare0" }), &[]);
    let (container, attachment) = site.join("pod", &device)?;
    let inside = container.details()?;
    let other = ["link", "add", "spare0", "type", "bridge"];
    site.host
        .command(std::process::Command::new("ip").args(other))?;
    for _ in 0..2 {
        match site.runtime().del(&device, &attachment) {
            Err(error) if error.text().contains("another interface spare0") => {}
            other => return wrong(format!("{other:?}")),
        }
        if container.details()? != inside {
            return wrong(format!("{:#?}\nis not\n{inside:#?}", container.details()?));
        }
    }
    site.runtime().check(&device, &attachment)?;
    let rename = || {
        let mut socket = RouteSocket::open()?;
        let link = socket.link_by_name("spare0")?.map(|link| link.index);
        let change = LinkChange {
            name: Some("other0".to_owned()),
            ..LinkChange::default()
        };
        socket.set_link(link.unwrap_or_default(), &change)
    };
    site.host.run(rename)?.map_err(Failure::act("rename"))?;
    for _ in 0..2 {
        site.runtime().del(&device, &attachment)?;
    }
    let links = site.snapshot()?;
    let back = links
        .lines("links")
        .iter()
        .any(|line| line.starts_with("spare0 "));
    if back {
        Ok(())
    } else {
        wrong(format!("{links:?}"))
    }
}

/// Runs `f` on the host with a sysfs of the test's own: a device that a program drives, and a part of
/// a device whose interface is `part0`.
fn with_buses<T: Send>(site: &Site, f: impl FnOnce() -> Outcome<T> + Send) -> Outcome<T> {
    site.host.run(|| {
        let prepare = || -> std::io::Result<()> {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
            mount(
                Some("tmpfs"),
                "/sys/bus",
                Some("tmpfs"),
                MsFlags::empty(),
                none,
            )?;
            let driven = "/sys/bus/pci/devices/0000:af:06.0";
            fs::create_dir_all(driven)?;
            symlink(
                "../../../../bus/pci/drivers/vfio-pci",
                format!("{driven}/driver"),
            )?;
            fs::create_dir_all("/sys/bus/auxiliary/devices/mlx5_core.sf.4/net/part0")
        };
        prepare().map_err(Failure::act("make buses"))?;
        f()
    })?
}

#[test]
fn a_device_that_a_program_drives_is_in_the_result() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let before = site.snapshot()?;
    let tuning = json!({
        "type": "tuning", "dataDir": site.leases.path().join("tuning"),
        "sysctl": { "net.core.somaxconn": "500" },
    });
    for keys in [
        json!({ "pciBusID": "0000:af:06.0" }),
        json!({ "pciBusID": "0000:af:06.0", "ipam": {} }),
    ] {
        let device = network(&keys, std::slice::from_ref(&tuning));
        let container = Container::new("dpdk")?;
        let mut attachment = Attachment::new(&container);
        let runtime = site.runtime().here();
        with_buses(&site, || {
            let result = runtime.add(&device, &mut attachment)?;
            let expected = json!([{ "name": "eth0", "sandbox": container.path_text() }]);
            let ips = keys["ipam"].is_null();
            if result["interfaces"] != expected || (ips && result["ips"][0]["interface"] != 0) {
                return wrong(result.to_string());
            }
            // Parameters of the kernel need no interface.
            if container.sysctl("net/core/somaxconn")? != "500" {
                return wrong("the parameter is not set");
            }
            runtime.check(&device, &attachment)?;
            container
                .run(|| pontoon_netlink::sysctl::write("net/core/somaxconn", "77"))?
                .map_err(Failure::act("change a parameter"))?;
            match runtime.check(&device, &attachment) {
                Err(error) if error.code == 104 && error.msg.contains("somaxconn") => {}
                other => return wrong(format!("CHECK: {other:?}")),
            }
            container
                .run(|| pontoon_netlink::sysctl::write("net/core/somaxconn", "500"))?
                .map_err(Failure::act("change a parameter"))?;
            for _ in 0..2 {
                runtime.del(&device, &attachment)?;
            }
            Ok(())
        })?;
        if container.sysctl("net/core/somaxconn")? == "500" {
            return wrong("the parameter is not put back");
        }
    }
    // What is of the interface needs it.
    let mac = json!({ "type": "tuning", "mac": "02:42:0a:00:00:99" });
    let device = network(&json!({ "pciBusID": "0000:af:06.0" }), &[mac]);
    let container = Container::new("dpdk")?;
    let mut attachment = Attachment::new(&container);
    let runtime = site.runtime().here();
    with_buses(&site, || {
        match runtime.add(&device, &mut attachment) {
            Err(error) if error.code == 3 => {}
            other => return wrong(format!("{other:?}")),
        }
        Ok(runtime.del(&device, &attachment)?)
    })?;
    before.same_as(&site.snapshot()?, "DEL")
}

/// `runtimeConfig.deviceID` of a subfunction.
#[test]
fn a_part_of_a_device_is_found() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    spare(&site, "part0")?;
    let before = site.snapshot()?;
    let device = network(&json!({ "capabilities": { "deviceID": true } }), &[]);
    for (id, found) in [("mlx5_core.sf.4", true), ("mlx5_core.sf.5", false)] {
        let container = Container::new("part")?;
        let mut attachment = Attachment::new(&container);
        attachment
            .capabilities
            .insert("deviceID".to_owned(), json!(id));
        let runtime = site.runtime().here();
        with_buses(&site, || {
            match runtime.add(&device, &mut attachment) {
                Ok(_) if found => runtime.check(&device, &attachment)?,
                Err(error) if !found && error.code == 7 && error.text().contains(id) => {}
                other => return wrong(format!("{id}: {other:?}")),
            }
            Ok(runtime.del(&device, &attachment)?)
        })?;
        before.same_as(&site.snapshot()?, id)?;
    }
    Ok(())
}
