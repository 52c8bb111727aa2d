//! What may be made, removed and forgotten: functions of what etcd says.

use pontoon_conf::Cidr;
use pontoon_ledger::overlay::OverlaySubnet;

use crate::choose::{count, last, overlap};
use crate::cluster::Cluster;
use crate::value::NetworkValue;

/// The first VNI that is given without being asked for: small ones are often a VLAN's, or another program's.
const FIRST_VNI: u32 = 4096;
/// A VNI has 24 bits (RFC 7348, section 5).
const LAST_VNI: u32 = 0xff_ffff;
/// Longest prefix of a block: shorter ones have an address for the network, the gateway, the broadcast and a container.
const LONGEST_BLOCK: (u8, u8) = (30, 126);
/// The subnets of a network may have so many blocks at least: with one, only one host can be on it.
const LEAST_BITS: u8 = 1;

/// The VNI for a new network: the one that is wanted, or the first free one.
pub(crate) fn vni(cluster: &Cluster, wanted: Option<u32>) -> Result<u32, String> {
    match wanted {
        Some(vni) if vni == 0 || vni > LAST_VNI => {
            Err(format!("--vni {vni}: 1 to {LAST_VNI} are possible"))
        }
        Some(vni) => match cluster.vnis.get(&vni) {
            Some(network) => Err(format!(
                "network {network} has VNI {vni}: choose another one"
            )),
            None => Ok(vni),
        },
        None => (FIRST_VNI..=LAST_VNI)
            .find(|vni| !cluster.vnis.contains_key(vni))
            .ok_or_else(|| format!("no VNI from {FIRST_VNI} on is free")),
    }
}

/// Whether a network can be made.
pub(crate) fn creation(cluster: &Cluster, name: &str, value: &NetworkValue) -> Result<(), String> {
    if name.ends_with(".peers") {
        return Err(format!(
            "{name:?} cannot be the name of an overlay network: choose one without \".peers\""
        ));
    }
    if cluster.networks.contains_key(name) {
        return Err(format!(
            "there is a network {name} already: see `pontoon network ls`"
        ));
    }
    if value.port == 0 {
        return Err("--port 0 cannot be a port".to_owned());
    }
    if cluster.blocks(name).next().is_some() {
        return Err(format!(
            "hosts have blocks of an earlier network {name}: wait until they have given them back, or choose another \
             name"
        ));
    }
    for v4 in [true, false] {
        let same = value.subnets.iter().filter(|it| it.subnet.is_ipv4() == v4);
        if same.count() > 1 {
            return Err("there are two subnets of one family: keep one".to_owned());
        }
    }
    value.subnets.iter().try_for_each(shape)?;
    let clash = value.subnets.iter().find_map(|new| {
        let others = cluster.networks.iter();
        others
            .flat_map(|(name, other)| other.subnets.iter().map(move |it| (name, it.subnet)))
            .find(|(_, subnet)| overlap(*subnet, new.subnet))
            .map(|(name, subnet)| (new.subnet, name, subnet))
    });
    match clash {
        Some((new, name, subnet)) => Err(format!(
            "subnet {new} and {subnet} of network {name} have addresses in common: choose another one"
        )),
        None => Ok(()),
    }
}

/// Subnets of fewer blocks keep none for services unless it is asked for.
const LEAST_WITH_SERVICES: u64 = 4;

/// The ranges that services have their addresses of: those that are wanted, or the last block of each subnet that has
/// some to spare.
pub(crate) fn services(subnets: &[OverlaySubnet], wanted: &[String]) -> Result<Vec<Cidr>, String> {
    if let [only] = wanted
        && only == "none"
    {
        return Ok(Vec::new());
    }
    if wanted.is_empty() {
        let spare = subnets
            .iter()
            .filter(|it| count(**it) >= LEAST_WITH_SERVICES);
        return Ok(spare.filter_map(|it| last(*it)).collect());
    }
    let mut ranges: Vec<Cidr> = Vec::new();
    for text in wanted {
        let range: Cidr = text
            .parse()
            .map_err(|error| format!("--services {text}: {error}: write a subnet, or \"none\""))?;
        let of = subnets.iter().find(|it| {
            let whole = it.subnet;
            whole.is_ipv4() == range.is_ipv4()
                && overlap(whole, range)
                && whole.prefix() < range.prefix()
        });
        if of.is_none() {
            return Err(format!(
                "--services {text}: it must be a part of a subnet of the network, without the addresses of all hosts"
            ));
        }
        let longest = if range.is_ipv4() {
            LONGEST_BLOCK.0
        } else {
            LONGEST_BLOCK.1
        };
        if range.network() != range || range.prefix() > longest {
            return Err(format!(
                "--services {text}: write its first address, and a prefix of at most /{longest}"
            ));
        }
        if ranges
            .iter()
            .any(|other| other.is_ipv4() == range.is_ipv4())
        {
            return Err(format!(
                "--services {text}: there is a range of this family already: keep one"
            ));
        }
        ranges.push(range);
    }
    Ok(ranges)
}

/// Whether a subnet can be cut into blocks.
fn shape(subnet: &OverlaySubnet) -> Result<(), String> {
    let (whole, block): (Cidr, u8) = (subnet.subnet, subnet.block_prefix);
    if whole.network() != whole {
        return Err(format!(
            "{whole} is an address in {}: write that",
            whole.network()
        ));
    }
    let (longest, option) = match whole.is_ipv4() {
        true => (LONGEST_BLOCK.0, "--block"),
        false => (LONGEST_BLOCK.1, "--block6"),
    };
    let least = whole.prefix().saturating_add(LEAST_BITS);
    if block < least || block > longest {
        return Err(format!(
            "blocks of /{block} do not fit subnet {whole}: {option} may be {least} to {longest}"
        ));
    }
    Ok(())
}

/// Whether a network can be removed.
pub(crate) fn removal(cluster: &Cluster, name: &str) -> Result<(), String> {
    let owners = cluster.blocks(name).filter_map(|(_, block)| block.owner());
    let mut owners: Vec<&str> = owners.collect();
    owners.sort_unstable();
    owners.dedup();
    match owners.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "hosts have blocks of network {name}: {}: remove its containers and its configuration there, or add --force",
            owners.join(" ")
        )),
    }
}

/// Whether a host can be forgotten.
pub(crate) fn forgetting(cluster: &Cluster, host: &str) -> Result<(), String> {
    match cluster.alive.contains_key(host) {
        true => Err(format!(
            "host {host} is alive: end its agent first (`systemctl stop pontoon-node` there), and wait 10 s"
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use pontoon_ledger::overlay::OverlayMode;

    use super::*;

    fn value(subnets: &[(&str, u8)]) -> NetworkValue {
        let subnet = |(subnet, block_prefix): &(&str, u8)| OverlaySubnet {
            subnet: subnet.parse().unwrap(),
            block_prefix: *block_prefix,
        };
        NetworkValue {
            services: Vec::new(),
            subnets: subnets.iter().map(subnet).collect(),
            vni: 4096,
            port: 4789,
            mode: OverlayMode::Auto,
        }
    }

    fn cluster() -> Cluster {
        let mut cluster = Cluster::default();
        let lan = value(&[("10.5.0.0/16", 24), ("fd00:5::/48", 64)]);
        let lan = serde_json::to_vec(&lan).unwrap();
        cluster.put("/pontoon/v1/net/lan", &lan, 1, 1);
        cluster.put("/pontoon/v1/vni/4096", b"lan", 1, 1);
        cluster
    }

    #[track_caller]
    fn refused(name: &str, subnets: &[(&str, u8)], expected: &str) {
        let error = creation(&cluster(), name, &value(subnets)).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn services_have_a_range_of_their_own() {
        let judged = |subnets: &[(&str, u8)], wanted: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(|it| (*it).to_owned()).collect();
            let ranges = services(&value(subnets).subnets, &wanted)?;
            Ok(ranges
                .iter()
                .map(Cidr::to_string)
                .collect::<Vec<_>>()
                .join(" "))
        };
        let good = |subnets: &[(&str, u8)], wanted: &[&str], expected: &str| {
            let found: Result<String, String> = judged(subnets, wanted);
            assert_eq!(found.as_deref(), Ok(expected));
        };
        let lan = [("10.5.0.0/16", 24), ("fd00:5::/48", 64)];
        good(&lan, &[], "10.5.255.0/24 fd00:5:0:ffff::/64");
        good(&lan, &["none"], "");
        good(&lan, &["10.5.128.0/17"], "10.5.128.0/17");
        // Two blocks are for hosts.
        good(&[("10.5.0.0/23", 24)], &[], "");
        good(&[("10.5.0.0/23", 24)], &["10.5.1.192/26"], "10.5.1.192/26");
        for (wanted, part) in [
            (&["10.6.0.0/24"][..], "a part of a subnet"),
            (&["10.5.0.0/16"], "without the addresses of all hosts"),
            (&["10.5.1.1/24"], "its first address"),
            (&["10.5.1.0/32"], "at most /30"),
            (&["10.5.1.0/24", "10.5.2.0/24"], "keep one"),
            (&["none", "10.5.1.0/24"], "--services none"),
        ] {
            let error = judged(&lan, wanted).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn subnets_that_clash_are_refused() {
        let good = [("10.6.0.0/16", 24), ("fd00:6::/48", 64)];
        assert_eq!(creation(&cluster(), "web", &value(&good)), Ok(()));
        for clash in ["10.5.0.0/16", "10.5.128.0/17", "10.0.0.0/8"] {
            refused("web", &[(clash, 24)], "10.5.0.0/16 of network lan");
        }
        refused("web", &[("fd00:5::/56", 64)], "fd00:5::/48 of network lan");
        refused("lan", &[("10.6.0.0/16", 24)], "there is a network lan");
    }

    #[test]
    fn subnets_that_cannot_be_cut_are_refused() {
        refused("web", &[("10.6.0.1/16", 24)], "write that");
        refused("web", &[("10.6.0.0/24", 24)], "--block may be 25 to 30");
        refused("web", &[("10.6.0.0/16", 31)], "--block may be 17 to 30");
        refused("web", &[("fd00:6::/64", 64)], "--block6 may be 65 to 126");
        refused(
            "web",
            &[("10.6.0.0/16", 24), ("10.7.0.0/16", 24)],
            "two subnets",
        );
        refused("a.peers", &[("10.6.0.0/16", 24)], "cannot be the name");
    }

    #[test]
    fn every_network_has_a_vni_of_its_own() {
        assert_eq!(vni(&cluster(), None), Ok(4097));
        assert_eq!(vni(&cluster(), Some(5)), Ok(5));
        for (wanted, word) in [
            (4096, "network lan"),
            (0, "possible"),
            (1 << 24, "possible"),
        ] {
            let error = vni(&cluster(), Some(wanted)).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn what_is_used_is_not_removed_and_what_lives_not_forgotten() {
        let mut cluster = cluster();
        assert_eq!(removal(&cluster, "lan"), Ok(()));
        cluster.put("/pontoon/v1/host/h1/block/lan/10.5.1.0-24", b"{}", 2, 2);
        assert!(removal(&cluster, "lan").unwrap_err().contains("h1"));
        assert_eq!(forgetting(&cluster, "h1"), Ok(()));
        cluster.put("/pontoon/v1/host/h1/alive", br#"{"boot":"x"}"#, 3, 3);
        assert!(forgetting(&cluster, "h1").unwrap_err().contains("is alive"));
    }
}
