//! What the agent knows: `pontoon-node status`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Finding;

/// For how long an answer is waited for: a member of etcd may take 1.5 s.
const PATIENCE: Duration = Duration::from_secs(4);

/// What is read of the agent's status.
#[derive(Debug, Deserialize)]
pub(super) struct Agent {
    etcd: Link,
    hosts: BTreeMap<String, bool>,
    warnings: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Link {
    connected: bool,
    error: Option<String>,
    seconds: u64,
}

/// Asks at the control socket; what is wrong when there is no answer.
pub(super) fn ask<T: DeserializeOwned>(socket: &Path, command: &str) -> Result<T, String> {
    let talk = || -> io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{command}\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = talk()
        .map_err(|error| format!("no pontoon-node answers at {}: {error}", socket.display()))?;
    serde_json::from_str(&answer).map_err(|error| {
        format!(
            "pontoon-node answers {command} with {:?}: {error}",
            answer.trim()
        )
    })
}

impl Agent {
    pub(super) fn ask(socket: &Path) -> Result<Self, String> {
        ask(socket, "status")
    }

    pub(super) fn etcd_answers(&self) -> bool {
        self.etcd.connected
    }

    pub(super) fn dead_hosts(&self) -> BTreeSet<String> {
        let dead = self.hosts.iter().filter(|(_, alive)| !**alive);
        dead.map(|(host, _)| host.clone()).collect()
    }

    pub(super) fn judge(&self, findings: &mut Vec<Finding>) {
        if !self.etcd.connected {
            let error = self.etcd.error.as_deref().unwrap_or("no connection");
            findings.push(
                Finding::new("etcd-silent", "etcd")
                    .means(
                        "etcd does not answer: this host learns nothing new of the others and tells them nothing, \
                         while packets go on and containers start from the blocks on disk",
                    )
                    .seen(format!("for {} s: {error}", self.etcd.seconds))
                    .advice("start more than half of etcd's members (systemctl status etcd), and see that this host reaches one"),
            );
        } else {
            // While etcd is away, who is alive is what was known before.
            for host in self.dead_hosts() {
                findings.push(
                    Finding::new("host-dead", format!("host {host}"))
                        .means("its containers' names are not answered any more, and it learns of no change; its blocks stay its own")
                        .seen("it has not renewed its lease in etcd for 10 s or more")
                        .advice(format!(
                            "start the host, or pontoon-node on it; when it is off for good: pontoon node forget {host}"
                        )),
                );
            }
        }
        for (about, warning) in &self.warnings {
            findings.push(
                Finding::new("agent-warns", about)
                    .means("pontoon-node cannot bring this in line with what is wanted")
                    .seen(warning)
                    .advice("do what the evidence says; pontoon-node status shows what is left"),
            );
        }
    }
}
