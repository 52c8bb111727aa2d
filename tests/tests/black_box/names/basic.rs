//! Names of containers, asked by real clients: every form from every place, and never one of a
//! network that the asker is not on.

use pontoon_lab::{
    Attachment, Backend, Container, Failure, Network, Outcome, Site, missing, same, target_dir,
};
use serde_json::json;

/// Two networks and three containers: `web` on front, `db` on back, `app` on both.
struct Scene {
    site: Site,
    front: Network,
    back: Network,
    web: (Container, Attachment),
    db: (Container, Attachment),
    app: (Container, Vec<Attachment>),
}

impl Scene {
    fn new(backend: Backend) -> Outcome<Self> {
        let site = Site::new(backend)?;
        let (front, back) = (
            site.named_network("front", 81, json!({})),
            site.named_network("back", 82, json!({})),
        );
        let join = |name: &str, network: &Network| -> Outcome<(Container, Attachment)> {
            let container = Container::new(name)?;
            let mut attachment = Attachment::new(&container).named(name);
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
            let mut attachment = Attachment::new(&app).named("app");
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
                who.dig(&[tcp, &format!("@{server}"), name, kind])
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
                &web.dig(&[tcp, &format!("@{front}"), "web", "ANY"])?,
                "REFUSED",
            )?;
            same(
                "MX",
                &web.dig(&[tcp, &format!("@{front}"), "web", "MX"])?,
                "NOERROR",
            )?;
            same(
                "PTR",
                &web.dig(&[tcp, &format!("@{front}"), "-x", &web_address])?,
                "NOERROR web.front.dns.pontoon.",
            )?;
            same(
                "PTR of elsewhere",
                &web.dig(&[tcp, &format!("@{front}"), "-x", &db_address])?,
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
        let found = scene.app.0.output("getent", &["ahostsv4", name])?;
        let first = found.split_whitespace().next().unwrap_or_default();
        same(&format!("getent ahostsv4 {name}"), first, &v4)?;
        let found = scene.app.0.output("getent", &["ahostsv6", name])?;
        let first = found.split_whitespace().next().unwrap_or_default();
        same(&format!("getent ahostsv6 {name}"), first, &v6)?;
    }
    let found = scene
        .app
        .0
        .output("busybox", &["nslookup", "web.dns.pontoon"])?;
    if !found.contains(&v4) || !found.contains(&v6) {
        return Err(Failure::new(format!("busybox nslookup says {found:?}")));
    }
    let found = scene.db.0.output("getent", &["hosts", "web"])?;
    same("getent hosts of another network's name", &found, "")?;
    // musl's resolver asks for both families at once, and takes no answer when one of them fails.
    let musl = target_dir()?.join("tools/musl/resolve");
    if !musl.is_file() {
        return Err(missing("musl's resolver"));
    }
    let musl = musl.display().to_string();
    for name in ["web", "WEB", "web-alias", "web.front", "web.dns.pontoon"] {
        let found = scene.app.0.output(&musl, &[name])?;
        let mut found: Vec<&str> = found.lines().collect();
        found.sort_unstable();
        let what = format!("musl's {name}");
        same(&what, &found.join(" "), &format!("{v4} {v6}"))?;
        for (family, address) in [("4", &v4), ("6", &v6)] {
            same(&what, &scene.app.0.output(&musl, &[name, family])?, address)?;
        }
    }
    for (who, name) in [(&scene.db.0, "web"), (&scene.app.0, "unknown.dns.pontoon")] {
        let found = who.output(&musl, &[name])?;
        if found.contains(&v4) || found.contains(&v6) || found.is_empty() {
            return Err(Failure::new(format!("musl finds {name}: {found:?}")));
        }
    }
    scene.all_gone()
}

fn nothing_stays(backend: Backend) -> Outcome {
    let site = Site::new(backend)?;
    let before = site.snapshot()?;
    let network = site.named_network("front", 81, json!({}));
    let mut kept = Vec::new();
    for name in ["one", "two"] {
        let container = Container::new(name)?;
        let mut attachment = Attachment::new(&container).named(name);
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
fn getent_busybox_and_musl_find_names() -> Outcome {
    each(real_clients)
}

#[test]
fn the_resolver_leaves_nothing() -> Outcome {
    each(nothing_stays)
}
