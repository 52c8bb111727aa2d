//! What etcd's members and the files for TLS tell, by way of the agent.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use super::{Finding, agent};

/// A certificate that ends sooner than this is told, in days.
const SOON: i64 = 30;
const DAY: i64 = 24 * 60 * 60;
/// Parts of its quota, in hundredths, from which on a member is told.
const NEARLY: i64 = 75;
/// Revisions from which on a member that has compacted none is told: in a cluster that is this old or this busy,
/// `--auto-compaction-retention` would have compacted some.
const MANY: i64 = 10_000;
/// What the second host of a block does about it takes less than this.
const GIVING_UP: Duration = Duration::from_millis(1000);

/// What the agent tells, see `check` in plugins/node.
#[derive(Debug, Deserialize)]
struct Check {
    members: Vec<Member>,
    disputed: Vec<Disputed>,
    certificates: Vec<Certificate>,
}

#[derive(Debug, Deserialize)]
struct Member {
    endpoint: String,
    error: Option<String>,
    bytes: i64,
    quota: i64,
    problems: Vec<String>,
    revision: i64,
    has_first_revision: bool,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Disputed {
    network: String,
    block: String,
    owner: String,
    others: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Certificate {
    file: String,
    ends: Option<i64>,
    error: Option<String>,
}

pub(super) fn judge(socket: &Path, findings: &mut Vec<Finding>) {
    let ask = || agent::ask::<Check>(socket, "check");
    let mut check = match ask() {
        Ok(check) => check,
        Err(why) => {
            eprintln!("pontoon: what etcd's members tell is not looked at: {why}");
            return;
        }
    };
    if !check.disputed.is_empty() {
        std::thread::sleep(GIVING_UP);
        let again = ask().map(|again| again.disputed).unwrap_or_default();
        check.disputed.retain(|one| again.contains(one));
    }
    for member in &check.members {
        member.judge(findings);
    }
    // Values are the same on all members.
    let old = check
        .members
        .iter()
        .find(|one| one.has_first_revision && one.revision >= MANY);
    if let Some(member) = old {
        findings.push(
            Finding::new("etcd-not-compacted", "etcd")
                .means("etcd keeps every value that a key ever had, until its quota is full and it takes no more")
                .seen(format!(
                    "{} has {} revisions and still answers for the first one",
                    member.endpoint, member.revision
                ))
                .advice(format!(
                    "etcdctl compact {}, and start each member with --auto-compaction-retention=1h \
                     (ETCD_AUTO_COMPACTION_RETENTION)",
                    member.revision
                )),
        );
    }
    for one in &check.disputed {
        findings.push(
            Finding::new("block-with-two-owners", format!("block {} of network {}", one.block, one.network))
                .means("two hosts may give its addresses to containers; packets go to the host that confirmed it first")
                .seen(format!("host {} confirmed it first, then {}", one.owner, one.others.join(", ")))
                .advice(format!(
                    "start pontoon-node on {0}: it gives the block up and names the containers to restart; a host that \
                     is off for good: pontoon node forget HOST",
                    one.others.join(", ")
                )),
        );
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    for one in &check.certificates {
        findings.extend(one.judge(now));
    }
}

impl Member {
    fn judge(&self, findings: &mut Vec<Finding>) {
        let endpoint = &self.endpoint;
        if let Some(error) = &self.error {
            findings.push(
                Finding::new("etcd-member-silent", endpoint)
                    .means("etcd goes on while more than half of its members answer each other; one less is left to fail")
                    .seen(error)
                    .advice("start the member, let its port pass, or take it out of `etcd.endpoints` in /etc/pontoon/node.toml"),
            );
            return;
        }
        let megabytes = |bytes: i64| bytes / 1_000_000;
        let sizes = format!(
            "{} MB of {} MB",
            megabytes(self.bytes),
            megabytes(self.quota)
        );
        let full = self
            .problems
            .iter()
            .find(|one| one.contains("NOSPACE") || one.contains("space exceeded"));
        if let Some(problem) = full {
            findings.push(
                Finding::new("etcd-full", endpoint)
                    .means("etcd takes no more writes: no block is claimed, no name told, no host comes alive")
                    .seen(format!("{sizes}: {problem}"))
                    .advice(format!("etcdctl compact {}; etcdctl defrag on every member; etcdctl alarm disarm", self.revision)),
            );
        } else if self.bytes >= self.quota / 100 * NEARLY {
            findings.push(
                Finding::new("etcd-nearly-full", endpoint)
                    .means("when its quota is full, etcd takes no more writes")
                    .seen(sizes)
                    .advice(format!(
                        "etcdctl compact {}; etcdctl defrag on every member; and see --auto-compaction-retention and \
                         --quota-backend-bytes",
                        self.revision
                    )),
            );
        }
    }
}

impl Certificate {
    fn judge(&self, now: i64) -> Option<Finding> {
        let Some(ends) = self.ends else {
            let error = self.error.as_deref().unwrap_or("its end is not told");
            let finding = Finding::new("certificate-unreadable", &self.file)
                .means("the next connection to etcd fails")
                .seen(error)
                .advice("put the certificate there again (PEM), readable by root");
            return Some(finding);
        };
        let left = ends - now;
        if left > SOON * DAY {
            return None;
        }
        let (seen, means) = match left {
            ..=0 => (
                format!("it ended {} days ago", -left / DAY),
                "etcd takes no connection of this host any more",
            ),
            _ => (
                format!("it ends in {} days", left / DAY),
                "from then on etcd takes no connection of this host",
            ),
        };
        let finding = Finding::new("certificate-ends", &self.file)
            .means(means)
            .seen(seen)
            .advice("give this host a new certificate with the same name in the same file: it is read for every connection");
        Some(finding)
    }
}
