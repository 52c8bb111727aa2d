//! Saying in words how the kernel differs from a plan.

use super::element::{self, Data};
use super::error::Error;
use super::list;
use super::lookup::look;
use super::plan::{ElementPurpose, Plan, PlannedElement};
use super::socket::Socket;

/// Appends what differs.
pub(super) fn verify(
    socket: &mut Socket,
    plan: &Plan,
    differences: &mut Vec<String>,
) -> Result<(), Error> {
    let table = format!("{} pontoon", plan.family.name());
    let (chains, found) = look(socket, plan, |_| true)?;
    if chains.fixed.iter().all(Option::is_none) {
        differences.push(format!("nftables: table {table} is missing"));
        return Ok(());
    }
    let wanted = plan
        .part
        .chains()
        .iter()
        .map(|chain| (chain.name, chain.count as usize))
        .chain(
            plan.chains
                .iter()
                .map(|chain| (chain.name.as_str(), chain.rules.len())),
        );
    for ((chain, rules), uses) in wanted.zip(chains.fixed.iter().chain(&chains.own)) {
        if uses.is_none() {
            differences.push(format!(
                "nftables: chain {chain} of table {table} is missing"
            ));
            continue;
        }
        let there = list::rules_of(socket, plan.family, chain)?.unwrap_or_default() as usize;
        if there < rules {
            differences.push(format!(
                "nftables: chain {chain} of table {table} has {there} of its {rules} rules"
            ));
        }
    }
    for (planned, found) in plan.elements.iter().zip(&found) {
        let set = planned.element.set;
        let name = name(planned);
        let found = found
            .as_ref()
            .filter(|found| found.key == planned.element.key);
        if matches!(
            planned.purpose,
            ElementPurpose::Absent | ElementPurpose::Gone
        ) {
            if found.is_some_and(|found| found.tag == planned.element.tag) {
                differences.push(format!("nftables: {name} is in {set} and should not be"));
            }
            continue;
        }
        let Some(found) = found else {
            differences.push(format!("nftables: {name} is missing in {set}"));
            continue;
        };
        if found.data != planned.element.data {
            let leads = if matches!(found.data, Data::Jump(_)) {
                "chain"
            } else {
                "target"
            };
            differences.push(format!("nftables: {name} in {set} has another {leads}"));
        }
        if found.tag != planned.element.tag && !planned.purpose.shared() {
            let tag = &found.tag;
            differences.push(format!("nftables: {name} in {set} belongs to `{tag}`"));
        }
    }
    Ok(())
}

fn name(planned: &PlannedElement) -> String {
    match planned.purpose {
        ElementPurpose::Port(port) => {
            let at = port
                .host_ip
                .map(|host| format!(" at {host}"))
                .unwrap_or_default();
            format!("port {}/{}{at}", port.host_port, port.protocol)
        }
        ElementPurpose::Hairpin => "the container's address".to_owned(),
        ElementPurpose::Egress(subnet) => format!("subnet {subnet}"),
        ElementPurpose::Bridge => "the bridge".to_owned(),
        ElementPurpose::Spoof => "the bridge port".to_owned(),
        ElementPurpose::Link => "a link".to_owned(),
        ElementPurpose::Resolver => "port 53 of the bridge".to_owned(),
        ElementPurpose::Policy | ElementPurpose::Absent | ElementPurpose::Gone => {
            format!(
                "the policy of bridge {}",
                element::first_name(&planned.element.key)
            )
        }
    }
}
