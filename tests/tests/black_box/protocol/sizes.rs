//! Long lists: no configuration of bounded size takes long to judge, whichever list of it is long.
//! Time is counted as the processor's: other tests run meanwhile.

use std::fs;

use pontoon_lab::{Attachment, Backend, Container, Failure, Outcome, Scratch, Site};
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

/// One test, since it counts what all children of the process take.
#[test]
fn every_long_list_is_judged_in_time() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let leases = Scratch::new("leases")?;
    let range = |number: usize| json!({ "subnet": format!("{}/28", address(number * 16)) });
    let addresses = [
        ("ranges of a set", json!({ "ranges": [list(range)] })),
        (
            "range sets",
            json!({ "ranges": list(|number| [range(number)]) }),
        ),
        (
            "one range again and again",
            json!({ "ranges": [list(|_| range(1))] }),
        ),
        (
            "excluded addresses",
            json!({ "subnet": "10.0.0.0/8", "exclude": list(|number| address(number * 2 + 5)) }),
        ),
        (
            "routes",
            json!({ "subnet": "10.0.0.0/8", "routes": list(|number| json!({ "dst": format!("{}/32", address(number)) })) }),
        ),
    ];
    for (what, keys) in &addresses {
        for kind in ["host-local", "bridge", "ptp"] {
            let keys = json!({ "ipam": leased(&leases, keys.clone()) });
            judge(&site, what, kind, keys)?;
        }
    }
    let wide = || leased(&leases, json!({ "subnet": "10.0.0.0/8" }));
    let spread = || leased(&leases, json!({ "ranges": [list(range)] }));
    let asked = list(|number| address(number * 3));
    for (what, ipam) in [
        ("requested addresses", wide()),
        ("of many ranges", spread()),
    ] {
        let keys = json!({ "ipam": ipam, "runtimeConfig": { "ips": asked } });
        judge(&site, what, "host-local", keys)?;
    }
    let written = |number: usize| json!({ "address": format!("{}/24", address(number)), "gateway": address(number | 1) });
    for kind in ["static", "bridge", "ptp", "macvlan"] {
        let ipam = json!({ "type": "static", "addresses": list(written) });
        judge(
            &site,
            "addresses",
            kind,
            json!({ "master": "eth0", "ipam": ipam }),
        )?;
    }
    let name = |number: usize| format!("name{number}");
    for (what, keys) in [
        (
            "snat",
            json!({ "snatUnchecked": true, "snat": list(|number| json!({ "source": "192.0.2.7", "out": format!("if{number}") })) }),
        ),
        (
            "trunk",
            json!({ "vlanTrunk": list(|number| json!({ "minID": 1, "maxID": 4094 - number % 4000 })) }),
        ),
        (
            "servers",
            json!({ "dns": { "nameservers": list(address), "search": list(name) } }),
        ),
        (
            "aliases",
            json!({ "runtimeConfig": { "aliases": list(name) } }),
        ),
    ] {
        let mut keys = keys;
        keys["ipam"] = wide();
        judge(&site, what, "bridge", keys)?;
    }
    for kind in ["portmap", "firewall", "dns", "tuning", "bandwidth", "sbr"] {
        for (what, previous) in [
            (
                "addresses of prevResult",
                json!({ "ips": list(|number| json!({ "interface": 2, "address": format!("{}/8", address(number)) })) }),
            ),
            (
                "routes of prevResult",
                json!({ "routes": list(|number| json!({ "dst": format!("{}/32", address(number)) })) }),
            ),
            (
                "interfaces of prevResult",
                json!({ "interfaces": list(|number| json!({ "name": format!("if{number}") })) }),
            ),
            (
                "servers of prevResult",
                json!({ "dns": { "nameservers": list(address), "search": list(name), "options": list(name) } }),
            ),
        ] {
            judge(&site, what, kind, json!({ "prevResult": previous }))?;
        }
    }
    let port = |number: usize| number % 65_535 + 1;
    for (what, keys) in [
        (
            "ports",
            json!({ "runtimeConfig": { "portMappings": list(|number| json!({ "hostPort": port(number), "containerPort": 80, "protocol": "tcp" })) } }),
        ),
        (
            "overlapping ranges",
            json!({ "runtimeConfig": { "portMappings": list(|number| json!({ "hostPort": 1, "containerPort": 1, "protocol": "udp", "range": 65_535 - number % 60_000 })) } }),
        ),
        (
            "addresses of the host",
            json!({ "runtimeConfig": { "portMappings": list(|number| json!({ "hostPort": 80, "containerPort": 80, "hostIP": address(number), "protocol": "tcp" })) } }),
        ),
        (
            "conditions",
            json!({ "conditionsV4": list(|_| "ip saddr 10.0.0.1"), "runtimeConfig": { "portMappings": [{ "hostPort": 80, "containerPort": 80 }] } }),
        ),
    ] {
        let mut keys = keys;
        (keys["prevResult"], keys["backend"]) = (json!({}), json!("nftables"));
        judge(&site, what, "portmap", keys)?;
    }
    let link = |number: usize| json!({ "container": name(number), "alias": name(number), "ports": [{ "port": 80 }] });
    for (what, keys) in [
        (
            "trusted interfaces",
            json!({ "directAccess": "closed", "trustedInterfaces": list(|number| format!("if{number}")) }),
        ),
        ("links", json!({ "icc": false, "links": list(link) })),
        (
            "ports of a link",
            json!({ "icc": false, "links": [{ "container": "x", "ports": list(|number| json!({ "port": port(number) })) }] }),
        ),
        (
            "aliases",
            json!({ "icc": false, "runtimeConfig": { "aliases": list(name) } }),
        ),
    ] {
        let mut keys = keys;
        (keys["prevResult"], keys["backend"]) = (json!({}), json!("nftables"));
        judge(&site, what, "firewall", keys)?;
    }
    for (what, keys) in [
        (
            "aliases",
            json!({ "runtimeConfig": { "aliases": list(name) } }),
        ),
        ("links", json!({ "links": list(link) })),
        ("upstreams", json!({ "upstreams": list(address) })),
        (
            "servers",
            json!({ "runtimeConfig": { "dns": { "servers": list(address), "searches": list(name), "options": list(name) } } }),
        ),
    ] {
        let mut keys = keys;
        (keys["prevResult"], keys["backend"]) = (json!({}), json!("nftables"));
        judge(&site, what, "dns", keys)?;
    }
    let sysctls: serde_json::Map<String, Value> = (0..MANY)
        .map(|number| (format!("net.core.{}", name(number)), json!("1")))
        .collect();
    judge(
        &site,
        "sysctls",
        "tuning",
        json!({ "prevResult": {}, "sysctl": sysctls }),
    )?;
    let gateways = json!({ "prevResult": {}, "gateways": list(address) });
    judge(&site, "gateways", "sbr", gateways)
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
