//! `pontoon ip-forward`: reads the settings, tells what they mean, mends them on request.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use pontoon_attach::forwarding;
use pontoon_conf::OperationError;
use pontoon_ledger::{NetworkRecord, State};
use pontoon_netlink::{RouteEntry, RouteSocket, solicit_routers, sysctl};
use serde::Serialize;

use crate::doctor::{self, Finding, uplink};
use crate::findings::{Bridge, Facts, Setting, Verdict, judge, value};
use crate::report::Failure;

/// How long a router may take to answer a solicitation (RFC 4861, `MIN_DELAY_BETWEEN_RAS`).
const ROUTERS_ANSWER: Duration = Duration::from_secs(3);

#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    facts: &'a Facts,
    #[serde(flatten)]
    verdict: &'a Verdict,
    fixed: &'a [String],
    /// What else decides: reverse-path filter, FORWARD, bridged packets.
    findings: &'a [Finding],
}

/// Exit code 0: containers can reach the outside as far as forwarding goes; 1: they cannot, or
/// something stands in the way of some.
pub(crate) fn run(fix: bool, json: bool) -> ExitCode {
    match report(fix, json) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("pontoon: {error}");
            ExitCode::FAILURE
        }
    }
}

fn report(fix: bool, json: bool) -> Result<bool, String> {
    let mut facts = gather()?;
    let mut verdict = judge(&facts);
    let mut fixed = Vec::new();
    if fix && !verdict.mend.is_empty() {
        fixed = mend(&mut verdict)?;
        facts = gather()?;
        verdict = judge(&facts);
    }
    let findings = doctor::of_forwarding().map_err(|failure| match failure {
        Failure::NotFound(text) | Failure::Failed(text) => text,
    })?;
    let text = if json {
        let report = Report {
            facts: &facts,
            verdict: &verdict,
            fixed: &fixed,
            findings: &findings,
        };
        serde_json::to_string_pretty(&report).map_err(|error| error.to_string())? + "\n"
    } else {
        table(&facts, &verdict, &fixed) + &others(&findings)
    };
    let written = std::io::stdout().lock().write_all(text.as_bytes());
    written.map_err(|error| format!("cannot write to standard output: {error}"))?;
    Ok(verdict.ok && findings.is_empty())
}

/// Sets what the verdict names; tells which parameters.
fn mend(verdict: &mut Verdict) -> Result<Vec<String>, String> {
    let set = |path: &str| {
        let value = value(path);
        sysctl::write_if_different(path, value).map_err(|error| {
            format!(
                "cannot set /proc/sys/{path} to {value}: {error}\nhint: run as root, on the host"
            )
        })
    };
    let mut host =
        RouteSocket::open().map_err(|error| format!("cannot open a route socket: {error}"))?;
    let mut fixed = std::mem::take(&mut verdict.mend);
    if fixed.iter().any(|path| path.starts_with("net/ipv6")) {
        // Before IPv6 forwarding is written, that of one bridge included: it deletes the routes of all interfaces.
        let kept = forwarding::keep_advertised(&mut host).map_err(|error| error.to_string())?;
        let mut kept: Vec<String> = kept
            .iter()
            .map(|name| forwarding::accept_ra(name))
            .collect();
        kept.retain(|path| !fixed.contains(path));
        fixed.splice(..0, kept);
    }
    for path in &fixed {
        set(path)?;
    }
    solicit(&mut host)?;
    Ok(fixed)
}

/// Asks for the default route that was lost: the next advertisement that comes unasked may be half an hour away.
fn solicit(host: &mut RouteSocket) -> Result<(), String> {
    let failed = |error| format!("cannot list the host's IPv6 routes: {error}");
    let deadline = Instant::now() + ROUTERS_ANSWER;
    let mut asked = false;
    while Instant::now() < deadline {
        let routes = host.routes(false).map_err(failed)?;
        if routes.iter().any(RouteEntry::is_default) {
            break;
        }
        if !asked {
            asked = true;
            let mut listening = 0;
            for link in host.links().map_err(failed)? {
                let accepts = sysctl::read(&forwarding::accept_ra(&link.name));
                if link.up && accepts.is_ok_and(|value| value == "2") {
                    // Where no router can be asked, none answers.
                    listening += usize::from(solicit_routers(link.index).is_ok());
                }
            }
            if listening == 0 {
                break;
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn others(findings: &[Finding]) -> String {
    let lines = findings.iter().map(|finding| {
        format!(
            "{}: {}\nhint: {}\n",
            finding.object, finding.meaning, finding.mend
        )
    });
    lines.collect()
}

fn gather() -> Result<Facts, String> {
    let mut host =
        RouteSocket::open().map_err(|error| format!("cannot open a route socket: {error}"))?;
    let links = host
        .links_of_kind("bridge")
        .map_err(|error| format!("cannot list the host's bridges: {error}"))?;
    let mut bridges = Vec::new();
    let state = State::locate().map_err(|error| error.to_string())?;
    for link in links {
        let ours = link
            .alias
            .as_deref()
            .is_some_and(|alias| alias.starts_with("pontoon "));
        if !ours {
            continue;
        }
        let addresses = host
            .addresses(link.index)
            .map_err(|error| format!("cannot list the addresses of {}: {error}", link.name))?;
        let alias = link.alias.as_deref();
        let record = match alias.and_then(|alias| alias.strip_prefix("pontoon ")) {
            Some(network) => state
                .read_network::<NetworkRecord>(network)
                .map_err(|error| format!("{error}; {}", error.next_step()))?,
            None => None,
        };
        bridges.push(Bridge {
            up: link.up,
            addresses: addresses
                .iter()
                .filter(|address| !matches!(address.cidr.ip(), std::net::IpAddr::V6(ip) if ip.is_unicast_link_local()))
                .map(|address| address.cidr.to_string())
                .collect(),
            internal: record.is_some_and(|record| record.internal),
            ipv4_forward: read(&format!("net/ipv4/conf/{}/forwarding", link.name)),
            ipv6_forward: read(&format!("net/ipv6/conf/{}/forwarding", link.name)),
            name: link.name,
        });
    }
    let links = host
        .links()
        .map_err(|error| format!("cannot list the host's interfaces: {error}"))?;
    let cut = uplink::cut(&mut host, &links, &[true, false]).map_err(|failure| match failure {
        Failure::NotFound(text) | Failure::Failed(text) => text,
    })?;
    Ok(Facts {
        no_way_out: cut.map(|cut| cut.text()),
        ipv4_forward: read("net/ipv4/ip_forward"),
        ipv6_forward: read("net/ipv6/conf/all/forwarding"),
        bridges,
        lost_router_advertisements: forwarding::lost_router_advertisements(&mut host)
            .map_err(|error| format!("cannot list the host's IPv6 routes: {error}"))?
            .into_iter()
            .map(|lost_router_advertisements| lost_router_advertisements.interface)
            .collect(),
    })
}

fn read(path: &str) -> Setting {
    Setting::from_text(sysctl::read(path).ok().as_deref())
}

fn table(facts: &Facts, verdict: &Verdict, fixed: &[String]) -> String {
    let mut rows = vec![
        (
            "net.ipv4.ip_forward".to_owned(),
            facts.ipv4_forward.as_str().to_owned(),
        ),
        (
            "net.ipv6.conf.all.forwarding".to_owned(),
            facts.ipv6_forward.as_str().to_owned(),
        ),
    ];
    for bridge in &facts.bridges {
        let state = if bridge.up { "" } else { " (down)" };
        let internal = if bridge.internal { ", internal" } else { "" };
        let settings = format!(
            "ipv4 {}, ipv6 {}, {}{internal}{state}",
            bridge.ipv4_forward.as_str(),
            bridge.ipv6_forward.as_str(),
            if bridge.addresses.is_empty() {
                "no address".to_owned()
            } else {
                bridge.addresses.join(" ")
            }
        );
        rows.push((format!("bridge {}", bridge.name), settings));
    }
    let width = rows
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or_default();
    let mut text = String::new();
    for (name, value) in rows {
        text.push_str(&format!("{name:width$}  {value}\n"));
    }
    for path in fixed {
        text.push_str(&format!(
            "set {} to {}\n",
            path.replace('/', "."),
            value(path)
        ));
    }
    text.push_str(&format!("{}\n", verdict.summary));
    if !verdict.mend.is_empty() {
        text.push_str("hint: pontoon ip-forward --fix\n");
    }
    text
}
