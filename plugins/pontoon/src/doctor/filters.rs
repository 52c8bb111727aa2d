//! Filters of others: what drops packets that the containers need forwarded.
//!
//! A packet of each kind is taken through the chains of the hook FORWARD, by the same walk as `pontoon
//! trace`: out of a container, in to a published port, and from sibling to sibling where bridged packets
//! meet the same chains. Nothing is said where the walk meets something that it cannot read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pontoon_netlink::sysctl;
use pontoon_passage::{Hook, Packet, Passed, Rules, Step, Visit};
use pontoon_plugin::policy::Stance;
use pontoon_plugin::rules::firewalld;

use super::{Finding, Ground, program};
use crate::facts::{Attachment, Network, Port};
use crate::report::Failure;

/// An address far away: of documentation (RFC 5737, RFC 3849), which rules about real ones do not name.
const FAR: (IpAddr, IpAddr) = (
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
);

pub(crate) fn check(ground: &mut Ground, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let uplink = match ground.host.socket.uplink()? {
        Some(link) => link.name,
        None => return Ok(()),
    };
    let ground = &*ground;
    let Some(rules) = ground.rules() else {
        return Ok(());
    };
    for network in &ground.networks {
        let Some(bridge) = &network.bridge else {
            continue;
        };
        for v4 in [true, false] {
            let view = View {
                ground,
                rules: &rules,
                network,
                bridge,
                uplink: &uplink,
                v4,
            };
            view.forwarded(findings);
            view.bridged(findings);
        }
    }
    Ok(())
}

/// Both families may meet the same chain.
fn tell(finding: Finding, findings: &mut Vec<Finding>) {
    let same = |one: &Finding| {
        (one.id, &one.object, &one.mend) == (finding.id, &finding.object, &finding.mend)
    };
    if !findings.iter().any(same) {
        findings.push(finding);
    }
}

/// One family of one network.
struct View<'a> {
    ground: &'a Ground,
    rules: &'a Rules,
    network: &'a Network,
    bridge: &'a str,
    uplink: &'a str,
    v4: bool,
}

/// The chain that ends a packet's way, and the rule of it that does.
struct Obstacle {
    /// `iptables-nft filter`, `inet firewalld`.
    table: String,
    chain: String,
    /// The rule, or `policy`.
    rule: String,
}

impl<'a> View<'a> {
    fn own(&self) -> impl Iterator<Item = (&'a Attachment, IpAddr)> {
        let v4 = self.v4;
        let bridge = self.bridge;
        self.ground
            .attachments
            .iter()
            .filter(move |one| one.alive && one.bridge.as_deref() == Some(bridge))
            .filter_map(move |one| Some((one, one.ips().find(|ip| ip.is_ipv4() == v4)?)))
    }

    fn packet(&self, from: (&str, IpAddr), to: (&str, IpAddr), port: u16, udp: bool) -> Packet {
        Packet {
            source: from.1,
            destination: to.1,
            protocol: if udp { "udp" } else { "tcp" }.to_owned(),
            ports: Some((45_678, port)),
            in_interface: from.0.to_owned(),
            out_interface: to.0.to_owned(),
            in_port: String::new(),
            out_port: String::new(),
            mark: 0,
            dnat: false,
            snat: false,
            source_type: "unicast",
            destination_type: "unicast",
        }
    }

    /// What ends a packet's way in FORWARD, when that is a rule of others.
    fn obstacle(&self, mut packet: Packet) -> Option<Obstacle> {
        let (mut steps, mut doubts): (Vec<Step>, Vec<String>) = (Vec::new(), Vec::new());
        let mut visit = Visit {
            rules: self.rules,
            hook: Hook::Forward,
            bridge: false,
            own_address: None,
            steps: &mut steps,
            doubts: &mut doubts,
        };
        let Passed::Ended { by, .. } = visit.pass(&mut packet) else {
            return None;
        };
        let last = steps.last()?;
        let chain = last.chain.as_deref().unwrap_or_default();
        let tagged = |owner: &String| owner.starts_with("pontoon ");
        // What our own policy, or the admin's chain in it, keeps from passing is meant to be kept.
        let meant = chain.contains("CNI-") || chain.contains("pontoon");
        if !doubts.is_empty() || meant || last.owner.as_ref().is_some_and(tagged) {
            return None;
        }
        let (table, chain) = by.split_once(", chain ")?;
        Some(Obstacle {
            table: table.to_owned(),
            chain: chain.to_owned(),
            rule: last.what.clone(),
        })
    }

    /// Out to the outside, and in to a published port.
    fn forwarded(&self, findings: &mut Vec<Finding>) {
        let internal = self.network.closed.contains(&"internal");
        let Some((_, inside)) = self.own().next().filter(|_| !internal) else {
            return;
        };
        let far = if self.v4 { FAR.0 } else { FAR.1 };
        let (bridge, uplink) = (self.bridge, self.uplink);
        let out = self.packet((bridge, inside), (uplink, far), 443, false);
        let published = self.own().find_map(|(one, ip)| {
            let family = |port: &&Port| port.host_ip.is_none_or(|at| at.is_ipv4() == self.v4);
            Some((ip, one.ports.iter().find(family)?))
        });
        let come_in = published.map(|(ip, port)| {
            let udp = port.protocol == "udp";
            let packet = self.packet((uplink, far), (bridge, ip), port.container_port, udp);
            Packet {
                dnat: true,
                ..packet
            }
        });
        if let Some(obstacle) = self.obstacle(out) {
            let what = format!("containers on {bridge} cannot reach the outside");
            tell(self.dropped(&obstacle, &what), findings);
        } else if let Some(obstacle) = come_in.and_then(|packet| self.obstacle(packet)) {
            let what =
                format!("nobody outside reaches the published ports of containers on {bridge}");
            tell(self.dropped(&obstacle, &what), findings);
        }
    }

    fn dropped(&self, obstacle: &Obstacle, means: &str) -> Finding {
        let bridge = self.bridge;
        let Obstacle { table, chain, rule } = obstacle;
        let native = obstacle.tool().is_none();
        let id = match native {
            true => "forward-dropped-by-nftables",
            false => "forward-dropped",
        };
        Finding::new(id, bridge)
            .means(format!(
                "{} drops what is forwarded and not its own: {means}",
                self.whose(obstacle)
            ))
            .seen(match rule.as_str() {
                "policy" => format!(
                    "{table}, chain {chain}: the policy is to drop, and no rule accepts it before"
                ),
                rule => format!("{table}, chain {chain}: {rule}"),
            })
            .mend(self.mend(obstacle))
            .of_bridge(bridge)
    }

    /// Bridged packets that pass the same chains.
    fn bridged(&self, findings: &mut Vec<Finding>) {
        let call = if self.v4 { "iptables" } else { "ip6tables" };
        let path = format!("net/bridge/bridge-nf-call-{call}");
        let apart = self.network.closed.contains(&"icc off");
        if apart || sysctl::read(&path).ok().as_deref() != Some("1") {
            return;
        }
        let mut own = self.own();
        let (Some((one, from)), Some((other, to))) = (own.next(), own.next()) else {
            return;
        };
        let packet = Packet {
            in_port: one.host_interface.clone().unwrap_or_default(),
            out_port: other.host_interface.clone().unwrap_or_default(),
            ..self.packet((self.bridge, from), (self.bridge, to), 443, false)
        };
        let Some(obstacle) = self.obstacle(packet) else {
            return;
        };
        let bridge = self.bridge;
        // Of a chain of nftables one command lets pass what is forwarded and what is bridged.
        let told = |one: &Finding| {
            one.id == "forward-dropped-by-nftables" && one.bridge.as_deref() == Some(bridge)
        };
        if obstacle.tool().is_none() && findings.iter().any(told) {
            return;
        }
        // Not by switching the setting off: kubeadm and Docker want it on.
        let mend = match obstacle.tool() {
            Some(tool) => format!(
                "{tool} -I {} -i {bridge} -o {bridge} -j ACCEPT",
                self.users_chain(&obstacle)
            ),
            None => format!(
                "nft 'insert rule {} {} iifname \"{bridge}\" oifname \"{bridge}\" accept'",
                obstacle.table, obstacle.chain
            ),
        };
        tell(
            Finding::new("bridged-packets-filtered", bridge)
                .means(format!("containers on {bridge} cannot reach each other: what passes the bridge passes FORWARD too"))
                .seen(format!("/proc/sys/{path} is 1, and {}, chain {} drops", obstacle.table, obstacle.chain))
                .mend(mend)
                .of_bridge(bridge),
            findings,
        );
    }

    fn whose(&self, obstacle: &Obstacle) -> String {
        let table = self
            .rules
            .tables
            .iter()
            .find(|one| one.name == obstacle.table);
        let has = |start: &str| {
            table.is_some_and(|table| table.chains.keys().any(|chain| chain.starts_with(start)))
        };
        match obstacle.tool() {
            Some(_) if has("ufw") => "ufw".to_owned(),
            Some(_) if has("DOCKER") => "Docker".to_owned(),
            Some(tool) => format!("FORWARD of {tool}"),
            None if obstacle.table.ends_with(" firewalld") => "firewalld".to_owned(),
            None => format!("table {}", obstacle.table),
        }
    }

    /// Where a rule for others belongs.
    fn users_chain(&self, obstacle: &Obstacle) -> &'static str {
        let mut tables = self.rules.tables.iter();
        let table = tables.find(|one| one.name == obstacle.table);
        match table.is_some_and(|table| table.chains.contains_key("DOCKER-USER")) {
            true => "DOCKER-USER",
            false => "FORWARD",
        }
    }

    fn mend(&self, obstacle: &Obstacle) -> String {
        let bridge = self.bridge;
        let stance: Option<Stance> = self.ground.host.state.read_policy(&self.network.name);
        if obstacle.table.ends_with(" firewalld")
            && program(self.ground, "firewall-cmd").is_some()
            && firewalld().is_ok()
        {
            return format!("firewall-cmd --zone=trusted --add-interface={bridge}");
        }
        if let Some(tool) = obstacle.tool() {
            // The plugin firewall accepts beside a chain that drops, and repair makes that again.
            if stance.is_some() {
                return format!("pontoon repair {}", self.network.name);
            }
            let chain = self.users_chain(obstacle);
            return format!(
                "{tool} -I {chain} -i {bridge} -j ACCEPT && {tool} -I {chain} -o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT"
            );
        }
        let Obstacle { table, chain, .. } = obstacle;
        let insert = |rule: &str| format!("nft 'insert rule {table} {chain} {rule}'");
        format!(
            "{} && {} && {}",
            insert(&format!("oifname \"{bridge}\" ct status dnat accept")),
            insert(&format!(
                "oifname \"{bridge}\" ct state established,related accept"
            )),
            insert(&format!("iifname \"{bridge}\" accept")),
        )
    }
}

impl Obstacle {
    /// The program that edits its table, when that is iptables'.
    fn tool(&self) -> Option<&str> {
        let tool = self.table.split(' ').next()?;
        tool.contains("tables-").then_some(tool)
    }
}
