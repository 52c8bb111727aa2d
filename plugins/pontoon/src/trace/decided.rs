//! What has decided, in the words of a configuration: the network and its key, or a chain of another program
//! by its name.

use pontoon_ledger::NetworkPolicyRecord;
use pontoon_netfilter::{Ingress, Policy};
use pontoon_passage::{Hook, Packet, Step};

use super::path_end::{End, Verdict};
use crate::facts::Host;

/// Programs whose chains or tables are known by the beginning of their names.
const NEIGHBOURS: [(&str, &str); 8] = [
    ("DOCKER", "Docker"),
    ("docker", "Docker"),
    ("ufw", "ufw"),
    ("firewalld", "firewalld"),
    ("KUBE-", "kube-proxy"),
    ("cali-", "Calico"),
    ("LIBVIRT_", "libvirt"),
    ("NETAVARK", "netavark"),
];

/// One decision of a network.
struct Decision<'a> {
    record: &'a NetworkPolicyRecord,
    key: &'static str,
    value: &'static str,
    /// What would let the packet pass.
    remedy: String,
}

/// The end of a packet that a rule, or the policy of a chain, does not let pass.
pub(super) fn end(host: &Host, hook: Hook, packet: &Packet, refused: bool, step: &Step) -> End {
    let verdict = match refused {
        true => Verdict::Refused,
        false => Verdict::Dropped,
    };
    let records = records(host);
    let (table, chain) = step
        .chain
        .as_deref()
        .and_then(|chain| chain.split_once(", chain "))
        .unwrap_or_default();
    let admins = (chain, table) == ("admin", "inet pontoon")
        || chain == "CNI-ADMIN"
        || records
            .iter()
            .any(|record| record.policy.admin_chain == chain);
    let ours = table.ends_with(" pontoon") || chain.starts_with("CNI-");
    let mut end = End::new(verdict, Some(step.at.clone()), String::new());
    end.chain = step.chain.clone();
    if let Some(remove) = &step.remove {
        end.rule = Some(step.what.clone());
        end.remove = Some(remove.clone());
    }
    if ours
        && !admins
        && let Some(decision) = decide(host, &records, hook, packet, chain)
    {
        tell(&mut end, &decision);
        return end;
    }
    let rule = match &end.rule {
        Some(rule) => rule.clone(),
        None => "its policy, no rule there lets it pass".to_owned(),
    };
    end.reason = if admins {
        format!(
            "by the admin's chain {chain} of {table}: {rule}; change the rule there{}",
            end.remove
                .as_ref()
                .map_or(String::new(), |remove| format!(" ({remove})"))
        )
    } else if ours && packet.destination.is_loopback() {
        format!(
            "by the guard of {}, chain {chain} of {table}: a port published there is for this host alone; publish it on another hostIP",
            packet.destination
        )
    } else if ours {
        format!("by chain {chain} of {table}: {rule}")
    } else {
        let by = neighbour(table, chain).map_or(String::new(), |name| format!(" ({name})"));
        let inner = [&packet.in_interface, &packet.out_interface];
        let bridge = inner.into_iter().map(|name| bridge_of(host, name));
        let mut ours = bridge.filter(|name| records.iter().any(|one| one.policy.bridge == *name));
        let pass = ours
            .next()
            .map_or(String::new(), |bridge| format!("; let {bridge} pass there"));
        format!(
            "by chain {chain} of {table}{by}, which no network of Pontoon has made: {rule}{pass}"
        )
    };
    end
}

/// A frame that the bridge itself keeps from passing between two isolated ports.
pub(super) fn apart(host: &Host, bridge: &str) -> End {
    let records = records(host);
    let mut end = End::new(Verdict::Dropped, None, String::new());
    match records
        .iter()
        .find(|one| one.policy.bridge == bridge && !one.policy.icc)
    {
        Some(record) => tell(&mut end, &without_icc(record)),
        None => {
            end.key = Some("portIsolation");
            end.reason = format!(
                "by bridge {bridge}: both of its ports are isolated (portIsolation); set \"portIsolation\": false"
            );
        }
    }
    end
}

fn tell(end: &mut End, decision: &Decision<'_>) {
    let Decision {
        record,
        key,
        value,
        remedy,
    } = decision;
    let docker = record.profile.as_deref() == Some("docker");
    let of_profile = docker && matches!(*key, "isolation" | "directAccess");
    let profile = if of_profile { " (profile docker)" } else { "" };
    end.network = Some(record.policy.network.clone());
    end.key = Some(key);
    end.value = Some(value);
    end.reason = format!(
        "by network {}: {key} is {value}{profile}; {remedy}",
        record.policy.network
    );
}

/// What the networks of this host let pass.
fn records(host: &Host) -> Vec<NetworkPolicyRecord> {
    let names = host.network_names().into_iter();
    names
        .filter_map(|(name, _)| host.record_of_network(&name))
        .collect()
}

/// The bridge that an interface is a port of, else the interface itself.
fn bridge_of(host: &Host, name: &str) -> String {
    let link = host.links.iter().find(|link| link.name == name);
    let master = link.and_then(|link| host.link(link.master?));
    master
        .map_or(name, |bridge| bridge.name.as_str())
        .to_owned()
}

fn without_icc(record: &NetworkPolicyRecord) -> Decision<'_> {
    Decision {
        record,
        key: "icc",
        value: "false",
        remedy: "allow this port by links, or set icc".to_owned(),
    }
}

/// The decisions of a policy, in the order that both backends take them in.
fn decide<'a>(
    host: &Host,
    records: &'a [NetworkPolicyRecord],
    hook: Hook,
    packet: &Packet,
    chain: &str,
) -> Option<Decision<'a>> {
    let (by, out) = (
        bridge_of(host, &packet.in_interface),
        bridge_of(host, &packet.out_interface),
    );
    let on = |bridge: &str| records.iter().find(|record| record.policy.bridge == bridge);
    let (from, to) = (on(&by), on(&out));
    let with = |record: Option<&'a NetworkPolicyRecord>, is: fn(&Policy) -> bool| {
        record.filter(|record| is(&record.policy))
    };
    let decision = |record, key, value, remedy: &str| {
        Some(Decision {
            record,
            key,
            value,
            remedy: remedy.to_owned(),
        })
    };
    let no_access = |policy: &Policy| !policy.host_access;
    let barred = |record| decision(record, "hostAccess", "false", "set hostAccess");
    match hook {
        Hook::Input => return with(from, no_access).and_then(barred),
        Hook::Output => return with(to, no_access).and_then(barred),
        Hook::Prerouting | Hook::Postrouting => return None,
        Hook::Forward => {}
    }
    if chain == "ingress" || chain.starts_with("CNI-ISOLATION-STAGE") {
        let alone = with(from, |policy| policy.ingress == Ingress::Isolated).filter(|_| by == out);
        if let Some(record) = alone {
            return decision(
                record,
                "ingressPolicy",
                "isolated",
                "set ingressPolicy to open",
            );
        }
        let record = with(to, |policy| policy.ingress != Ingress::Open).or(from)?;
        let value = match record.policy.ingress {
            Ingress::Isolated => "isolated",
            _ => "same-bridge",
        };
        return decision(record, "ingressPolicy", value, "set ingressPolicy to open");
    }
    if by == out
        && let Some(record) = with(from, |policy| !policy.icc)
    {
        return Some(without_icc(record));
    }
    let internal = |policy: &Policy| policy.internal;
    if let Some(record) = with(to, internal).or(with(from, internal)) {
        return decision(
            record,
            "internal",
            "true",
            "join another network as well, or unset internal",
        );
    }
    let is_ours = |name: &str| {
        let mut links = host.links.iter().filter(|link| link.name == name);
        on(name).is_some()
            || links.any(|link| {
                let tag = link.alias.as_deref().unwrap_or_default();
                link.kind.as_deref() == Some("bridge") && tag.starts_with("pontoon ")
            })
    };
    let isolated = |policy: &Policy| policy.isolated;
    if by != out
        && is_ours(&by)
        && is_ours(&out)
        && let Some(record) = with(to, isolated).or(with(from, isolated))
    {
        let remedy = "publish the port, join one network, or set isolation to false";
        return decision(record, "isolation", "true", remedy);
    }
    let record = with(to, |policy| policy.closed)?;
    decision(
        record,
        "directAccess",
        "closed",
        "publish the port or set trustedInterfaces",
    )
}

fn neighbour(table: &str, chain: &str) -> Option<&'static str> {
    let table = table.rsplit(' ').next().unwrap_or_default();
    let known = NEIGHBOURS.iter();
    let mut known = known.filter(|(start, _)| chain.starts_with(start) || table.starts_with(start));
    known.next().map(|(_, name)| *name)
}
