//! Several backends on one host: each goes with its last user, whatever ends last, and nothing of a
//! network that lives goes with it. Plugins without a key follow their network.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::thread;

use pontoon_lab::{
    Attachment, Backend, Container, Failure, Network, Outcome, Runtime, Scratch, Site, Snapshot,
};
use serde_json::{Value, json};

const PLUGINS: [(&str, &str); 4] = [
    ("bridge", "ipMasqBackend"),
    ("portmap", "backend"),
    ("dns", "backend"),
    ("firewall", "backend"),
];

/// A chain whose plugins have these backends; null is the default.
fn chain(site: &Site, name: &str, number: u8, keys: [Value; 4]) -> Network {
    let mut list = site.named_network(name, number, json!({})).list().clone();
    if let Some(plugins) = list["plugins"].as_array_mut() {
        plugins.push(json!({ "type": "firewall", "profile": "docker" }));
    }
    let keys = PLUGINS.iter().zip(keys);
    keys.fold(
        Network::from_list(list),
        |network, ((plugin, key), value)| network.with(plugin, key, value),
    )
}

/// The programs of both variants of iptables, under the plain names those of one of them.
fn both_variants(default: &str) -> Outcome<(Scratch, OsString)> {
    let dir = Scratch::new("path")?;
    for (variant, multi) in [
        ("nft", "xtables-nft-multi"),
        ("legacy", "xtables-legacy-multi"),
    ] {
        let program = pontoon_lab::find(multi).ok_or_else(|| pontoon_lab::missing(multi))?;
        for name in ["iptables", "ip6tables"] {
            for act in ["", "-save", "-restore"] {
                let mut names = vec![format!("{name}-{variant}{act}")];
                if variant == default {
                    names.push(format!("{name}{act}"));
                }
                for name in names {
                    symlink(&program, dir.path().join(&name))
                        .map_err(Failure::act(format!("link {name}")))?;
                }
            }
        }
    }
    let path = dir.path().as_os_str().to_owned();
    Ok((dir, path))
}

/// Does all of it, four at a time: most of the time passes with waiting.
fn each<T: Send + Sync>(all: &[T], act: impl Fn(&T) -> Outcome + Sync) -> Outcome {
    let wrong: Vec<String> = thread::scope(|scope| {
        let act = &act;
        let share = all.len().div_ceil(4).max(1);
        let threads: Vec<_> = all
            .chunks(share)
            .map(|some| {
                scope.spawn(move || {
                    let done = some.iter().map(act).filter_map(Result::err);
                    done.map(|error| error.to_string()).collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|_| vec!["a panic".to_owned()]))
            .collect()
    });
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(wrong.join("\n")))
    }
}

fn combinations() -> Vec<[&'static str; 4]> {
    (0..16)
        .map(|bits| [0, 1, 2, 3].map(|bit| ["iptables", "nftables"][bits >> bit & 1]))
        .collect()
}

fn chains(backend: Backend) -> Outcome {
    each(&combinations(), |keys| {
        let site = Site::new(backend)?;
        let network = chain(&site, "mix", 86, keys.map(Value::from));
        let before = site.snapshot()?;
        let containers = [Container::new("mixed")?, Container::new("plain")?];
        let mut first = Attachment::new(&containers[0])
            .named("web")
            .publish("", 8080, 80, "tcp")
            .publish("", 8080, 80, "udp");
        let mut second = Attachment::new(&containers[1]).named("other");
        let told =
            |error: &dyn std::fmt::Display| Failure::new(format!("{backend}, {keys:?}: {error}"));
        for attachment in [&mut first, &mut second] {
            site.runtime()
                .add(&network, attachment)
                .map_err(|error| told(&error))?;
        }
        site.runtime()
            .check(&network, &first)
            .map_err(|error| told(&error))?;
        site.runtime().del(&network, &first)?;
        site.runtime()
            .check(&network, &second)
            .map_err(|error| told(&error))?;
        site.runtime().del(&network, &second)?;
        let left = site.nothing_left(&before, &[&network], "DEL of both");
        left.map_err(|error| told(&error))
    })
}

#[test]
fn in_one_chain_with_iptables_nft() -> Outcome {
    chains(Backend::IptablesNft)
}

#[test]
fn in_one_chain_with_iptables_legacy() -> Outcome {
    chains(Backend::IptablesLegacy)
}

/// The last container with a published port goes: what `portmap` alone has used goes then, not with the
/// network.
#[test]
fn a_backend_goes_with_its_last_user_in_a_network_that_lives() -> Outcome {
    let site = Site::new(Backend::IptablesNft)?;
    let keys = ["iptables", "nftables", "iptables", "iptables"].map(Value::from);
    let network = chain(&site, "mix", 86, keys);
    let (_one, _plain) = site.join("plain", &network)?;
    let before = site.snapshot()?;
    let container = Container::new("mixed")?;
    let mut attachment = Attachment::new(&container).publish("", 8080, 80, "tcp");
    site.runtime().add(&network, &mut attachment)?;
    site.runtime().del(&network, &attachment)?;
    before.without("sysctls").settles(
        || Ok(site.snapshot()?.without("sysctls")),
        "DEL of the only published port",
    )
}

/// A network in each of two backends.
#[derive(Debug, Clone, Copy)]
struct Pair {
    backends: [Backend; 2],
    /// Which of them ends first.
    first: usize,
    /// The containers' namespaces vanish, and GC alone cleans up.
    vanish: bool,
}

fn pairs() -> Vec<Pair> {
    let mut all = Vec::new();
    for one in Backend::ALL {
        for other in Backend::ALL.into_iter().filter(|other| *other != one) {
            for (first, vanish) in [(0, false), (1, false), (0, true)] {
                all.push(Pair {
                    backends: [one, other],
                    first,
                    vanish,
                });
            }
        }
    }
    all
}

/// What others have of the host's rules when the bridges are left out, which stay until GC.
fn rules_of(site: &Site, network: &Network) -> Outcome<Snapshot> {
    Ok(site
        .snapshot()?
        .without("sysctls")
        .without_link(network.bridge()))
}

#[test]
fn in_two_networks() -> Outcome {
    each(&pairs(), |pair| {
        two_networks(pair).map_err(|error| Failure::new(format!("{pair:?}: {error}")))
    })
}

fn two_networks(pair: &Pair) -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let before = site.snapshot()?;
    let mut held = Vec::new();
    // The one that stays is made first, so that all which the other one brings is known.
    let order = [pair.backends[1 - pair.first], pair.backends[pair.first]];
    let mut alone = None;
    for (number, backend) in order.into_iter().enumerate() {
        let default = if backend == Backend::IptablesLegacy {
            "legacy"
        } else {
            "nft"
        };
        let (tools, path) = both_variants(default)?;
        let runtime = Runtime::new(&site.host, site.runtime().programs(), path);
        let name = ["stays", "ends"][number];
        let keys = [(); 4].map(|()| Value::from(backend.key()));
        let network = chain(&site, name, 86 + u8::try_from(number).unwrap_or(0), keys);
        let container = Container::new(name)?;
        let port = [8080, 8081][number];
        let mut attachment = Attachment::new(&container)
            .named(name)
            .publish("", port, 80, "tcp");
        runtime.add(&network, &mut attachment)?;
        if alone.is_none() {
            alone = Some(site.snapshot()?.without("sysctls"));
        }
        held.push((tools, runtime, network, container, attachment));
    }
    let end = |(_, runtime, network, _, attachment): &(
        Scratch,
        Runtime<'_>,
        Network,
        Container,
        Attachment,
    )| {
        if pair.vanish {
            runtime.gc(&network.clone().in_version("1.1.0"), &[])
        } else {
            runtime.del(network, attachment)
        }
    };
    let ends = held
        .pop()
        .ok_or_else(|| Failure::new("two networks were made"))?;
    let stays = held
        .pop()
        .ok_or_else(|| Failure::new("two networks were made"))?;
    end(&ends)?;
    let alone = alone.unwrap_or_default();
    alone.settles(|| rules_of(&site, &ends.2), "the end of the other network")?;
    stays.1.check(&stays.2, &stays.4)?;
    end(&stays)?;
    site.nothing_left(&before, &[&stays.2, &ends.2], "the end of both")
}

/// Without a key, `portmap`, `dns` and `firewall` use what the network's bridge uses.
#[test]
fn the_default_follows_the_network() -> Outcome {
    let site = Site::new(Backend::IptablesNft)?;
    let before = site.snapshot()?;
    let network = chain(
        &site,
        "follow",
        86,
        [json!("nftables"), Value::Null, Value::Null, Value::Null],
    );
    let container = Container::new("follower")?;
    let mut attachment = Attachment::new(&container)
        .named("web")
        .publish("", 8080, 80, "tcp");
    site.runtime().add(&network, &mut attachment)?;
    site.runtime().check(&network, &attachment)?;
    let now = site.snapshot()?;
    let iptables: Vec<_> = now
        .lines("rules")
        .into_iter()
        .filter(|line| line.contains("tables-"))
        .collect();
    if !iptables.is_empty() {
        return Err(Failure::new(format!(
            "a network of nftables has rules in iptables: {iptables:?}"
        )));
    }
    // What each of the three has made.
    let lines = now.lines("rules").join("\n");
    for text in ["tcp . 8080", "21053", "closed"] {
        if !lines.contains(text) {
            return Err(Failure::new(format!("no {text} in nftables:\n{lines}")));
        }
    }
    site.runtime().del(&network, &attachment)?;
    site.nothing_left(&before, &[&network], "DEL")
}

/// A plugin is killed after any of its steps in a mixed chain; DEL, or GC alone, leaves nothing.
fn killed(keys: [&'static str; 4], collect: bool) -> Outcome {
    let site = Site::new(Backend::IptablesNft)?;
    let network = chain(&site, "mix", 86, keys.map(Value::from));
    let trace = site.leases.path().join("trace");
    let container = Container::new("traced")?;
    let attachment = || {
        Attachment::new(&container)
            .named("web")
            .publish("", 8080, 80, "tcp")
    };
    let runtime = site
        .runtime()
        .with_env("PONTOON_FAULT_TRACE", &trace.display().to_string());
    runtime.add(&network, &mut attachment())?;
    let text = fs::read_to_string(&trace).map_err(Failure::act("read the trace of steps"))?;
    let steps: Vec<String> = text.lines().map(str::to_owned).collect();
    each(&steps, |step| {
        let site = Site::new(Backend::IptablesNft)?;
        let network = chain(&site, "mix", 86, keys.map(Value::from));
        let before = site.snapshot()?;
        let container = Container::new("victim")?;
        let mut attachment = Attachment::new(&container)
            .named("web")
            .publish("", 8080, 80, "tcp");
        let runtime = site
            .runtime()
            .with_env("PONTOON_FAULT", &format!("kill:{step}"));
        if runtime.add(&network, &mut attachment).is_ok() {
            return Err(Failure::new(format!("{step}: not killed")));
        }
        drop(container);
        if collect {
            site.runtime()
                .gc(&network.clone().in_version("1.1.0"), &[])?;
        } else {
            site.runtime().del(&network, &attachment)?;
        }
        let left = site.nothing_left(&before, &[&network], &format!("kill after {step}"));
        left.map_err(|error| Failure::new(format!("{keys:?}: {error}")))
    })
}

#[test]
fn killed_and_deleted() -> Outcome {
    killed(["nftables", "iptables", "nftables", "iptables"], false)
}

#[test]
fn killed_and_collected() -> Outcome {
    killed(["iptables", "nftables", "nftables", "iptables"], true)
}
