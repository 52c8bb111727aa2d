//! Other people's filters: what drops packets that our containers need forwarded.

use pontoon_netlink::sysctl;
use serde_json::Value;

use super::{Finding, Ground, output};
use crate::report::Failure;

/// iptables, by the variants and families that there are.
const TOOLS: [(&str, bool); 4] = [
    ("iptables-nft", true),
    ("iptables-legacy", true),
    ("ip6tables-nft", false),
    ("ip6tables-legacy", false),
];

pub(crate) fn check(ground: &mut Ground, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let ground = &*ground;
    for (tool, v4) in TOOLS {
        // The legacy variant makes its tables in the kernel when it is asked for them.
        let family = if v4 { "ip" } else { "ip6" };
        let names = format!("/proc/thread-self/net/{family}_tables_names");
        let legacy = tool.ends_with("legacy");
        let there = std::fs::read_to_string(names).is_ok_and(|names| names.contains("filter"));
        if legacy && !there {
            continue;
        }
        let Some(save) = output(ground, &format!("{tool}-save"), &["-t", "filter"]) else {
            continue;
        };
        let mut filter = Filter::parse(&save);
        filter.tool = tool.to_owned();
        if filter.drops() {
            for bridge in bridges(ground, v4) {
                if !filter.accepts(&bridge.0, &bridge.1) {
                    findings.push(dropped(tool, &filter, &bridge.0));
                }
            }
            siblings(ground, v4, &filter, findings);
        }
    }
    native(ground, findings);
    Ok(())
}

/// Our bridges, with the addresses of their containers.
fn bridges(ground: &Ground, v4: bool) -> Vec<(String, Vec<String>)> {
    let has = |gateway: &String| gateway.contains(':') != v4;
    let networks = ground
        .networks
        .iter()
        .filter(|network| network.gateways.iter().any(has));
    networks
        .filter_map(|network| {
            let bridge = network.bridge.clone()?;
            let own = ground.attachments.iter();
            let own = own.filter(|one| one.bridge.as_ref() == Some(&bridge));
            let addresses: Vec<String> = own
                .flat_map(|one| one.addresses.iter())
                .filter_map(|address| address.split('/').next().map(str::to_owned))
                .collect();
            Some((bridge, addresses))
        })
        .collect()
}

/// The filter table of one variant and family.
#[derive(Debug, Default)]
struct Filter {
    tool: String,
    forward_policy: String,
    chains: Vec<String>,
    rules: Vec<String>,
}

impl Filter {
    fn parse(save: &str) -> Self {
        let mut filter = Self::default();
        for line in save.lines() {
            if let Some(chain) = line.strip_prefix(':') {
                let mut words = chain.split(' ');
                let (name, policy) = (words.next(), words.next());
                if name == Some("FORWARD") {
                    filter.forward_policy = policy.unwrap_or_default().to_owned();
                }
                filter.chains.extend(name.map(str::to_owned));
            } else if line.starts_with("-A ") {
                filter.rules.push(line.to_owned());
            }
        }
        filter
    }

    /// Whether what no rule accepts is dropped.
    fn drops(&self) -> bool {
        let last = self
            .rules
            .iter()
            .rev()
            .find(|rule| rule.starts_with("-A FORWARD "));
        let all = last.is_some_and(|rule| {
            let rest = rule.trim_start_matches("-A FORWARD ");
            rest == "-j DROP" || rest.starts_with("-j REJECT")
        });
        self.forward_policy == "DROP" || all
    }

    /// Whether some rule accepts what comes from a bridge, or from one of its containers.
    fn accepts(&self, bridge: &str, addresses: &[String]) -> bool {
        self.rules
            .iter()
            .filter(|rule| rule.ends_with("-j ACCEPT"))
            .any(|rule| {
                rule.contains(&format!("-i {bridge} "))
                    || addresses
                        .iter()
                        .any(|address| rule.contains(&format!("-s {address}/")))
            })
    }

    fn whose(&self) -> &'static str {
        let has = |start: &str| self.chains.iter().any(|chain| chain.starts_with(start));
        if has("ufw") {
            "ufw"
        } else if has("DOCKER") {
            "Docker"
        } else {
            "somebody"
        }
    }

    /// Where a rule for others belongs.
    fn chain(&self) -> &'static str {
        match self.chains.iter().any(|chain| chain == "DOCKER-USER") {
            true => "DOCKER-USER",
            false => "FORWARD",
        }
    }
}

fn dropped(tool: &str, filter: &Filter, bridge: &str) -> Finding {
    let chain = filter.chain();
    Finding::new("forward-dropped", bridge)
        .means(format!(
            "{} drops what is forwarded and not its own: containers on {bridge} cannot reach the outside",
            filter.whose()
        ))
        .seen(format!(
            "{tool}: FORWARD ends with a drop (policy {}), and no rule accepts -i {bridge}",
            filter.forward_policy
        ))
        .mend(format!(
            "{tool} -I {chain} -i {bridge} -j ACCEPT && {tool} -I {chain} -o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT"
        ))
        .of_bridge(bridge)
}

/// Bridged packets that pass the same filter.
fn siblings(ground: &Ground, v4: bool, filter: &Filter, findings: &mut Vec<Finding>) {
    let call = if v4 { "iptables" } else { "ip6tables" };
    let path = format!("net/bridge/bridge-nf-call-{call}");
    if sysctl::read(&path).ok().as_deref() != Some("1") {
        return;
    }
    for (bridge, addresses) in bridges(ground, v4) {
        if !filter.accepts(&bridge, &addresses) {
            findings.push(
                Finding::new("bridged-packets-filtered", &bridge)
                    .means(format!("containers on {bridge} cannot reach each other: what passes the bridge passes FORWARD too"))
                    .seen(format!("/proc/sys/{path} is 1, and FORWARD drops"))
                    .mend(format!("{} -I FORWARD -i {bridge} -o {bridge} -j ACCEPT", filter.tool))
                    .of_bridge(&bridge),
            );
        }
    }
}

/// Base chains of nftables that drop what is forwarded: firewalld's, or an admin's.
fn native(ground: &Ground, findings: &mut Vec<Finding>) {
    let listing = output(ground, "nft", &["-j", "list", "ruleset"]);
    let listing: Option<Value> = listing.and_then(|text| serde_json::from_str(&text).ok());
    let Some(listing) = listing else {
        return;
    };
    for chain in dropping_chains(&listing) {
        for (bridge, _) in bridges(ground, true) {
            if chain.text.contains(&format!("\"{bridge}\"")) {
                continue;
            }
            let Chain {
                family,
                table,
                name,
                ..
            } = &chain;
            let whose = if table == "firewalld" {
                "firewalld"
            } else {
                "somebody"
            };
            let insert = |rule: &str| format!("nft 'insert rule {family} {table} {name} {rule}'");
            findings.push(
                Finding::new("forward-dropped-by-nftables", &bridge)
                    .means(format!("{whose} drops what is forwarded and not its own: containers on {bridge} cannot reach the outside"))
                    .seen(format!("chain {name} of table {family} {table} ends with a drop, and no rule in it names {bridge}"))
                    .mend(format!(
                        "{} && {} && {}",
                        insert(&format!("oifname \"{bridge}\" ct status dnat accept")),
                        insert(&format!("oifname \"{bridge}\" ct state established,related accept")),
                        insert(&format!("iifname \"{bridge}\" accept")),
                    ))
                    .of_bridge(&bridge),
            );
        }
    }
}

/// A chain of nftables, with its rules as text.
struct Chain {
    family: String,
    table: String,
    name: String,
    text: String,
}

fn dropping_chains(listing: &Value) -> Vec<Chain> {
    let items = || listing["nftables"].as_array().into_iter().flatten();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut found = Vec::new();
    for chain in items()
        .map(|item| &item["chain"])
        .filter(|chain| chain["hook"] == "forward")
    {
        let (family, table, name) = (
            word(&chain["family"]),
            word(&chain["table"]),
            word(&chain["name"]),
        );
        // iptables-nft's is told in iptables' words, and ours is ours.
        let iptables = table == "filter" && name == "FORWARD";
        if iptables || table == "pontoon" || !["ip", "inet"].contains(&family.as_str()) {
            continue;
        }
        let rules: Vec<&Value> = items()
            .map(|item| &item["rule"])
            .filter(|rule| {
                rule["family"] == chain["family"]
                    && rule["table"] == chain["table"]
                    && rule["chain"] == chain["name"]
            })
            .collect();
        let refuses = |statement: &Value| {
            statement.get("drop").is_some() || statement.get("reject").is_some()
        };
        let last = rules.last().and_then(|rule| rule["expr"].as_array());
        let drops = chain["policy"] == "drop"
            || last.is_some_and(|expr| expr.len() == 1 && expr.iter().all(refuses));
        if drops {
            found.push(Chain {
                family,
                table,
                name,
                text: rules.iter().map(|rule| rule.to_string()).collect(),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKER: &str = "*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
COMMIT
";

    #[test]
    fn dockers_policy_drops_all_but_its_own() {
        let filter = Filter::parse(DOCKER);
        assert!(filter.drops());
        assert!(!filter.accepts("cni0", &[]) && !filter.accepts("docker", &[]));
        assert_eq!((filter.whose(), filter.chain()), ("Docker", "DOCKER-USER"));
        let mended = DOCKER.replace("COMMIT", "-A DOCKER-USER -i cni0 -j ACCEPT");
        assert!(Filter::parse(&mended).accepts("cni0", &[]));
        // As the firewall plugin accepts: by address.
        let mended = DOCKER.replace("COMMIT", "-A CNI-FORWARD -s 10.1.0.2/32 -j ACCEPT");
        assert!(Filter::parse(&mended).accepts("cni0", &["10.1.0.2".into()]));
    }

    #[test]
    fn a_last_rule_drops_as_a_policy_does() {
        assert!(!Filter::parse(":FORWARD ACCEPT [0:0]\n-A FORWARD -i x -j DROP\n").drops());
        let reject = "-A FORWARD -j REJECT --reject-with icmp-port-unreachable";
        assert!(Filter::parse(&format!(":FORWARD ACCEPT [0:0]\n{reject}\n")).drops());
    }
}
