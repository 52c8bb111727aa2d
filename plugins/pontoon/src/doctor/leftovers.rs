//! What belongs to nobody alive, and pools that run out.

use super::{Finding, Ground};
use crate::leases;

/// Share of a pool in use from which on it is nearly full, in percent.
const NEARLY: u128 = 90;

pub(crate) fn check(ground: &Ground, findings: &mut Vec<Finding>) {
    let collect = |network: &str| {
        let mut command = format!("pontoon gc {network} --all-dead");
        if let Some(dir) = &ground.places.conf_dir {
            command += &format!(" --conf-dir {}", dir.display());
        }
        if let Some(dirs) = &ground.places.bin_dir {
            command += &format!(" --bin-dir {dirs}");
        }
        command
    };
    for one in ground.attachments.iter().filter(|one| !one.alive) {
        findings.push(
            Finding::new("container-gone", &one.id)
                .means("its address, ports and rules are kept from others")
                .seen(format!(
                    "network {} has it, and the namespace {} is gone",
                    one.network, one.netns
                ))
                .mend(collect(&one.network))
                .of_container(&one.id)
                .safe(),
        );
    }
    for network in ground
        .networks
        .iter()
        .filter(|network| matches!(network.mode, "bridge" | "ptp"))
    {
        let folder = leases::folder(&ground.host, &network.name);
        let Ok(found) = leases::read(&ground.host, &network.name, &folder) else {
            continue;
        };
        for lease in found.leases.iter().filter(|lease| !lease.attached) {
            findings.push(
                Finding::new("lease-of-nobody", lease.address.to_string())
                    .means("the address is kept from others")
                    .seen(format!(
                        "{} gives it to {}, which is not attached",
                        folder.join(lease.address.to_string()).display(),
                        lease.container
                    ))
                    // Not safe: another vendor's plugin gives out addresses without a record of ours.
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
    let known: Vec<String> = ground
        .host
        .members
        .iter()
        .map(|member| member.key.owner().tag())
        .collect();
    for link in &ground.host.links {
        let Some(alias) = &link.alias else {
            continue;
        };
        // `pontoon NETWORK CONTAINER IFNAME`
        let ours = alias.starts_with("pontoon ") && alias.split(' ').count() == 4;
        if ours && link.kind.as_deref() == Some("veth") && !known.contains(alias) {
            findings.push(
                Finding::new("veth-of-nobody", &link.name)
                    .means("an interface without a container takes part in the network")
                    .seen(format!(
                        "it carries the tag \"{alias}\", of which there is no record"
                    ))
                    .mend(format!("ip link delete dev {}", link.name)),
            );
        }
    }
}
