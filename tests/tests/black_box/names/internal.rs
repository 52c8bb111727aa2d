//! Internal networks resolve their own names only (CVE-2024-29018, moby#47538, aardvark-dns#447):
//! a question about the outside would carry data there.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use pontoon_lab::{
    Attachment, Backend, Container, Failure, NameServer, Network, Outcome, Site, same,
};
use serde_json::{Value, json};

const GOOD: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const SECOND: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 8);
/// A server of the host's own, which the resolver could ask.
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

/// The ways to make a network internal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The bridge's key.
    Bridge,
    /// The firewall's key, with the firewall before the names.
    FirewallBefore,
    /// The firewall's key, with the firewall after the names.
    FirewallAfter,
    /// No routes and no masquerade, as podman's `--internal`.
    Routeless,
}

const FORMS: [Form; 4] = [
    Form::Bridge,
    Form::FirewallBefore,
    Form::FirewallAfter,
    Form::Routeless,
];

struct Scene {
    site: Site,
    server: NameServer,
}

impl Scene {
    fn new(backend: Backend) -> Outcome<Self> {
        let site = Site::new(backend)?;
        fs::write(
            site.leases.path().join("resolv.conf"),
            format!("nameserver {SERVER}\n"),
        )
        .map_err(Failure::act("write resolv.conf"))?;
        let server = NameServer::start(site.host.netns(), SERVER, GOOD)?;
        Ok(Self { site, server })
    }

    fn internal(&self, form: Form, keys: Value) -> Network {
        let network = self.site.named_network("inner", 86, keys);
        let firewall = json!({
            "type": "firewall", "backend": self.site.backend.key(), "internal": true,
        });
        let insert = |at: usize| {
            let mut list = network.list().clone();
            if let Some(plugins) = list["plugins"].as_array_mut() {
                plugins.insert(at, firewall.clone());
            }
            Network::from_list(list)
        };
        match form {
            Form::Bridge => network.with("bridge", "internal", json!(true)),
            Form::FirewallBefore => insert(2),
            Form::FirewallAfter => insert(3),
            Form::Routeless => network
                .with("bridge", "ipMasq", json!(false))
                .with_ipam("routes", json!([])),
        }
    }

    fn never_asked(&self, name: &str) -> Outcome {
        match self.server.asked(name) {
            0 => Ok(()),
            times => Err(Failure::new(format!(
                "{name} has left the host {times} times"
            ))),
        }
    }
}

fn gateway(attachment: &Attachment, v6: bool) -> Outcome<String> {
    attachment
        .gateway(v6)
        .map(|gateway| format!("@{gateway}"))
        .ok_or_else(|| Failure::new("no gateway"))
}

fn address(attachment: &Attachment, v6: bool) -> String {
    attachment.address(v6).unwrap_or_default()
}

fn own_names_only(backend: Backend, form: Form) -> Outcome {
    let scene = Scene::new(backend)?;
    let inner = scene.internal(form, json!({}));
    let outer = scene.site.named_network("outer", 87, json!({}));
    let (db, db_at) = scene.site.join_named("db", &inner)?;
    let (web, web_at) = scene.site.join_named("web", &inner)?;
    let (free, free_at) = scene.site.join_named("free", &outer)?;
    // What another container has asked for lies in the cache.
    let open = free.dig(&[&gateway(&free_at, false)?, "cached.example"])?;
    same("an open network", &open, &format!("NOERROR {GOOD}"))?;
    for v6 in [false, true] {
        let at = gateway(&db_at, v6)?;
        let kind = if v6 { "AAAA" } else { "A" };
        for tcp in ["+notcp", "+tcp"] {
            let ask = |arguments: &[&str]| {
                let mut all = vec![at.as_str(), tcp];
                all.extend_from_slice(arguments);
                db.dig(&all)
            };
            let expected = format!("NOERROR {}", address(&web_at, v6));
            same("a sibling", &ask(&["web", kind])?, &expected)?;
            same(
                "a sibling's address",
                &ask(&["-x", &address(&web_at, v6)])?,
                "NOERROR web.inner.dns.pontoon.",
            )?;
            let started = Instant::now();
            for name in ["secret-data.example", "cached.example", "SECRET.example"] {
                same(name, &ask(&[name, kind])?, "REFUSED")?;
            }
            same("TXT", &ask(&["secret-text.example", "TXT"])?, "REFUSED")?;
            same("PTR", &ask(&["-x", "198.51.100.99"])?, "REFUSED")?;
            same("PTR", &ask(&["-x", "2001:db8::99"])?, "REFUSED")?;
            if started.elapsed() > Duration::from_secs(2) {
                return Err(Failure::new("a refusal takes its time"));
            }
        }
    }
    for name in [
        "secret-data.example",
        "secret.example",
        "secret-text.example",
    ] {
        scene.never_asked(name)?;
    }
    if form == Form::Bridge {
        ask_from_the_host(&scene, &db_at)?;
    }
    let finished = scene
        .site
        .pontoon(&["dns", "query", "why.example", "--as", "db"])?;
    let words = format!("{}{}", finished.stdout, finished.stderr);
    if finished.status == Some(0) || !words.contains("internal networks alone") {
        return Err(Failure::new(format!("pontoon dns query says {words}")));
    }
    scene.never_asked("why.example")?;
    for (network, attachment) in [(&inner, &db_at), (&inner, &web_at), (&outer, &free_at)] {
        scene.site.runtime().check(network, attachment)?;
        scene.site.runtime().del(network, attachment)?;
    }
    drop((web, free));
    Ok(())
}

/// A process of the host that asks by the bridge's address is no container: the servers of the
/// machine's own file are asked, whatever they say here.
fn ask_from_the_host(scene: &Scene, attachment: &Attachment) -> Outcome {
    let at = gateway(attachment, false)?;
    let output = scene.site.host.run(|| {
        std::process::Command::new("dig")
            .args([at.as_str(), "+tries=1", "+time=6", "hosts.example"])
            .output()
    })?;
    let output = output.map_err(Failure::act("run dig"))?;
    let found = String::from_utf8_lossy(&output.stdout);
    if !found.contains("status: ") || found.contains("REFUSED") {
        return Err(Failure::new(format!("the host is told {found}")));
    }
    Ok(())
}

#[test]
fn internal_networks_resolve_their_own_names_only() -> Outcome {
    for backend in Backend::ALL {
        for form in FORMS {
            own_names_only(backend, form)
                .map_err(|error| Failure::new(format!("{backend} {form:?}: {error}")))?;
        }
    }
    Ok(())
}

/// A container of both kinds asks as before, in whichever order they came, and no more after the
/// open one has gone. `named` says whether the open network has names too.
fn on_both(form: Form, first: bool, named: bool) -> Outcome {
    let scene = Scene::new(Backend::Nftables)?;
    let inner = scene.internal(form, json!({}));
    let outer = match named {
        true => scene.site.named_network("outer", 87, json!({})),
        false => scene.site.network("outer", "outer0", &["10.87.0.0/16"]),
    };
    let both = Container::new("both")?;
    let join = |network: &Network, interface: &str| -> Outcome<Attachment> {
        let mut attachment = Attachment::new(&both).named("both");
        attachment.ifname = interface.to_owned();
        scene.site.runtime().add(network, &mut attachment)?;
        Ok(attachment)
    };
    let (inside, outside) = if first {
        let inside = join(&inner, "eth0")?;
        let at = gateway(&inside, false)?;
        same("alone", &both.dig(&[&at, "before.example"])?, "REFUSED")?;
        (inside, join(&outer, "eth1")?)
    } else {
        let outside = join(&outer, "eth0")?;
        (join(&inner, "eth1")?, outside)
    };
    let at = gateway(&inside, false)?;
    let good = format!("NOERROR {GOOD}");
    // A network without names is looked for a quarter of a second after it was missed.
    let started = Instant::now();
    loop {
        let answer = both.dig(&[&at, "both.example"])?;
        if answer == good {
            break;
        }
        if named || started.elapsed() > Duration::from_secs(3) {
            same("on both", &answer, &good)?;
        }
    }
    same(
        "on both",
        &both.dig(&[&at, "+tcp", "second.example"])?,
        &good,
    )?;
    scene.site.runtime().del(&outer, &outside)?;
    same("alone", &both.dig(&[&at, "both.example"])?, "REFUSED")?;
    same("alone", &both.dig(&[&at, "after.example"])?, "REFUSED")?;
    scene.never_asked("after.example")?;
    scene.never_asked("before.example")?;
    Ok(scene.site.runtime().del(&inner, &inside)?)
}

#[test]
fn a_container_on_an_open_network_too_resolves_everything() -> Outcome {
    for form in FORMS {
        for first in [true, false] {
            for named in [true, false] {
                on_both(form, first, named)
                    .map_err(|error| Failure::new(format!("{form:?} {first} {named}: {error}")))?;
            }
        }
    }
    Ok(())
}

/// moby#47822, podman#27315: a resolver container on the same internal network is asked, from the
/// namespace of the one that was given it; a server elsewhere is not.
#[test]
fn own_servers_on_the_internal_network_are_asked() -> Outcome {
    for form in FORMS {
        let scene = Scene::new(Backend::Nftables)?;
        let inner = scene.internal(form, json!({}));
        let (resolver, resolver_at) = scene.site.join_named("resolver", &inner)?;
        let own = address(&resolver_at, false);
        let at: IpAddr = own.parse().map_err(Failure::act("parse"))?;
        let _server = NameServer::start(resolver.netns(), at, SECOND)?;
        let join = |name: &str, server: &str| -> Outcome<(Container, Attachment)> {
            let container = Container::new(name)?;
            let mut attachment = Attachment::new(&container).named(name);
            attachment
                .capabilities
                .insert("dns".into(), json!({ "servers": [server] }));
            scene.site.runtime().add(&inner, &mut attachment)?;
            Ok((container, attachment))
        };
        let (near, near_at) = join("near", &own)?;
        let (far, far_at) = join("far", "198.18.7.2")?;
        let answer = near.dig(&[&gateway(&near_at, false)?, "own.example"])?;
        same(&format!("{form:?}"), &answer, &format!("NOERROR {SECOND}"))?;
        let started = Instant::now();
        let answer = far.dig(&[&gateway(&far_at, false)?, "far.example"])?;
        same(&format!("{form:?}, far"), &answer, "REFUSED")?;
        if started.elapsed() > Duration::from_millis(900) {
            return Err(Failure::new("a refusal takes its time"));
        }
        scene.never_asked("own.example")?;
        for attachment in [&near_at, &far_at, &resolver_at] {
            scene.site.runtime().del(&inner, attachment)?;
        }
    }
    Ok(())
}

/// The network's own key is the admin's, and it names a way out all the same.
#[test]
fn upstreams_of_an_internal_network_lead_nowhere() -> Outcome {
    let scene = Scene::new(Backend::Nftables)?;
    let inner = scene.internal(Form::Bridge, json!({ "upstreams": [SERVER] }));
    let (db, at) = scene.site.join_named("db", &inner)?;
    let answer = db.dig(&[&gateway(&at, false)?, "up.example"])?;
    same("upstreams", &answer, "REFUSED")?;
    scene.never_asked("up.example")?;
    Ok(scene.site.runtime().del(&inner, &at)?)
}
