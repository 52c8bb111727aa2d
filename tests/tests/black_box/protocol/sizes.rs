//! Long lists: no configuration of bounded size takes long to judge, whichever list of it is long.
//! Time is counted as the processor's: other tests run meanwhile.

use std::fs;
use std::process::Command;

use pontoon_lab::{Attachment, Backend, Container, Failure, Outcome, Scratch, Site, slice};
use serde_json::{Value, json};

/// Entries of a list.
const MANY: usize = 65_536;
/// In seconds of the processor, for binaries without optimization; an optimized one takes a tenth. What grows
/// with the square of the list takes minutes.
const MOST: f64 = 4.0;

#[track_caller]
fn wrong(text: impl Into<String>) -> Outcome {
    Err(Failure::new(text))
}

/// What the children of this process have taken of the processor, in seconds: fields 16 and 17 of
/// proc_pid_stat(5), in hundredths.
fn spent() -> Outcome<f64> {
    let text = fs::read_to_string("/proc/self/stat").map_err(Failure::act("read the times"))?;
    let fields = text.rsplit(')').next().unwrap_or_default();
    let times = fields.split_whitespace().skip(13).take(2);
    let ticks: f64 = times.filter_map(|time| time.parse::<f64>().ok()).sum();
    Ok(ticks / 100.0)
}

fn list<T>(one: impl Fn(usize) -> T) -> Vec<T> {
    (0..MANY).map(one).collect()
}

/// The address of this number in 10.0.0.0/8.
fn address(number: usize) -> String {
    format!(
        "10.{}.{}.{}",
        number >> 16 & 255,
        number >> 8 & 255,
        number & 255
    )
}

fn leased(leases: &Scratch, keys: Value) -> Value {
    let mut ipam = json!({ "type": "host-local", "dataDir": leases.path() });
    for (key, value) in keys.as_object().into_iter().flatten() {
        ipam[key] = value.clone();
    }
    ipam
}

/// A result of a bridge, with one address unless `keys` say otherwise.
fn result(container: &Container, keys: Value) -> Value {
    let mut result = json!({
        "cniVersion": "1.1.0",
        "interfaces": [
            { "name": "br9" }, { "name": "veth9" }, { "name": "eth0", "sandbox": container.path_text() },
        ],
        "ips": [{ "interface": 2, "address": "10.9.0.2/24", "gateway": "10.9.0.1" }],
        "routes": [{ "dst": "0.0.0.0/0" }],
    });
    for (key, value) in keys.as_object().into_iter().flatten() {
        result[key] = value.clone();
    }
    result
}

/// ADD, which may be refused, then DEL, which may not; both in time.
fn judge(site: &Site, what: &str, kind: &str, keys: Value) -> Outcome {
    let container = Container::new("long")?;
    let mut stdin = json!({ "cniVersion": "1.1.0", "name": "long", "type": kind });
    for (key, value) in keys.as_object().into_iter().flatten() {
        stdin[key] = value.clone();
    }
    if let Some(previous) = stdin.get("prevResult") {
        stdin["prevResult"] = result(&container, previous.clone());
    }
    let attachment = Attachment::new(&container);
    for verb in ["ADD", "DEL"] {
        let before = spent()?;
        let runtime = site.runtime();
        let call = runtime.attachment_call(verb, &stdin, &attachment);
        let finished = runtime.call(kind, &call)?;
        let taken = spent()? - before;
        if taken > MOST {
            return wrong(format!("{kind} {verb}, {what}: {taken} s"));
        }
        let short = finished.status == Some(0) || finished.stdout.len() < 4096;
        if !short || (verb == "DEL" && finished.status != Some(0)) {
            let shown: String = finished.stdout.chars().take(300).collect();
            return wrong(format!(
                "{kind} {verb}, {what}: {:?} {shown}",
                finished.status
            ));
        }
    }
    Ok(())
}

/// One long list: what it is, the plugin, and its keys.
type Case<'a> = (&'static str, &'static str, Box<dyn Fn() -> Value + 'a>);

/// Lists that are tried in a run.
const TRIED: usize = 20;

/// Lists of the address plugins, and of the plugins that call them.
fn of_addresses(leases: &Scratch) -> Vec<Case<'_>> {
    let range = |number: usize| json!({ "subnet": format!("{}/28", address(number * 16)) });
    let wide = json!({ "subnet": "10.0.0.0/8" });
    let mut cases: Vec<Case<'_>> = Vec::new();
    for kind in ["host-local", "bridge", "ptp"] {
        let mut add = |what: &'static str, keys: Box<dyn Fn() -> Value>| {
            let make = move || json!({ "ipam": leased(leases, keys()) });
            cases.push((what, kind, Box::new(make)));
        };
        add(
            "ranges of a set",
            Box::new(move || json!({ "ranges": [list(range)] })),
        );
        add(
            "range sets",
            Box::new(move || json!({ "ranges": list(|number| [range(number)]) })),
        );
        add(
            "one range again and again",
            Box::new(move || json!({ "ranges": [list(|_| range(1))] })),
        );
        add(
            "excluded addresses",
            Box::new(
                || json!({ "subnet": "10.0.0.0/8", "exclude": list(|number| address(number * 2 + 5)) }),
            ),
        );
        add(
            "routes",
            Box::new(
                || json!({ "subnet": "10.0.0.0/8", "routes": list(|number| json!({ "dst": format!("{}/32", address(number)) })) }),
            ),
        );
    }
    let asked = |ipam: Value| {
        let ips = list(|number| address(number * 3));
        json!({ "ipam": ipam, "runtimeConfig": { "ips": ips } })
    };
    cases.push((
        "requested addresses",
        "host-local",
        Box::new(move || asked(leased(leases, wide.clone()))),
    ));
    cases.push((
        "requested addresses of many ranges",
        "host-local",
        Box::new(move || asked(leased(leases, json!({ "ranges": [list(range)] })))),
    ));
    let written = |number: usize| json!({ "address": format!("{}/24", address(number)), "gateway": address(number | 1) });
    for kind in ["static", "bridge", "ptp", "macvlan"] {
        let make = move || json!({ "master": "eth0", "ipam": { "type": "static", "addresses": list(written) } });
        cases.push(("addresses", kind, Box::new(make)));
    }
    cases
}

/// Lists of bridge's own keys.
fn of_bridge(leases: &Scratch) -> Vec<Case<'_>> {
    let keys: [(&'static str, fn() -> Value); 4] = [
        (
            "snat",
            || json!({ "snatUnchecked": true, "snat": list(|number| json!({ "source": "192.0.2.7", "out": format!("if{number}") })) }),
        ),
        (
            "trunk",
            || json!({ "vlanTrunk": list(|number| json!({ "minID": 1, "maxID": 4094 - number % 4000 })) }),
        ),
        (
            "servers",
            || json!({ "dns": { "nameservers": list(address), "search": list(name) } }),
        ),
        (
            "aliases",
            || json!({ "runtimeConfig": { "aliases": list(name) } }),
        ),
    ];
    keys.into_iter()
        .map(|(what, keys)| -> Case<'_> {
            let make = move || {
                let mut keys = keys();
                keys["ipam"] = leased(leases, json!({ "subnet": "10.0.0.0/8" }));
                keys
            };
            (what, "bridge", Box::new(make))
        })
        .collect()
}

fn name(number: usize) -> String {
    format!("name{number}")
}

fn port(number: usize) -> usize {
    number % 65_535 + 1
}

fn link(number: usize) -> Value {
    json!({ "container": name(number), "alias": name(number), "ports": [{ "port": 80 }] })
}

/// What the plugins before have made, as chained plugins read it.
const PREVIOUS: [(&str, fn() -> Value); 4] = [
    (
        "addresses of prevResult",
        || json!({ "ips": list(|number| json!({ "interface": 2, "address": format!("{}/8", address(number)) })) }),
    ),
    (
        "routes of prevResult",
        || json!({ "routes": list(|number| json!({ "dst": format!("{}/32", address(number)) })) }),
    ),
    (
        "interfaces of prevResult",
        || json!({ "interfaces": list(|number| json!({ "name": format!("if{number}") })) }),
    ),
    (
        "servers of prevResult",
        || json!({ "dns": { "nameservers": list(address), "search": list(name), "options": list(name) } }),
    ),
];

/// Keys of chained plugins.
const CHAINED: [(&str, &str, fn() -> Value); 14] = [
    (
        "ports",
        "portmap",
        || json!({ "runtimeConfig": { "portMappings": list(|number| json!({ "hostPort": port(number), "containerPort": 80, "protocol": "tcp" })) } }),
    ),
    (
        "overlapping ranges",
        "portmap",
        || json!({ "runtimeConfig": { "portMappings": list(|number| json!({ "hostPort": 1, "containerPort": 1, "protocol": "udp", "range": 65_535 - number % 60_000 })) } }),
    ),
    (
        "addresses of the host",
        "portmap",
        || json!({ "runtimeConfig": { "portMappings": list(|number| json!({ "hostPort": 80, "containerPort": 80, "hostIP": address(number), "protocol": "tcp" })) } }),
    ),
    (
        "conditions",
        "portmap",
        || json!({ "conditionsV4": list(|_| "ip saddr 10.0.0.1"), "runtimeConfig": { "portMappings": [{ "hostPort": 80, "containerPort": 80 }] } }),
    ),
    (
        "trusted interfaces",
        "firewall",
        || json!({ "directAccess": "closed", "trustedInterfaces": list(|number| format!("if{number}")) }),
    ),
    (
        "links",
        "firewall",
        || json!({ "icc": false, "links": list(link) }),
    ),
    (
        "ports of a link",
        "firewall",
        || json!({ "icc": false, "links": [{ "container": "x", "ports": list(|number| json!({ "port": port(number) })) }] }),
    ),
    (
        "aliases",
        "firewall",
        || json!({ "icc": false, "runtimeConfig": { "aliases": list(name) } }),
    ),
    (
        "aliases",
        "dns",
        || json!({ "runtimeConfig": { "aliases": list(name) } }),
    ),
    ("links", "dns", || json!({ "links": list(link) })),
    ("upstreams", "dns", || json!({ "upstreams": list(address) })),
    (
        "servers",
        "dns",
        || json!({ "runtimeConfig": { "dns": { "servers": list(address), "searches": list(name), "options": list(name) } } }),
    ),
    ("sysctls", "tuning", || {
        let all = (0..MANY).map(|number| (format!("net.core.{}", name(number)), json!("1")));
        json!({ "sysctl": all.collect::<serde_json::Map<String, Value>>() })
    }),
    ("gateways", "sbr", || json!({ "gateways": list(address) })),
];

fn of_chained() -> Vec<Case<'static>> {
    let mut cases: Vec<Case<'static>> = Vec::new();
    for kind in ["portmap", "firewall", "dns", "tuning", "bandwidth", "sbr"] {
        for (what, previous) in PREVIOUS {
            cases.push((
                what,
                kind,
                Box::new(move || json!({ "prevResult": previous() })),
            ));
        }
    }
    for (what, kind, keys) in CHAINED {
        let make = move || {
            let mut keys = keys();
            keys["prevResult"] = json!({});
            if ["portmap", "firewall", "dns"].contains(&kind) {
                keys["backend"] = json!("nftables");
            }
            keys
        };
        cases.push((what, kind, Box::new(make)));
    }
    cases
}

/// Says that the process is alone with this test.
const ALONE: &str = "PONTOON_SIZES_ALONE";

/// In a process of its own, since it counts what all children of the process take.
#[test]
fn every_long_list_is_judged_in_time() -> Outcome {
    if std::env::var_os(ALONE).is_none() {
        let program = std::env::current_exe().map_err(Failure::act("find this program"))?;
        let output = Command::new(program)
            .args(["--exact", "--nocapture"])
            .arg("protocol::sizes::every_long_list_is_judged_in_time")
            .env(ALONE, "1")
            .output()
            .map_err(Failure::act("run this test alone"))?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        return match output.status.success() && text.contains("1 passed") {
            true => Ok(()),
            false => wrong(text),
        };
    }
    let site = Site::new(Backend::Nftables)?;
    let leases = Scratch::new("leases")?;
    let cases = [of_addresses(&leases), of_bridge(&leases), of_chained()];
    for (what, kind, keys) in slice("long lists", cases.into_iter().flatten(), TRIED) {
        judge(&site, what, kind, keys())?;
    }
    Ok(())
}

/// What is read is bounded itself.
#[test]
fn a_configuration_of_any_length_is_refused() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let container = Container::new("long")?;
    let stdin = json!({
        "cniVersion": "1.1.0", "name": "long", "type": "tuning", "unknown": "x".repeat(9_000_000),
    });
    let runtime = site.runtime();
    let call = runtime.attachment_call("ADD", &stdin, &Attachment::new(&container));
    let finished = runtime.call("tuning", &call)?;
    if finished.status == Some(1) && finished.stdout.contains("longer than") {
        Ok(())
    } else {
        wrong(format!("{:?}", finished.status))
    }
}
