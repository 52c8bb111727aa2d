//! What a plugin must refuse: with the right code, in words that name object and cause, and
//! without touching anything.

use pontoon_lab::{Attachment, Backend, Call, Container, Failure, Outcome, Site};
use serde_json::{Value, json};

const INCOMPATIBLE: u64 = 1;
const ENVIRONMENT: u64 = 4;
const DECODE: u64 = 6;
const CONFIG: u64 = 7;
const NAMESPACE: u64 = 8;

/// A host and a call of `bridge` that would succeed, to be spoiled.
struct Scene {
    site: Site,
    container: Container,
}

impl Scene {
    fn new() -> Outcome<Self> {
        Ok(Self {
            site: Site::new(Backend::Nftables)?,
            container: Container::new("spoiled")?,
        })
    }

    fn good(&self) -> Call {
        let network = self.site.network("spoiled", "spoiled0", &["10.69.0.0/24"]);
        let attachment = Attachment::new(&self.container);
        let stdin = network.stdin(&network.plugins()[0], &attachment.capabilities, None);
        self.site
            .runtime()
            .attachment_call("ADD", &stdin, &attachment)
    }

    /// The good call with one key of the configuration replaced.
    fn with_key(&self, key: &str, value: Value) -> Call {
        let mut call = self.good();
        let mut stdin: Value = serde_json::from_str(&call.stdin).unwrap_or_default();
        stdin[key] = value;
        call.stdin = stdin.to_string();
        call
    }

    /// Makes the call and wants to be refused with `code`, in text that has all these words.
    fn refused(&self, plugin: &str, call: &Call, code: u64, words: &[&str]) -> Outcome {
        let before = self.site.snapshot()?;
        let finished = self.site.runtime().call(plugin, call)?;
        let about = format!("{plugin} {call:?}");
        let Err(error) = finished.verdict(plugin) else {
            return Err(Failure::new(format!("accepted: {about}")));
        };
        let missing: Vec<_> = words
            .iter()
            .filter(|word| !error.text().contains(**word))
            .collect();
        if error.code != code || !missing.is_empty() || finished.status != Some(1) {
            return Err(Failure::new(format!(
                "wanted code {code} and {words:?}, got {error}\n  for {about}"
            )));
        }
        before.same_as(&self.site.snapshot()?, &about)
    }
}

#[test]
fn variables() -> Outcome {
    let scene = Scene::new()?;
    let good = scene.good();
    for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"] {
        for plugin in ["bridge", "host-local", "portmap", "loopback"] {
            scene.refused(
                plugin,
                &good.clone().unset(name),
                ENVIRONMENT,
                &["required env variables", name, "missing"],
            )?;
        }
    }
    let long = "x".repeat(300);
    for id in [
        "../../x", "a b", "a'b", "a\"b", "a;b", "-a", ".", "a/b", &long,
    ] {
        scene.refused(
            "bridge",
            &good.clone().set("CNI_CONTAINERID", id),
            ENVIRONMENT,
            &["ID"],
        )?;
    }
    for ifname in [
        "../../x",
        "a b",
        "a/b",
        "a:b",
        ".",
        "..",
        "sixteen-letters!",
        &long,
    ] {
        scene.refused(
            "bridge",
            &good.clone().set("CNI_IFNAME", ifname),
            ENVIRONMENT,
            &["interface name"],
        )?;
    }
    scene.refused(
        "bridge",
        &good.clone().set("CNI_COMMAND", "FROB"),
        ENVIRONMENT,
        &["unknown CNI_COMMAND: FROB"],
    )?;
    scene.refused(
        "bridge",
        &good.set("CNI_ARGS", "FROB=1"),
        ENVIRONMENT,
        &["ARGS: unknown args", "FROB"],
    )
}

#[test]
fn configuration() -> Outcome {
    let scene = Scene::new()?;
    for text in ["", "{", "[]", "null", "\"bridge\"", "\u{0}"] {
        let call = Call {
            stdin: text.to_owned(),
            ..scene.good()
        };
        scene.refused("bridge", &call, DECODE, &[])?;
    }
    scene.refused(
        "bridge",
        &scene.with_key("cniVersion", json!(1.0)),
        DECODE,
        &["cniVersion"],
    )?;
    for (key, value) in [
        ("name", json!({})),
        ("vlan", json!("wide")),
        ("ipMasq", json!("yes")),
        ("ipam", json!([])),
    ] {
        scene.refused("bridge", &scene.with_key(key, value), CONFIG, &[key])?;
    }
    scene.refused(
        "bridge",
        &scene.with_key("mtu", json!("wide")),
        CONFIG,
        &["mtu", "wide", "auto"],
    )?;
    for version in ["9.9.9", "1.2.0", "0.0.9"] {
        let call = scene.with_key("cniVersion", json!(version));
        scene.refused(
            "bridge",
            &call,
            INCOMPATIBLE,
            &["incompatible CNI versions", version, "1.1.0"],
        )?;
    }
    let long = "x".repeat(300);
    scene.refused(
        "bridge",
        &scene.with_key("name", Value::Null),
        CONFIG,
        &["name"],
    )?;
    for name in ["", "../../x", "a b", "a'b", "a\"b", "-a", "a/b", &long] {
        scene.refused(
            "bridge",
            &scene.with_key("name", json!(name)),
            CONFIG,
            &["name"],
        )?;
    }
    for bridge in [
        "../../x",
        "a b",
        "a/b",
        "a:b",
        ".",
        "sixteen-letters!",
        &long,
    ] {
        scene.refused(
            "bridge",
            &scene.with_key("bridge", json!(bridge)),
            CONFIG,
            &["bridge"],
        )?;
    }
    Ok(())
}

#[test]
fn namespaces() -> Outcome {
    let scene = Scene::new()?;
    let good = scene.good();
    let file = scene.site.leases.path().join("file");
    std::fs::write(&file, "no namespace").map_err(Failure::act("write a file"))?;
    let file = file.display().to_string();
    // A file, a namespace of another kind, and nothing.
    for path in [file.as_str(), "/proc/self/ns/uts", "/run/netns/never-was"] {
        scene.refused(
            "bridge",
            &good.clone().set("CNI_NETNS", path),
            ENVIRONMENT,
            &[path],
        )?;
    }
    for plugin in ["bridge", "host-local", "loopback"] {
        let own = "/proc/self/ns/net";
        scene.refused(
            plugin,
            &good.clone().set("CNI_NETNS", own),
            NAMESPACE,
            &[own],
        )?;
    }
    Ok(())
}

/// An ADD to a network on a host where something is in the way.
fn check(
    backend: Backend,
    prepare: impl FnOnce(&Site) -> Outcome<Obstacle>,
    code: u64,
    words: &[&str],
) -> Outcome {
    obstructed(backend, prepare, code, words)
        .map_err(|error| Failure::new(format!("{backend}: {error}")))
}

/// What is in the way, and the ADD that will meet it.
struct Obstacle {
    network: pontoon_lab::Network,
    attachment: Attachment,
    // Containers that must live until the ADD was refused.
    _held: Vec<Container>,
}

fn obstructed(
    backend: Backend,
    prepare: impl FnOnce(&Site) -> Outcome<Obstacle>,
    code: u64,
    words: &[&str],
) -> Outcome {
    let site = Site::new(backend)?;
    let mut obstacle = prepare(&site)?;
    let before = site.snapshot()?;
    let error = site
        .try_add(&obstacle.network, &mut obstacle.attachment)?
        .ok_or_else(|| Failure::new("ADD succeeded"))?;
    let missing: Vec<_> = words
        .iter()
        .filter(|word| !error.text().contains(**word))
        .collect();
    if error.code != code || !missing.is_empty() {
        return Err(Failure::new(format!(
            "wanted code {code} and {words:?}, got {error}"
        )));
    }
    before.same_as(&site.snapshot()?, "a refused ADD")
}

#[test]
fn an_interface_name_in_use() -> Outcome {
    let prepare = |site: &Site| {
        let first = site.network("first", "first0", &["10.70.0.0/24"]);
        let (container, _) = site.join("busy", &first)?;
        let second = site
            .network("second", "second0", &["10.71.0.0/24"])
            .first_only();
        Ok(Obstacle {
            network: second,
            attachment: Attachment::new(&container),
            _held: vec![container],
        })
    };
    // The runtime's DEL after the refusal is for another network: the first one's eth0 must stay.
    check(Backend::Nftables, prepare, 103, &["eth0"])
}

#[test]
fn a_subnet_of_another_network() -> Outcome {
    let prepare = |site: &Site| {
        let (container, _) =
            site.join("owner", &site.network("first", "first0", &["10.70.0.0/24"]))?;
        let second = Container::new("late")?;
        let network = site.network("second", "second0", &["10.70.0.0/24"]);
        Ok(Obstacle {
            network,
            attachment: Attachment::new(&second),
            _held: vec![container, second],
        })
    };
    check(Backend::Nftables, prepare, 107, &["10.70.0.", "first0"])
}

#[test]
fn a_full_pool() -> Outcome {
    for backend in [Backend::Nftables, Backend::IptablesNft] {
        let prepare = |site: &Site| {
            let network = site.network("small", "small0", &["10.70.0.0/30"]);
            let (container, _) = site.join("only", &network)?;
            let second = Container::new("late")?;
            Ok(Obstacle {
                network,
                attachment: Attachment::new(&second),
                _held: vec![container, second],
            })
        };
        check(backend, prepare, 101, &["10.70.0."])?;
    }
    Ok(())
}

#[test]
fn a_link_that_is_no_bridge() -> Outcome {
    let prepare = |site: &Site| {
        let container = Container::new("late")?;
        let network = site.network("uplink", "eth0", &["10.70.0.0/24"]);
        Ok(Obstacle {
            network,
            attachment: Attachment::new(&container),
            _held: vec![container],
        })
    };
    check(Backend::Nftables, prepare, 103, &["eth0", "not a bridge"])
}

#[test]
fn a_vlan_out_of_range() -> Outcome {
    let prepare = |site: &Site| {
        let container = Container::new("tagged")?;
        let network = site.network("tagged", "tagged0", &["10.70.0.0/24"]).with(
            "bridge",
            "vlan",
            json!(4095),
        );
        Ok(Obstacle {
            network,
            attachment: Attachment::new(&container),
            _held: vec![container],
        })
    };
    check(Backend::Nftables, prepare, CONFIG, &["vlan", "4095"])
}
