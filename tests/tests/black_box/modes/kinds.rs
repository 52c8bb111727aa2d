//! Docker's other modes: none, host and container, over the built binaries.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use pontoon_lab::{
    Attachment, Backend, CniError, Container, Echo, Failure, Finished, HOST_V4, Network, Outcome,
    Site, tcp,
};
use pontoon_netlink::{Netns, RouteSocket};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(3);

#[track_caller]
fn wrong(text: impl Into<String>) -> Outcome {
    Err(Failure::new(text))
}

fn site() -> Outcome<Site> {
    Site::new(Backend::Nftables)
}

/// A network of one mode; ports are handed to its plugin.
fn mode(kind: &str) -> Network {
    Network::from_list(json!({
        "cniVersion": "1.1.0", "name": format!("{kind}-net"),
        "plugins": [{ "type": kind, "capabilities": { "portMappings": true } }],
    }))
}

/// A network of type container that joins `target`.
fn joining(target: &str) -> Network {
    mode("container").with("container", "container", json!(target))
}

fn refused(error: Option<CniError>, code: u64, words: &str) -> Outcome {
    match error {
        Some(error) if error.code == code && error.text().contains(words) => Ok(()),
        other => wrong(format!("not the error {code} with \"{words}\": {other:?}")),
    }
}

/// The identity of the namespace that a path leads to.
fn leads_to(path: &Path) -> Outcome<String> {
    let netns = Netns::open(path).map_err(Failure::act("open a namespace"))?;
    Ok(netns.id().to_string())
}

/// One call of the first plugin, verbatim.
fn call(site: &Site, network: &Network, verb: &str, attachment: &Attachment) -> Outcome<Finished> {
    let plugin = &network.plugins()[0];
    let stdin = network.stdin(plugin, &attachment.capabilities, None);
    let runtime = site.runtime();
    let call = runtime.attachment_call(verb, &stdin, attachment);
    Ok(runtime.call(plugin["type"].as_str().unwrap_or_default(), &call)?)
}

/// A process in a namespace, for its `/proc/PID/ns/net`; ended on drop.
struct Process(Child);

impl Process {
    fn inside(netns: &Netns) -> Outcome<Self> {
        let act = "start a process in the namespace";
        let child = netns.run(|| Command::new("sleep").arg("600").spawn());
        Ok(Self(
            child
                .map_err(Failure::act(act))?
                .map_err(Failure::act(act))?,
        ))
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a server that is started in the namespace at `path` answers at `address` when asked from
/// outside the host.
fn answers(site: &Site, path: &Path, listen: u16, address: IpAddr, port: u16) -> Outcome<bool> {
    let netns = Netns::open(path).map_err(Failure::act("open a namespace"))?;
    let _server = Echo::start(&netns, "joined", listen)?;
    let target = SocketAddr::new(address, port);
    let reply = site.host.run_outside(|| tcp(target, PATIENCE))?;
    Ok(reply.is_ok_and(|reply| reply.server == "joined"))
}

#[test]
fn none_has_a_loopback_and_nothing_else() -> Outcome {
    let site = site()?;
    let before = site.snapshot()?;
    for version in [
        "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
    ] {
        let network = mode("none").in_version(version);
        let container = Container::new("none")?;
        let mut attachment = Attachment::new(&container);
        let lo = || -> Outcome<bool> {
            let link = container.run(|| RouteSocket::open()?.link_by_name("lo"))?;
            let link = link.map_err(Failure::act("look at lo"))?;
            Ok(link.is_some_and(|link| link.up))
        };
        let result = site.runtime().add(&network, &mut attachment)?;
        let shown = result.to_string();
        let listed = version < "0.3.0" || result["interfaces"][0]["name"] == "lo";
        if !listed || !shown.contains("127.0.0.1/8") || !lo()? {
            return wrong(format!("{version}: {shown}, lo up: {}", lo()?));
        }
        if version >= "0.4.0" {
            site.runtime().check(&network, &attachment)?;
            let other = Container::new("cable")?;
            container
                .run(|| {
                    RouteSocket::open()?.create_veth(&pontoon_lab::cable(
                        "eth0",
                        other.netns(),
                        [2, 0, 0, 0, 0, 9],
                    ))
                })?
                .map_err(Failure::act("lay a cable"))?;
            refused(
                site.runtime().check(&network, &attachment).err(),
                104,
                "eth0",
            )?;
        }
        site.runtime().del(&network, &attachment)?;
        site.runtime().del(&network, &attachment)?;
        if lo()? {
            return wrong("lo is up after DEL");
        }
        before.same_as(&site.snapshot()?, &format!("none in {version}"))?;
    }
    Ok(())
}

#[test]
fn none_refuses_ports_and_company() -> Outcome {
    let site = site()?;
    let container = Container::new("none")?;
    let mut published = Attachment::new(&container).publish("", 8080, 80, "tcp");
    let error = site.runtime().add(&mode("none"), &mut published).err();
    refused(error, 7, "ports cannot be published")?;
    let network = site.network("company", "company0", &["10.75.0.0/24"]);
    let mut attachment = Attachment::new(&container);
    site.runtime().add(&network, &mut attachment)?;
    let error = site
        .runtime()
        .add(&mode("none"), &mut Attachment::new(&container))
        .err();
    refused(error, 103, "eth0")?;
    site.runtime().check(&network, &attachment)?;
    Ok(())
}

#[test]
fn host_takes_a_named_namespace_to_the_host_and_back() -> Outcome {
    let site = site()?;
    let before = site.snapshot()?;
    let network = mode("host");
    let container = Container::new("onhost")?;
    let own = leads_to(container.path())?;
    let host = site.host.netns().id().to_string();
    let plain = container.path_text();
    // As podman and as older tools write it.
    for path in [plain.clone(), plain.replace("/run/", "/var/run/")] {
        let mut attachment = Attachment::by_path(&container.id, path.clone());
        let result = site.runtime().add(&network, &mut attachment)?;
        if result["interfaces"][0]["name"] != "eth0"
            || result["interfaces"][0]["sandbox"] != path
            || !result["ips"].to_string().contains(&format!("{HOST_V4}/24"))
        {
            return wrong(format!("not the host's interfaces: {result}"));
        }
        if leads_to(container.path())? != host {
            return wrong(format!("{path} does not lead to the host"));
        }
        if !answers(&site, container.path(), 8099, HOST_V4, 8099)? {
            return wrong("a server of the container is not on the host's network");
        }
        site.runtime().check(&network, &attachment)?;
        // Again is the same, and is undone once.
        site.runtime().add(&network, &mut attachment)?;
        site.runtime().del(&network, &attachment)?;
        if leads_to(container.path())? != own {
            return wrong(format!("DEL did not restore {path}"));
        }
        refused(
            site.runtime().check(&network, &attachment).err(),
            104,
            "does not lead to the host",
        )?;
        site.runtime().del(&network, &attachment)?;
        before.same_as(&site.snapshot()?, "host and DEL")?;
    }
    Ok(())
}

#[test]
fn host_changes_nothing_when_the_namespace_is_the_hosts() -> Outcome {
    let site = site()?;
    let before = site.snapshot()?;
    let process = Process::inside(site.host.netns())?;
    let mut attachment = Attachment::by_path("sleeper", process.path());
    let network = mode("host");
    let result = site.runtime().add(&network, &mut attachment)?;
    if !result["ips"].to_string().contains(&HOST_V4.to_string()) {
        return wrong(format!("not the host's addresses: {result}"));
    }
    site.runtime().check(&network, &attachment)?;
    site.runtime().del(&network, &attachment)?;
    before.same_as(&site.snapshot()?, "host on the host")
}

#[test]
fn a_process_cannot_be_taken_elsewhere() -> Outcome {
    let site = site()?;
    let container = Container::new("running")?;
    let process = Process::inside(container.netns())?;
    let (_other, attachment) = site.join("other", &site.network("p", "p0", &["10.75.0.0/24"]))?;
    let before = site.snapshot()?;
    for network in [mode("host"), joining(&attachment.container_id)] {
        let mut attachment = Attachment::by_path("running", process.path());
        let error = site.try_add(&network, &mut attachment)?;
        refused(error.clone(), 8, "running process")?;
        refused(error, 8, "start the process in")?;
    }
    before.same_as(&site.snapshot()?, "a refused ADD")
}

#[test]
fn host_ignores_ports_with_a_warning() -> Outcome {
    let site = site()?;
    let container = Container::new("ports")?;
    let attachment = Attachment::new(&container).publish("", 8080, 80, "tcp");
    let finished = call(&site, &mode("host"), "ADD", &attachment)?;
    finished.verdict("host ADD")?;
    if !finished.stderr.contains("published ports are ignored") {
        return wrong(format!("no warning: {:?}", finished.stderr));
    }
    Ok(site.runtime().del(&mode("host"), &attachment)?)
}

/// `ip netns exec` makes a mount namespace whose mounts stay inside; so does this.
#[test]
fn a_private_mount_namespace_is_told() -> Outcome {
    let site = site()?;
    let container = Container::new("private")?;
    let own = leads_to(container.path())?;
    let network = mode("host");
    let attachment = Attachment::new(&container);
    let inside = || -> Outcome<(Finished, String)> {
        unshare(CloneFlags::CLONE_NEWNS).map_err(Failure::act("make a mount namespace"))?;
        let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
        mount(None::<&str>, "/", None::<&str>, slave, None::<&str>)
            .map_err(Failure::act("make the mounts slaves"))?;
        let plugin = &network.plugins()[0];
        let stdin = network.stdin(plugin, &attachment.capabilities, None);
        let runtime = site.runtime().here();
        let call = runtime.attachment_call("ADD", &stdin, &attachment);
        Ok((runtime.call("host", &call)?, leads_to(container.path())?))
    };
    let (finished, seen) = site.host.run(inside)??;
    finished.verdict("host ADD")?;
    if seen != site.host.netns().id().to_string() {
        return wrong("not re-bound inside");
    }
    if !finished.stderr.contains("in this mount namespace only") {
        return wrong(format!("no warning: {:?}", finished.stderr));
    }
    if leads_to(container.path())? != own {
        return wrong("the re-bind is seen outside");
    }
    // From outside there is nothing to take away, and nothing is.
    site.runtime().del(&network, &attachment)?;
    if leads_to(container.path())? != own {
        return wrong("DEL took something else away");
    }
    // Where every process sees the mount, there is no warning.
    let finished = call(&site, &network, "ADD", &attachment)?;
    finished.verdict("host ADD")?;
    if !finished.stderr.is_empty() {
        return wrong(format!("a warning without reason: {}", finished.stderr));
    }
    Ok(site.runtime().del(&network, &attachment)?)
}

/// A container on a bridge with a published port, for others to join.
struct Shared {
    site: Site,
    network: Network,
    target: Container,
    attachment: Attachment,
}

impl Shared {
    fn new() -> Outcome<Self> {
        let site = site()?;
        let network = site
            .network("shared", "shared0", &["10.76.0.0/24", "fd00:76::/64"])
            .with(
                "bridge",
                "dns",
                json!({ "nameservers": ["192.0.2.53"], "search": ["example"] }),
            );
        let target = Container::new("target")?;
        let mut attachment = Attachment::new(&target).publish("", 8080, 80, "tcp");
        attachment.args = "K8S_POD_NAME=Shop".to_owned();
        site.runtime().add(&network, &mut attachment)?;
        Ok(Self {
            site,
            network,
            target,
            attachment,
        })
    }
}

#[test]
fn container_shares_everything_of_the_other() -> Outcome {
    let shared = Shared::new()?;
    let site = &shared.site;
    let before = site.snapshot()?;
    let short = &shared.target.id[..shared.target.id.len() - 1];
    let by_args = mode("container")
        .with("container", "container", json!("another container"))
        .with(
            "container",
            "args",
            json!({ "cni": { "container": shared.target.id } }),
        );
    let ways = [
        (joining(&shared.target.id), true),
        (joining(short), true),
        (joining("shop"), true),
        (by_args, true),
        (joining(&shared.target.path_text()), false),
    ];
    for (network, by_id) in ways {
        let container = Container::new("joiner")?;
        let own = leads_to(container.path())?;
        let mut attachment = Attachment::new(&container);
        let result = site.runtime().add(&network, &mut attachment)?;
        let wanted = shared.attachment.address(false).unwrap_or_default();
        let six = shared.attachment.address(true).unwrap_or_default();
        if attachment.address(false) != Some(wanted)
            || attachment.address(true) != Some(six)
            || result["interfaces"][0]["name"] != "eth0"
            || result["ips"][0]["gateway"] != "10.76.0.1"
            || by_id != (result["dns"]["nameservers"][0] == "192.0.2.53")
        {
            return wrong(format!("not the other's result: {result}"));
        }
        if leads_to(container.path())? != shared.target.netns().id().to_string() {
            return wrong("the path does not lead to the other");
        }
        if !answers(site, container.path(), 80, HOST_V4, 8080)? {
            return wrong("a server of the joiner does not answer at the other's published port");
        }
        site.runtime().check(&network, &attachment)?;
        site.runtime().add(&network, &mut attachment)?;
        site.runtime().del(&network, &attachment)?;
        site.runtime().del(&network, &attachment)?;
        if leads_to(container.path())? != own {
            return wrong("DEL did not restore the path");
        }
        before.same_as(&site.snapshot()?, "container and DEL")?;
        site.runtime().check(&shared.network, &shared.attachment)?;
    }
    if answers(site, shared.target.path(), 80, HOST_V4, 8080)? {
        Ok(())
    } else {
        wrong("the other lost its network")
    }
}

#[test]
fn container_refuses_by_name() -> Outcome {
    let shared = Shared::new()?;
    let site = &shared.site;
    let container = Container::new("joiner")?;
    let before = site.snapshot()?;
    let check = |network: &Network, attachment: &Attachment, code, words: &str| -> Outcome {
        let error = site.runtime().add(network, &mut attachment.clone()).err();
        refused(error, code, words)?;
        before.same_as(&site.snapshot()?, words)
    };
    let joiner = Attachment::new(&container);
    let target = &shared.target.id;
    check(&joining("absent"), &joiner, 3, "absent is not attached")?;
    check(
        &joining("/run/netns/absent"),
        &joiner,
        3,
        "/run/netns/absent",
    )?;
    check(&joining(&container.id), &joiner, 7, "itself")?;
    check(&joining(&container.path_text()), &joiner, 7, "itself")?;
    check(&mode("container"), &joiner, 7, "\"container\" is missing")?;
    let published = joiner.clone().publish("", 8081, 80, "tcp");
    check(&joining(target), &published, 7, "ports cannot be published")?;
    // The host's own namespace, from either side, and for none too.
    let process = Process::inside(site.host.netns())?;
    let on_host = Attachment::by_path("sleeper", process.path());
    check(&joining(target), &on_host, 8, "the plugin itself runs in")?;
    check(&mode("none"), &on_host, 8, "the plugin itself runs in")?;
    check(&joining(&process.path()), &joiner, 8, "type host")?;

    // A circle.
    let mut first = joiner.clone();
    site.runtime().add(&joining(target), &mut first)?;
    let back = site.runtime().add(
        &joining(&container.id),
        &mut Attachment {
            ifname: "eth1".to_owned(),
            ..Attachment::new(&shared.target)
        },
    );
    refused(back.err(), 7, "in a circle")?;
    // Through another one that shares is fine.
    let third = Container::new("third")?;
    let mut through = Attachment::new(&third);
    site.runtime().add(&joining(&container.id), &mut through)?;
    site.runtime().del(&joining(&container.id), &through)?;
    // A path that is shared already is not taken further.
    let error = site.runtime().add(&mode("host"), &mut joiner.clone()).err();
    refused(error, 103, "already")?;
    site.runtime().del(&joining(target), &first)?;
    // A container on the host's network has no network of its own to share.
    site.runtime().add(&mode("host"), &mut first)?;
    let error = site.runtime().add(&joining(&container.id), &mut through);
    refused(error.err(), 8, "on the host's network")?;
    site.runtime().del(&mode("host"), &first)?;
    before.same_as(&site.snapshot()?, "all of it")
}

#[test]
fn check_says_when_the_other_went_first() -> Outcome {
    let shared = Shared::new()?;
    let site = &shared.site;
    let container = Container::new("joiner")?;
    let mut attachment = Attachment::new(&container);
    let network = joining(&shared.target.id);
    site.runtime().add(&network, &mut attachment)?;
    // Its interface first.
    let mut other = attachment.clone();
    if let Some(result) = &mut other.result {
        result["ips"][0]["address"] = Value::from("10.76.0.99/24");
    }
    let error = site.runtime().check(&network, &other).err();
    refused(error, 104, "10.76.0.99")?;
    site.runtime().del(&shared.network, &shared.attachment)?;
    let error = site.runtime().check(&network, &attachment).err();
    refused(error, 104, "gone first")?;
    let error = site.runtime().add(&network, &mut attachment.clone()).err();
    refused(error, 3, "is not attached")?;
    site.runtime().del(&network, &attachment)?;

    // And one whose namespace is gone without DEL.
    let (gone, lost) = site.join("lost", &shared.network)?;
    let network = joining(&lost.container_id);
    gone.kill()?;
    let error = site.runtime().add(&network, &mut attachment).err();
    refused(error, 3, "is gone")
}

#[test]
fn faults_leave_the_path_as_it_was() -> Outcome {
    let shared = Shared::new()?;
    let site = &shared.site;
    for network in [mode("host"), joining(&shared.target.id)] {
        for point in ["rebind.recorded", "rebind.mounted"] {
            for kill in [false, true] {
                let container = Container::new("victim")?;
                let own = leads_to(container.path())?;
                let before = site.snapshot()?;
                let mut attachment = Attachment::new(&container);
                let fault = format!("{}{point}", if kill { "kill:" } else { "" });
                let runtime = site.runtime().with_env("PONTOON_FAULT", &fault);
                if runtime.add(&network, &mut attachment).is_ok() {
                    return wrong(format!("{fault} did not fail"));
                }
                if kill {
                    site.runtime().del(&network, &attachment)?;
                }
                if leads_to(container.path())? != own {
                    return wrong(format!("{fault}: the path leads elsewhere"));
                }
                before.same_as(&site.snapshot()?, &fault)?;
                site.runtime().add(&network, &mut attachment)?;
                site.runtime().del(&network, &attachment)?;
            }
        }
    }
    Ok(())
}

#[test]
fn del_touches_nothing_but_our_mount() -> Outcome {
    let site = site()?;
    let network = mode("host");
    let container = Container::new("careful")?;
    let mut attachment = Attachment::new(&container);
    site.runtime().add(&network, &mut attachment)?;
    // Another program mounts a third namespace over ours.
    let third = Netns::create_unnamed().map_err(Failure::act("make a namespace"))?;
    third
        .mount_over(container.path())
        .map_err(Failure::act("mount a third namespace"))?;
    site.runtime().del(&network, &attachment)?;
    if leads_to(container.path())? != third.id().to_string() {
        return wrong("DEL removed another program's mount");
    }
    for _ in 0..2 {
        let mount = pontoon_netlink::NetnsMount::at(container.path());
        if let Ok(Some(mount)) = mount {
            mount.detach().map_err(Failure::act("unmount"))?;
        }
    }
    // The namespace went away without a word.
    site.runtime().add(&network, &mut attachment)?;
    for _ in 0..2 {
        let mount = pontoon_netlink::NetnsMount::at(container.path());
        if let Ok(Some(mount)) = mount {
            mount.detach().map_err(Failure::act("unmount"))?;
        }
    }
    let path = container.kill()?;
    site.runtime().del(&network, &attachment)?;
    site.runtime().del(&network, &attachment)?;
    if path.exists() || site.host.state_dir().join("host").exists() {
        return wrong("something is left");
    }
    Ok(())
}

#[test]
fn gc_restores_the_paths_of_attachments_that_are_not_valid() -> Outcome {
    let shared = Shared::new()?;
    let site = &shared.site;
    let before = site.snapshot()?;
    for network in [mode("host"), mode("none"), joining(&shared.target.id)] {
        let container = Container::new("lost")?;
        let keep = Container::new("keep")?;
        let own = leads_to(container.path())?;
        let mut attachment = Attachment::new(&container);
        let mut kept = Attachment::new(&keep);
        site.runtime().add(&network, &mut attachment)?;
        site.runtime().add(&network, &mut kept)?;
        site.runtime().gc(&network, &[&kept])?;
        if leads_to(container.path())? != own {
            return wrong("GC did not restore the path");
        }
        site.runtime().check(&network, &kept)?;
        site.runtime().del(&network, &kept)?;
        before.same_as(&site.snapshot()?, "GC")?;
    }
    let state = fs::read_dir(site.host.state_dir()).map_err(Failure::act("list the state"))?;
    let names: Vec<_> = state.flatten().map(|entry| entry.file_name()).collect();
    if names.iter().any(|name| name == "host" || name == "none") {
        return wrong(format!("left: {names:?}"));
    }
    Ok(())
}
