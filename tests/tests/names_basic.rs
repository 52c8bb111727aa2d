//! Names of containers, asked by real clients: every form from every place, and never one of a
//! network that the asker is not on.

use std::process::Command;

use serde_json::json;
use xtask::{Attachment, Backend, Container, Failure, Network, Outcome, Site, find, missing};

/// Two networks and three containers: `web` on front, `db` on back, `app` on both.
struct Scene {
    site: Site,
    front: Network,
    back: Network,
    web: (Container, Attachment),
    db: (Container, Attachment),
    app: (Container, Vec<Attachment>),
}

fn network(site: &Site, name: &str, number: u8) -> Network {
    let mut list = site
        .network(
            name,
            &format!("{name}0"),
            &[
                &format!("10.{number}.0.0/24"),
                &format!("fd00:{number}::/64"),
            ],
        )
        .list()
        .clone();
    let resolv_conf = site.leases.path().join("resolv.conf");
    if let Some(plugins) = list["plugins"].as_array_mut() {
        plugins.push(json!({
            "type": "dns", "backend": site.backend.key(), "etcNetns": true,
            "resolvConf": resolv_conf,
            "capabilities": { "aliases": true, "dns": true, "links": true },
        }));
    }
    Network::from_list(list)
}

fn named(mut attachment: Attachment, name: &str) -> Attachment {
    attachment.args = format!("IgnoreUnknown=1;K8S_POD_NAME={name}");
    attachment
}

impl Scene {
    fn new(backend: Backend) -> Outcome<Self> {
        let site = Site::new(backend)?;
        let (front, back) = (network(&site, "front", 81), network(&site, "back", 82));
        let join = |name: &str, network: &Network| -> Outcome<(Container, Attachment)> {
            let container = Container::new(name)?;
            let mut attachment = named(Attachment::new(&container), name);
            attachment
                .capabilities
                .insert("aliases".into(), json!([format!("{name}-alias")]));
            site.runtime().add(network, &mut attachment)?;
            Ok((container, attachment))
        };
        let web = join("web", &front)?;
        let db = join("db", &back)?;
        let app = Container::new("app")?;
        let mut attachments = Vec::new();
        for (network, interface) in [(&front, "eth0"), (&back, "eth1")] {
            let mut attachment = named(Attachment::new(&app), "app");
            attachment.ifname = interface.to_owned();
            attachment.capabilities.insert(
                "links".into(),
                json!([{ "container": "db", "alias": "database" }]),
            );
            site.runtime().add(network, &mut attachment)?;
            attachments.push(attachment);
        }
        Ok(Self {
            site,
            front,
            back,
            web,
            db,
            app: (app, attachments),
        })
    }

    fn all_gone(&self) -> Outcome {
        for (network, attachment) in [
            (&self.front, &self.web.1),
            (&self.back, &self.db.1),
            (&self.front, &self.app.1[0]),
            (&self.back, &self.app.1[1]),
        ] {
            self.site.runtime().del(network, attachment)?;
        }
        Ok(())
    }
}

/// Runs a program in a container, with the files that `ip netns exec` shows it.
fn inside(container: &Container, program: &str, arguments: &[&str]) -> Outcome<String> {
    find(program).ok_or_else(|| missing(program))?;
    let name = container
        .path()
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let output = Command::new("ip")
        .args(["netns", "exec", name, program])
        .args(arguments)
        .output()
        .map_err(Failure::act(format!("run {program}")))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The code and the data of the answers, sorted.
fn dig(container: &Container, arguments: &[&str]) -> Outcome<String> {
    let mut all = vec!["+tries=2", "+time=3", "+noall", "+comments", "+answer"];
    all.extend_from_slice(arguments);
    let text = inside(container, "dig", &all)?;
    let status = text
        .split("status: ")
        .nth(1)
        .and_then(|rest| rest.split(',').next())
        .unwrap_or("no reply");
    let mut answers: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with(';'))
        .filter_map(|line| line.split_whitespace().nth(4))
        .collect();
    answers.sort_unstable();
    Ok(format!("{status} {}", answers.join(" ")).trim().to_owned())
}

#[track_caller]
fn same(what: &str, found: &str, expected: &str) -> Outcome {
    if found == expected {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "{what}: {found:?} instead of {expected:?}"
        )))
    }
}

fn address(attachment: &Attachment, v6: bool) -> Outcome<String> {
    attachment
        .address(v6)
        .ok_or_else(|| Failure::new("an attachment without address"))
}

fn every_form(backend: Backend) -> Outcome {
    let scene = Scene::new(backend)?;
    let (app, web, db) = (&scene.app.0, &scene.web.0, &scene.db.0);
    for v6 in [false, true] {
        let kind = if v6 { "AAAA" } else { "A" };
        let web_address = address(&scene.web.1, v6)?;
        let db_address = address(&scene.db.1, v6)?;
        let front = scene.app.1[0]
            .gateway(v6)
            .ok_or_else(|| Failure::new("no gateway"))?;
        let back = scene.app.1[1]
            .gateway(v6)
            .ok_or_else(|| Failure::new("no gateway"))?;
        for tcp in ["+notcp", "+tcp"] {
            let ask = |who: &Container, server: &str, name: &str| {
                dig(who, &[tcp, &format!("@{server}"), name, kind])
            };
            let forms = |name: &str, network: &str| {
                [
                    name.to_owned(),
                    name.to_uppercase(),
                    format!("{name}-alias"),
                    format!("{name}.dns.pontoon"),
                    format!("{name}.{network}.dns.pontoon"),
                ]
            };
            for form in forms("web", "front") {
                let expected = format!("NOERROR {web_address}");
                same(&form, &ask(web, &front, &form)?, &expected)?;
                same(&form, &ask(app, &front, &form)?, &expected)?;
                // Whom it asks does not matter, who it is does.
                same(&form, &ask(app, &back, &form)?, &expected)?;
            }
            let linked = format!("NOERROR {db_address}");
            same("a link", &ask(app, &front, "database")?, &linked)?;
            same(
                "a link of another",
                &ask(db, &back, "database.dns.pontoon")?,
                "NXDOMAIN",
            )?;
            for form in forms("db", "back") {
                let answer = ask(web, &front, &form)?;
                let wanted = if form.ends_with("dns.pontoon") {
                    "NXDOMAIN"
                } else {
                    // No server to ask: said at once.
                    "SERVFAIL"
                };
                same(&format!("{form} from elsewhere"), &answer, wanted)?;
            }
            same(
                "ANY",
                &dig(web, &[tcp, &format!("@{front}"), "web", "ANY"])?,
                "REFUSED",
            )?;
            same(
                "MX",
                &dig(web, &[tcp, &format!("@{front}"), "web", "MX"])?,
                "NOERROR",
            )?;
            same(
                "PTR",
                &dig(web, &[tcp, &format!("@{front}"), "-x", &web_address])?,
                "NOERROR web.front.dns.pontoon.",
            )?;
            same(
                "PTR of elsewhere",
                &dig(web, &[tcp, &format!("@{front}"), "-x", &db_address])?,
                "SERVFAIL",
            )?;
        }
    }
    for plugin in [(&scene.front, &scene.web.1), (&scene.back, &scene.db.1)] {
        scene.site.runtime().check(plugin.0, plugin.1)?;
    }
    scene.all_gone()
}

fn real_clients(backend: Backend) -> Outcome {
    let scene = Scene::new(backend)?;
    let (v4, v6) = (address(&scene.web.1, false)?, address(&scene.web.1, true)?);
    for name in ["web", "web-alias", "web.front"] {
        let found = inside(&scene.app.0, "getent", &["ahostsv4", name])?;
        let first = found.split_whitespace().next().unwrap_or_default();
        same(&format!("getent ahostsv4 {name}"), first, &v4)?;
        let found = inside(&scene.app.0, "getent", &["ahostsv6", name])?;
        let first = found.split_whitespace().next().unwrap_or_default();
        same(&format!("getent ahostsv6 {name}"), first, &v6)?;
    }
    let found = inside(&scene.app.0, "busybox", &["nslookup", "web.dns.pontoon"])?;
    if !found.contains(&v4) || !found.contains(&v6) {
        return Err(Failure::new(format!("busybox nslookup says {found:?}")));
    }
    let found = inside(&scene.db.0, "getent", &["hosts", "web"])?;
    same("getent hosts of another network's name", &found, "")?;
    scene.all_gone()
}

fn nothing_stays(backend: Backend) -> Outcome {
    let site = Site::new(backend)?;
    let before = site.snapshot()?;
    let network = network(&site, "front", 81);
    let mut kept = Vec::new();
    for name in ["one", "two"] {
        let container = Container::new(name)?;
        let mut attachment = named(Attachment::new(&container), name);
        site.runtime().add(&network, &mut attachment)?;
        kept.push((container, attachment));
    }
    site.runtime().status(&network)?;
    for (_, attachment) in &kept {
        site.runtime().del(&network, attachment)?;
        site.runtime().del(&network, attachment)?;
    }
    site.nothing_left(&before, &[&network], "DEL of all names")
}

fn each(test: fn(Backend) -> Outcome) -> Outcome {
    Backend::ALL.into_iter().try_for_each(|backend| {
        test(backend).map_err(|error| Failure::new(format!("{backend}: {error}")))
    })
}

#[test]
fn every_form_of_a_name_from_every_place() -> Outcome {
    each(every_form)
}

#[test]
fn getent_and_busybox_find_names() -> Outcome {
    each(real_clients)
}

#[test]
fn the_resolver_leaves_nothing() -> Outcome {
    each(nothing_stays)
}
