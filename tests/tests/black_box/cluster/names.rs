//! Names over hosts: a container is known by its name on every host whose containers share a network with it, as long as
//! its host lives.

use std::ffi::OsString;
use std::net::IpAddr;
use std::time::Duration;

use pontoon_lab::{
    Attachment, BOTH, Backend, Container, Failure, Network, Outcome, Programs, Runtime, Scratch,
};
use serde_json::json;

use super::scene::{NETWORK, PATIENCE, Scene, same, wait_for};

/// A container with a name on a network of a host.
struct Named<'s> {
    scene: &'s Scene,
    number: u8,
    network: Network,
    container: Container,
    attachment: Attachment,
    path: (Scratch, OsString),
}

impl<'s> Named<'s> {
    fn add(
        scene: &'s Scene,
        number: u8,
        network: &str,
        subnet: Option<&str>,
        name: &str,
    ) -> Outcome<Self> {
        let data = scene.at(number, "leases");
        let bridge = format!("{network}0");
        // A network of the agent's needs no subnet: the block comes from the agent's file.
        let first = match subnet {
            None => json!({
                "type": "overlay", "bridge": bridge, "ipam": { "type": "host-local", "dataDir": data },
            }),
            Some(subnet) => json!({
                "type": "bridge", "bridge": bridge, "isGateway": true,
                "ipam": { "type": "host-local", "dataDir": data, "ranges": [[{ "subnet": subnet }]] },
            }),
        };
        let list = json!({
            "cniVersion": "1.1.0", "name": network,
            "plugins": [
                first,
                {
                    "type": "dns", "backend": "nftables", "resolvConf": scene.at(number, "resolv.conf"),
                    "capabilities": { "aliases": true },
                },
            ],
        });
        let container = Container::new(name)?;
        let mut attachment = Attachment::new(&container).named(name);
        let aliases = json!([format!("{name}-alias")]);
        attachment
            .capabilities
            .insert("aliases".to_owned(), aliases);
        let mut named = Self {
            scene,
            number,
            network: Network::from_list(list),
            container,
            attachment,
            path: Backend::Nftables.path()?,
        };
        let (network, mut attachment) = (named.network.clone(), named.attachment.clone());
        named.runtime()?.add(&network, &mut attachment)?;
        named.attachment = attachment;
        Ok(named)
    }

    fn runtime(&self) -> Outcome<Runtime<'s>> {
        let host = &self.scene.cluster.hosts[usize::from(self.number) - 1];
        Ok(Runtime::new(host, &Programs::built()?, &self.path.1))
    }

    fn del(&self) -> Outcome {
        Ok(self.runtime()?.del(&self.network, &self.attachment)?)
    }

    fn address(&self) -> Outcome<String> {
        let address = self.attachment.address(false);
        address.ok_or_else(|| Failure::new("an attachment without address"))
    }

    /// What it is answered.
    fn asks(&self, words: &[&str]) -> Outcome<String> {
        let gateway = self.attachment.gateway(false);
        let gateway = gateway.ok_or_else(|| Failure::new("no gateway"))?;
        let at = format!("@{gateway}");
        self.container.dig(&[&[at.as_str()], words].concat())
    }

    /// Waits until it is answered so; how long that took.
    fn wait_for(&self, name: &str, expected: &str) -> Outcome<Duration> {
        let what = format!("{name} is {expected}");
        let found = wait_for(&what, PATIENCE, || {
            Ok((self.asks(&[name])? == expected).then_some(()))
        });
        found.map(|((), took)| took)
    }
}

/// The first twelve characters of a container's id, as `pontoon` shows it.
fn short(one: &Named<'_>) -> String {
    one.attachment.container_id.chars().take(12).collect()
}

/// Whether `pontoon graph --cluster` on a host shows this of another one, in every form.
fn drawn(scene: &Scene, at: u8, of: u8, expected: &[&str]) -> Outcome {
    let block = scene.block_of(of)?;
    let own = format!("host h{at}: {}", scene.block_of(at)?);
    for form in ["", "--svg", "--dot", "--mermaid"] {
        let mut arguments = vec!["graph", "--cluster"];
        arguments.extend(Some(form).filter(|form| !form.is_empty()));
        let output = scene.run_program("pontoon", at, &arguments)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let title = format!("{NETWORK} on h{of}");
        let part = format!("host h{of}: {block}");
        let words = expected.iter().flat_map(|words| words.split("  "));
        let missing: Vec<&str> = [title.as_str(), &part, &own]
            .into_iter()
            .chain(words)
            .filter(|word| !text.contains(word))
            .collect();
        let alone = scene.run_program("pontoon", at, &["graph"])?;
        let alone = String::from_utf8_lossy(&alone.stdout).contains(&title);
        if !missing.is_empty() || alone {
            return Err(Failure::new(format!(
                "{form} lacks {missing:?} ({alone}):\n{text}"
            )));
        }
    }
    Ok(())
}

/// What `pontoon dns status` says of the network on a host: how many containers, and the hash.
fn zone(scene: &Scene, number: u8) -> Outcome<(u64, String)> {
    let output = scene.run_program("pontoon", number, &["dns", "status", "--json"])?;
    let status: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(Failure::act("read a status"))?;
    let zone = &status["zones"][NETWORK];
    let hash = zone["hash"].as_str().unwrap_or_default().to_owned();
    Ok((zone["containers"].as_u64().unwrap_or_default(), hash))
}

/// Two hosts that know the same names have the same hash; one that does not has another one.
fn same_zones(scene: &Scene, hosts: [u8; 2]) -> Outcome {
    let both =
        || -> Outcome<[(u64, String); 2]> { Ok([zone(scene, hosts[0])?, zone(scene, hosts[1])?]) };
    let (zones, _) = wait_for("the same zone on two hosts", PATIENCE, || {
        let zones = both()?;
        Ok((zones[0] == zones[1]).then_some(zones))
    })?;
    same("containers", zones[0].0, 2)?;
    let text = scene.run_program("pontoon", hosts[0], &["dns", "status"])?;
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    let line = format!("network {NETWORK}: 2 containers, hash {}", zones[0].1);
    if !text.contains(&line) {
        return Err(Failure::new(format!("no {line:?} in {text}")));
    }
    // A host that learns nothing any more is told apart as soon as the other one knows more.
    scene.kill(hosts[1])?;
    let more = Named::add(scene, hosts[0], NETWORK, None, "more")?;
    wait_for("another zone", PATIENCE, || {
        let now = both()?;
        Ok((now[0].1 != zones[0].1 && now[1] == zones[1]).then_some(()))
    })?;
    scene.start(hosts[1])?;
    wait_for("the same zone again", PATIENCE, || {
        let now = both()?;
        Ok((now[0] == now[1] && now[0].0 == 3).then_some(()))
    })?;
    more.del()?;
    wait_for("the zone of before", PATIENCE, || {
        Ok((both()? == zones).then_some(()))
    })
    .map(drop)
}

#[test]
fn a_name_is_known_on_every_host_as_long_as_its_host_lives() -> Outcome {
    let scene = Scene::with_agents()?;
    // The host of the name is cut off later: not the one of etcd's leader.
    let leader = scene.etcd.borrow().leader(&scene.cluster)?;
    let (home, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let app = Named::add(&scene, other, NETWORK, None, "app")?;
    let solo = Named::add(&scene, other, "solo", Some("10.77.0.0/24"), "solo")?;
    same(
        "before",
        app.asks(&["web.dns.pontoon"])?,
        "NXDOMAIN".to_owned(),
    )?;
    let web = Named::add(&scene, home, NETWORK, None, "web")?;
    let good = format!("NOERROR {}", web.address()?);
    let took = app.wait_for("web", &good)?;
    eprintln!(
        "a name was known on another host {} ms after ADD",
        took.as_millis()
    );
    for form in ["web-alias", "web.dns.pontoon", "web.lan.dns.pontoon"] {
        same(form, app.asks(&[form])?, good.clone())?;
    }
    let back = app.asks(&["-x", &web.address()?])?;
    same("PTR", back, "NOERROR web.lan.dns.pontoon.".to_owned())?;
    let known = format!("NOERROR {}", app.address()?);
    web.wait_for("app", &known)?;
    same_zones(&scene, [home, other])?;
    drawn(
        &scene,
        other,
        home,
        &["alive", &format!("web  {}", short(&web)), &web.address()?],
    )?;
    // And it is reached by packets, which show where they come from.
    let server = web.container.serve(80)?;
    let target: IpAddr = web
        .address()?
        .parse()
        .map_err(Failure::act("read an address"))?;
    for (protocol, ask) in BOTH {
        let asked = app.container.run(|| ask((target, 80).into(), PATIENCE))?;
        let peer = asked.map(|reply| reply.peer.to_string());
        same(protocol, peer, Ok(app.address()?))?;
    }
    drop(server);
    // Who is on another network only is told nothing.
    same(
        "from another network",
        solo.asks(&["web.dns.pontoon"])?,
        "NXDOMAIN".to_owned(),
    )?;

    web.del()?;
    let took = app.wait_for("web.dns.pontoon", "NXDOMAIN")?;
    eprintln!(
        "a name was gone on another host {} ms after DEL",
        took.as_millis()
    );
    let web = Named::add(&scene, home, NETWORK, None, "web")?;
    let good = format!("NOERROR {}", web.address()?);
    app.wait_for("web", &good)?;

    // An agent that is killed and started again changes nothing.
    scene.kill(other)?;
    same("without an agent", app.asks(&["web"])?, good.clone())?;
    scene.start(other)?;
    app.wait_for("web", &good)?;

    scene.cluster.connect(home, false)?;
    let took = app.wait_for("web.dns.pontoon", "NXDOMAIN")?;
    eprintln!(
        "the names of a dead host were gone after {:.1} s",
        took.as_secs_f64()
    );
    // Its lease, and a second.
    if took > Duration::from_secs(11) {
        return Err(Failure::new(format!(
            "a dead host's names were there for {took:?}"
        )));
    }
    drawn(&scene, other, home, &["dead"])?;
    scene.cluster.connect(home, true)?;
    let took = app.wait_for("web", &good)?;
    eprintln!("they were back {:.1} s after the host", took.as_secs_f64());

    // For other hosts' names alone no resolver stays.
    let socket = scene.cluster.hosts[usize::from(other) - 1]
        .state_dir()
        .join("dns/control");
    same("a resolver", socket.exists(), true)?;
    solo.del()?;
    app.del()?;
    wait_for("the end of the resolver", PATIENCE, || {
        Ok((!socket.exists()).then_some(()))
    })?;
    web.del()
}
