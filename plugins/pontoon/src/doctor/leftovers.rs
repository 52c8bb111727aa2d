//! What dead containers left, and pools that run out.

use pontoon_ledger::THIRD_PARTY;
use pontoon_netfilter::is_attachment_tag;

use super::{CheckInput, Finding};
use crate::report::Failure;
use crate::{facts, leases};

/// Share of a pool in use from which on it is nearly full, in percent.
const NEARLY: u128 = 90;

pub(crate) fn check(ground: &mut CheckInput, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let collect =
        |network: &str| format!("pontoon gc {network} --all-dead{}", ground.places.options());
    for one in ground.attachments.iter().filter(|one| !one.alive) {
        let finding = Finding::new("container-gone", &one.id)
            .means("its address, ports and rules are kept from others")
            .seen(format!(
                "network {} has it, and the namespace {} is gone",
                one.network, one.netns
            ))
            .of_container(&one.id);
        // Of another vendor's plugin no record tells who else lives: its GC needs a list.
        findings.push(if one.mode == THIRD_PARTY {
            finding.mend(format!(
                "pontoon gc {} --keep ID... with all containers that live",
                one.network
            ))
        } else {
            finding.mend(collect(&one.network)).safe()
        });
    }
    for network in ground
        .networks
        .iter()
        .filter(|network| facts::has_interface(network.mode))
    {
        let folder = leases::folder(&ground.host, &network.name);
        let source = leases::Source {
            host: &ground.host,
            networks: &ground.networks,
            places: &ground.places,
            network: &network.name,
        };
        let Ok(found) = leases::read(&ground.host, &network.name, &folder, Some(source)) else {
            continue;
        };
        for lease in found
            .leases
            .iter()
            .filter(|lease| !lease.attached && !lease.earlier_boot)
        {
            findings.push(
                Finding::new("lease-without-container", lease.address.to_string())
                    .means("the address is kept from others")
                    .seen(format!(
                        "{} gives it to {}, which is not attached",
                        folder.join(lease.address.to_string()).display(),
                        lease.container
                    ))
                    // Not safe: another vendor's plugin gives out addresses without a record of Pontoon's.
                    .mend(collect(&network.name)),
            );
        }
        for subnet in &found.subnets {
            let used = u128::from(subnet.used);
            let all = used.saturating_add(subnet.free);
            if all > 0 && used.saturating_mul(100) / all >= NEARLY {
                findings.push(
                    Finding::new("pool-nearly-full", &subnet.subnet)
                        .means(format!(
                            "network {} will soon have no address for a new container; when no address of the dead is left, it needs a wider subnet",
                            network.name
                        ))
                        .seen(format!("{used} of {all} addresses are in use"))
                        .mend(collect(&network.name)),
                );
            }
        }
    }
    let known = ground.host.tags();
    for link in &ground.host.links {
        let Some(alias) = &link.alias else {
            continue;
        };
        if is_attachment_tag(alias)
            && link.kind.as_deref() == Some("veth")
            && !known.contains(alias)
        {
            findings.push(
                Finding::new("veth-without-container", &link.name)
                    .means("an interface without a container takes part in the network")
                    .seen(format!(
                        "it carries the tag \"{alias}\", of which there is no record"
                    ))
                    .mend(format!("ip link delete dev {}", link.name)),
            );
        }
    }
    Ok(())
}
