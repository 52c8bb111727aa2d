//! Networks of several hosts: what the agent of this host knows, what the kernel has of the tunnels, and whether packets
//! get to the other hosts. A host without such networks costs two looks for files.

mod agent;
mod etcd;
mod packets;
mod paths;

use std::collections::BTreeSet;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use pontoon_ledger::overlay::OverlayFiles;
use pontoon_overlay::tunnel::{self, Wanted};

use super::{CheckInput, Finding};
use crate::node;
use crate::report::Failure;
use agent::Agent;

/// An agent that runs mends what is deleted within 200 ms.
const MENDING: Duration = Duration::from_millis(500);
/// Differences that are told one by one.
const TOLD: usize = 4;

pub(crate) const KINDS: &[&str] = &[
    "agent-not-running",
    "agent-warns",
    "block-with-two-owners",
    "certificate-ends",
    "certificate-unreadable",
    "etcd-full",
    "etcd-member-silent",
    "etcd-nearly-full",
    "etcd-not-compacted",
    "etcd-silent",
    "host-dead",
    "tunnel-entries-wrong",
    "checksum-offload-broken",
    "clocks-apart",
    "host-unreachable",
    "tunnel-blocked",
    "tunnel-mtu",
];

pub(crate) fn check(ground: &mut CheckInput, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let files = OverlayFiles::locate()?;
    let socket = ground.host.state.node_socket();
    let names = files.networks()?;
    if names.is_empty() && !socket.exists() {
        return Ok(());
    }
    let mut networks = Vec::new();
    for name in &names {
        networks.extend(Wanted::read(&files, name)?);
    }
    let agent = Agent::ask(&socket);
    match &agent {
        Ok(agent) => {
            agent.judge(findings);
            if agent.etcd_answers() {
                etcd::judge(&socket, findings);
            }
        }
        Err(why) => findings.push(
            Finding::new("agent-not-running", "pontoon-node")
                .means(
                    "this host learns nothing of the others and mends no tunnel; 10 s after its end the others count \
                     this host as dead, and its containers' names are not known there",
                )
                .seen(why.clone())
                .mend("systemctl start pontoon-node")
                .advice("journalctl -u pontoon-node says why it ended"),
        ),
    }
    let running = agent.is_ok();
    // Why packets of a network are lost whose tables are wrong is known.
    networks.retain(|network| tables(ground, network, running, findings));
    let dead = agent.map(|agent| agent.dead_hosts()).unwrap_or_default();
    paths::check(ground, &networks, &dead, findings)
}

/// The hosts whose lease has run out, as the agent at this socket knows; why it does not answer.
pub(crate) fn dead_hosts(socket: &Path) -> Result<BTreeSet<String>, String> {
    Agent::ask(socket).map(|agent| agent.dead_hosts())
}

/// Whether the three tables are as the files of the agent say.
fn tables(
    ground: &mut CheckInput,
    wanted: &Wanted,
    running: bool,
    findings: &mut Vec<Finding>,
) -> bool {
    let network = &wanted.network.network;
    let mut look = || tunnel::differences(&mut ground.host.socket, wanted);
    let mut found = look();
    if running && found.as_ref().is_ok_and(|found| !found.is_empty()) {
        sleep(MENDING);
        // What is there at both times is not being mended.
        let again = look();
        found = found.and_then(|before| {
            let both = again?.into_iter().filter(|one| before.contains(one));
            Ok(both.collect())
        });
    }
    let evidence = match found {
        Ok(found) if found.is_empty() => return true,
        Ok(found) => {
            let more = match found.len().saturating_sub(TOLD) {
                0 => String::new(),
                more => format!("; and {more} more"),
            };
            format!("{}{more}", found[..found.len().min(TOLD)].join("; "))
        }
        Err(error) => error.to_string(),
    };
    findings.push(
        Finding::new("tunnel-entries-wrong", format!("network {network}"))
            .means("packets to containers of other hosts are lost, or go to the wrong host")
            .seen(evidence)
            .mend(format!("{} --once", node::program()))
            .advice("while pontoon-node runs it compares the tables every 10 s and says what it cannot write"),
    );
    false
}
