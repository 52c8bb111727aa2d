//! An admin's rules in both variants of iptables: two sets of rules decide, and each tool shows its own
//! only.
//!
//! Runtimes and firewalls that use one variant each are no finding: they agree with each other, and
//! whether a packet passes both is for the other checks to say.

use super::{CheckInput, Finding};
use crate::report::Failure;

/// Chains of runtimes and firewalls begin so.
const MANAGED: [&str; 10] = [
    "CNI-", "DOCKER", "KUBE-", "ufw", "LIBVIRT", "NETAVARK", "FLANNEL", "cali-", "CILIUM", "f2b-",
];

pub(crate) fn check(ground: &mut CheckInput, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let Some(rules) = ground.rules() else {
        return Ok(());
    };
    let mut used = Vec::new();
    for tool in ["iptables-nft", "iptables-legacy"] {
        let name = format!("{tool} filter");
        let tables = rules.tables.iter().filter(|table| table.name == name);
        let mut own = tables
            .flat_map(|table| table.chains.values())
            .flat_map(|chain| &chain.rules);
        let found = own.find(|rule| by_hand(&rule.text));
        used.extend(found.map(|rule| (tool, rule.text.clone())));
    }
    if let [(one, first), (other, second)] = &used[..] {
        findings.push(
            Finding::new("iptables-variants-mixed", "iptables")
                .means("two sets of rules decide about each packet, and each tool shows only its own")
                .seen(format!("{one} has \"{first}\", {other} has \"{second}\""))
                .advice(format!(
                    "write the rules of one variant with the tool of the other (update-alternatives --display iptables names the one in use), then delete them here: {other}-save shows them"
                )),
        );
    }
    Ok(())
}

/// Whether a rule is in, and leads to, a chain that no runtime or firewall keeps.
fn by_hand(line: &str) -> bool {
    let Some(rule) = line.strip_prefix("-A ") else {
        return false;
    };
    let managed = |chain: &str| MANAGED.iter().any(|start| chain.starts_with(start));
    let chain = rule.split(' ').next().unwrap_or_default();
    let target = rule.split(" -j ").nth(1).unwrap_or_default();
    !managed(chain) && !managed(target) && !rule.contains("pontoon")
        // Docker and kubelet also write into FORWARD itself.
        && !["docker0", "br-", "cni", "kube"].iter().any(|name| rule.contains(name))
}

#[cfg(test)]
mod tests {
    use super::by_hand;

    #[test]
    fn rules_of_runtimes_are_not_by_hand() {
        for line in [
            ":FORWARD DROP [0:0]",
            "-A FORWARD -j DOCKER-USER",
            "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT",
            "-A CNI-FORWARD -s 10.1.0.2/32 -j ACCEPT",
            "-A INPUT -j ufw-before-input",
            "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
        ] {
            assert!(!by_hand(line), "{line}");
        }
        assert!(by_hand("-A INPUT -s 192.0.2.1/32 -j ACCEPT"));
    }
}
