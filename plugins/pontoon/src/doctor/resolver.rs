//! The resolver, and the servers that it and the containers are to ask.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use pontoon_dns::probe::{PATIENCE, silent};
use pontoon_dns::record::Record;
use pontoon_dns::resolv_conf::{ClientNetwork, source};
use pontoon_ledger::{DnsRecord, files};

use super::{CheckInput, Finding};
use crate::dns;
use crate::report::Failure;

pub(crate) fn check(ground: &mut CheckInput, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let state = &ground.host.state;
    let records: Vec<DnsRecord> = ground.host.records()?;
    let records: Vec<Record> = records.into_iter().map(|one| one.record).collect();
    // Without a gateway to listen at it serves no container: `serve: none`.
    let served: BTreeSet<&str> = records
        .iter()
        .filter(|record| !record.gateways.is_empty())
        .map(|record| record.network.as_str())
        .collect();
    if !served.is_empty() {
        match dns::kept_privileges(state) {
            Err(error) => {
                let networks: Vec<&str> = served.into_iter().collect();
                findings.push(
                    Finding::new("resolver-not-running", "pontoon-dns")
                        .means(format!(
                            "the containers of {} resolve no name at all",
                            networks.join(", ")
                        ))
                        .seen(error)
                        .mend("pontoon dns start")
                        .safe(),
                );
            }
            Ok(kept) if !kept.is_empty() => findings.push(
                Finding::new("resolver-privileged", "pontoon-dns")
                    .means("a fault in what reads containers' questions would give more away than it should")
                    .seen(format!("the process that answers questions: {}", kept.join("; ")))
                    .advice("start the resolver as root with the capabilities of conf/systemd/pontoon-dns.service, on a kernel with seccomp"),
            ),
            Ok(_) => {}
        }
    }
    // The resolver asks from the host, who is not served asks from the inside.
    let files: BTreeSet<(&Path, bool)> = records
        .iter()
        .filter(|record| record.servers.is_empty() && record.upstreams.is_empty())
        // The servers of the host are never asked for a container of an internal network.
        .filter(|record| !record.internal)
        .map(|record| (record.resolv_conf.as_path(), !record.gateways.is_empty()))
        .collect();
    let ours: Vec<IpAddr> = records
        .iter()
        .flat_map(|record| record.gateways.iter().copied())
        .collect();
    for (file, on_host) in files {
        servers(file, on_host, &ours, findings);
    }
    Ok(())
}

fn servers(file: &Path, on_host: bool, ours: &[IpAddr], findings: &mut Vec<Finding>) {
    let (used, conf): (PathBuf, _) = source(file, |path| {
        files::read_following(path, files::RESOLV_CONF).ok()
    });
    let conf = conf.unwrap_or_default();
    let audience = ClientNetwork {
        v4: true,
        v6: true,
        on_host,
        ours,
        silent: &[],
    };
    let (usable, dropped) = conf.usable(&audience);
    if usable.is_empty() {
        let why: Vec<String> = dropped
            .iter()
            .map(|(server, why)| format!("{server}: {why}"))
            .collect();
        findings.push(
            Finding::new("no-usable-server", used.display().to_string())
                .means(match on_host {
                    true => "containers resolve each other's names and no others",
                    false => "containers resolve no names",
                })
                .seen(match why.is_empty() {
                    true => "it names no server".to_owned(),
                    false => format!("of its servers none can be asked: {}", why.join(", ")),
                })
                .advice(format!(
                    "name a server in {} by the means of what writes that file (systemd-resolved, NetworkManager, netplan, DHCP), or give the network servers of its own: key \"upstreams\" of the plugin dns",
                    used.display()
                )),
        );
        return;
    }
    let addresses: Vec<IpAddr> = usable.iter().map(|server| server.address).collect();
    // Both kinds of networks may name the same file.
    let told = |server: &IpAddr, findings: &[Finding]| {
        let mut all = findings.iter();
        all.any(|one| one.id == "server-silent" && one.object == server.to_string())
    };
    for server in silent(&addresses) {
        if told(&server, findings) {
            continue;
        }
        findings.push(
            Finding::new("server-silent", server.to_string())
                .means("names that are not of containers are answered late, or not at all")
                .seen(format!(
                    "{} names it, and it has not answered for {} ms",
                    used.display(),
                    PATIENCE.as_millis()
                ))
                .advice(format!(
                    "take the server out of {} by the means of what writes that file (systemd-resolved, NetworkManager, netplan, DHCP), or let the plugin dns leave out the silent ones: key \"probe\"",
                    used.display()
                )),
        );
    }
}
