//! Whether our own rules are there, and whether their backend can be used.

use pontoon_attach::{repair, rules};
use pontoon_conf::Error;
use pontoon_netfilter::{BackendKind, Ruleset};

use super::{CheckInput, Finding};
use crate::facts::backend_name;
use crate::report::Failure;

pub(crate) fn check(ground: &mut CheckInput, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let used = ground
        .networks
        .iter()
        .filter(|network| network.containers > 0);
    for network in used {
        let mut differences = Vec::new();
        let mut wanted: Vec<(BackendKind, Vec<Ruleset>)> = Vec::new();
        let (rulesets, unreadable) = repair::wanted(&ground.host.state, &network.name);
        // A record that cannot be read has no rules here: what it asks for is not known.
        for error in unreadable {
            findings.push(
                Finding::new("record-unreadable", format!("network {}", network.name))
                    .means("what belongs to the record is neither checked nor repaired, and its DEL fails")
                    .seen(error.msg)
                    .advice(error.details),
            );
        }
        for (kind, ruleset) in rulesets {
            match wanted.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, rulesets)) => rulesets.push(ruleset),
                None => wanted.push((kind, vec![ruleset])),
            }
        }
        for (kind, rulesets) in wanted {
            match verify(ground, kind, &rulesets) {
                Ok(found) => differences.extend(found),
                Err(error) => unusable(kind, &error, findings),
            }
        }
        differences.dedup();
        if differences.is_empty() {
            continue;
        }
        let finding = Finding::new("rules-missing", format!("network {}", network.name))
            .means("containers do not reach the outside, their published ports do not lead to them, or they reach what they should not")
            .seen(differences.join("; "))
            .mend(format!("pontoon repair {}", network.name))
            .safe();
        findings.push(match &network.bridge {
            Some(bridge) => finding.of_bridge(bridge),
            None => finding,
        });
    }
    Ok(())
}

fn verify(
    ground: &CheckInput,
    kind: BackendKind,
    rulesets: &[Ruleset],
) -> Result<Vec<String>, Error> {
    let mut backend = rules::open_in(&ground.host.state, &ground.search, kind)?;
    let differences = backend.verify_all(rulesets);
    differences.map_err(rules::error)
}

fn unusable(kind: BackendKind, error: &Error, findings: &mut Vec<Finding>) {
    let name = backend_name(kind);
    let told = |found: &Finding| found.id == "backend-unusable" && found.object == name;
    if findings.iter().any(told) {
        return;
    }
    let package = match kind {
        BackendKind::Nftables => "nftables",
        _ => "iptables",
    };
    findings.push(
        Finding::new("backend-unusable", name)
            .means("rules of this backend can be neither made nor removed")
            .seen(error.to_string())
            .mend(format!("apt-get install {package}")),
    );
}
