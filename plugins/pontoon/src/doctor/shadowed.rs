//! Published ports that an earlier rule of another program takes away, and rules whose attachment has
//! no record.

use std::collections::BTreeMap;
use std::net::IpAddr;

use pontoon_netfilter::is_attachment_tag;
use pontoon_passage::Rules;

use super::{CheckInput, Finding};
use crate::facts::{Attachment, Port};
use crate::report::Failure;
use crate::trace::{Asked, Protocol, Verdict, predict};

/// Ways are followed one by one.
const MOST: usize = 1000;

pub(crate) fn check(ground: &mut CheckInput, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let Some(rules) = ground.rules() else {
        return Ok(());
    };
    without_owner(ground, &rules, findings);
    // What stops all packets is told already.
    let told =
        |finding: &Finding| finding.id.starts_with("forward") || finding.id.starts_with("bridge");
    if findings.iter().any(told) {
        return Ok(());
    }
    let attachments = ground.attachments.clone();
    let ports = attachments.iter().flat_map(|one| {
        let ports = one.ports.iter().map(move |port| (one, port));
        ports.filter(|_| one.alive)
    });
    for (one, port) in ports.take(MOST) {
        for v4 in [true, false] {
            shadowed(ground, &rules, (one, port), v4, findings);
        }
    }
    Ok(())
}

fn shadowed(
    ground: &mut CheckInput,
    rules: &Rules,
    (one, port): (&Attachment, &Port),
    v4: bool,
    findings: &mut Vec<Finding>,
) {
    let Some(target) = one.ips().find(|ip| ip.is_ipv4() == v4) else {
        return;
    };
    let to = match port.host_ip {
        // No client outside reaches these.
        Some(ip) if ip.is_loopback() || ip.is_ipv4() != v4 => return,
        Some(IpAddr::V6(ip)) => format!("[{ip}]:{}", port.host_port),
        Some(ip) => format!("{ip}:{}", port.host_port),
        None => format!("host:{}", port.host_port),
    };
    let asked = Asked {
        from: "outside",
        to: &to,
        protocol: match port.protocol.as_str() {
            "tcp" => Some(Protocol::Tcp),
            "udp" => Some(Protocol::Udp),
            _ => return,
        },
        from_port: None,
        v6: !v4,
    };
    // Without a way to the outside there is nothing to look at.
    let Ok(found) = predict(&mut ground.host, rules, &asked) else {
        return;
    };
    let there = found
        .packet
        .as_ref()
        .is_some_and(|packet| packet.destination == target);
    if !found.doubts.is_empty() || (there && found.end.verdict == Verdict::Arrives) {
        return;
    }
    let decides =
        |effect: &str| ["drop", "reject"].contains(&effect) || effect.starts_with("destination ");
    let guilty = found
        .steps
        .iter()
        .rev()
        .find(|step| step.effect.as_deref().is_some_and(decides) && step.remove.is_some());
    // One of Pontoon's is as it was asked for.
    let Some(guilty) = guilty.filter(|step| {
        let chain = step.chain.as_deref().unwrap_or_default();
        let ours = |owner: &String| owner.starts_with("pontoon ");
        !chain.contains("pontoon")
            && !chain.contains("CNI-")
            && !step.owner.as_ref().is_some_and(ours)
    }) else {
        return;
    };
    let chain = guilty.chain.as_deref().unwrap_or_default();
    let effect = guilty.effect.as_deref().unwrap_or_default();
    findings.push(
        Finding::new(
            "published-port-shadowed",
            format!("{}/{}", port.host_port, port.protocol),
        )
        .means(format!(
            "who connects to the port from outside does not come to container {}",
            one.id
        ))
        .seen(format!("{chain}: {}: {effect}", guilty.what))
        .mend(guilty.remove.clone().unwrap_or_default())
        .of_container(&one.id),
    );
}

/// Rules and elements that carry the tag of an attachment of which there is no record.
fn without_owner(ground: &CheckInput, rules: &Rules, findings: &mut Vec<Finding>) {
    // Behind another vendor's plugin the records of portmap, firewall and dns stand alone.
    let known = ground.host.tags();
    let tag_without_record = |owner: &Option<String>| {
        let tag = owner.as_ref()?;
        (is_attachment_tag(tag) && !known.contains(tag)).then(|| tag.clone())
    };
    let mut found: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for table in &rules.tables {
        for (name, elements) in &table.sets {
            for element in elements {
                if let Some(tag) = tag_without_record(&element.owner) {
                    let what = format!("{}, {name}: {}", table.name, element.text);
                    let command = format!(
                        "nft delete element {} {name} '{{ {} }}'",
                        table.name, element.text
                    );
                    found.entry(tag).or_default().push((what, command));
                }
            }
        }
        for rule in table.chains.values().flat_map(|chain| &chain.rules) {
            if let Some(tag) = tag_without_record(&rule.owner) {
                let what = format!("{}: {}", table.name, rule.text);
                found
                    .entry(tag)
                    .or_default()
                    .push((what, rule.remove.clone()));
            }
        }
    }
    for (tag, rules) in found {
        let (seen, commands): (Vec<String>, Vec<String>) = rules.into_iter().unzip();
        findings.push(
            Finding::new("rules-without-container", &tag)
                .means("packets are led to a container that is not there")
                .seen(format!(
                    "{}; of this owner there is no record",
                    seen.join("; ")
                ))
                .mend(commands.join("; ")),
        );
    }
}
