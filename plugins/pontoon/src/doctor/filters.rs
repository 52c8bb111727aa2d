//! Filters of others: what drops packets that the containers need forwarded.
//!
//! A packet of each kind is taken through the chains of the hook FORWARD, by the same walk as `pontoon
//! trace`: out of a container, in to a published port, and from sibling to sibling where bridged packets
//! meet the same chains. Nothing is said where the walk meets something that it cannot read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pontoon_attach::rules::firewalld;
use pontoon_ledger::NetworkPolicyRecord;
use pontoon_netlink::sysctl;
use pontoon_passage::{DroppingRule, Hook, Packet, PacketVerdict, Rules};

use super::{CheckInput, Finding, program};
use crate::facts::{Attachment, Network, Port};
use crate::report::Failure;

/// An address far away: of documentation (RFC 5737, RFC 3849), which rules about real ones do not name.
const FAR: (IpAddr, IpAddr) = (
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
);

pub(crate) fn check(ground: &mut CheckInput, findings: &mut Vec<Finding>) -> Result<(), Failure> {
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
    ground: &'a CheckInput,
    rules: &'a Rules,
    network: &'a Network,
    bridge: &'a str,
    uplink: &'a str,
    v4: bool,
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

    fn packet(&self, protocol: &str, from: IpAddr, to: IpAddr, port: u16) -> Packet {
        Packet::new(protocol, (from, 45_678), (to, port))
    }

    /// What drops a packet in FORWARD, when that is a rule of others. What our own policy, or the admin's
    /// chain in it, keeps from passing is meant to be kept.
    fn obstacle(&self, packet: &Packet) -> Option<DroppingRule> {
        match self.rules.judge_others(Hook::Forward, packet) {
            PacketVerdict::Dropped(drop) => Some(drop),
            _ => None,
        }
    }

    /// Out to the outside, and in to a published port.
    fn forwarded(&self, findings: &mut Vec<Finding>) {
        let internal = self.network.closed.contains(&"internal");
        let Some((_, inside)) = self.own().next().filter(|_| !internal) else {
            return;
        };
        let far = if self.v4 { FAR.0 } else { FAR.1 };
        let (bridge, uplink) = (self.bridge, self.uplink);
        let out = self
            .packet("tcp", inside, far, 443)
            .forwarded(bridge, uplink);
        let published = self.own().find_map(|(one, ip)| {
            let family = |port: &&Port| port.host_ip.is_none_or(|at| at.is_ipv4() == self.v4);
            Some((ip, one.ports.iter().find(family)?))
        });
        let come_in = published.map(|(ip, port)| {
            let packet = self.packet(&port.protocol, far, ip, port.container_port);
            packet.redirected().forwarded(uplink, bridge)
        });
        let way_out = [out.clone(), out.reply()];
        let way_in = come_in.map(|packet| [packet.reply(), packet]);
        let first = |packets: &[Packet]| packets.iter().find_map(|packet| self.obstacle(packet));
        if let Some(obstacle) = first(&way_out) {
            let what = format!("containers on {bridge} cannot reach the outside");
            tell(self.dropped(&obstacle, &what), findings);
        } else if let Some(obstacle) = way_in.and_then(|packets| first(&packets)) {
            let what =
                format!("no client outside reaches the published ports of containers on {bridge}");
            tell(self.dropped(&obstacle, &what), findings);
        }
    }

    fn dropped(&self, obstacle: &DroppingRule, means: &str) -> Finding {
        let bridge = self.bridge;
        let id = match obstacle.tool() {
            None => "forward-dropped-by-nftables",
            Some(_) => "forward-dropped",
        };
        Finding::new(id, bridge)
            .means(format!(
                "{} drops what is forwarded and not its own: {means}",
                self.whose(obstacle)
            ))
            .seen(obstacle.to_string())
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
            ..self
                .packet("tcp", from, to, 443)
                .forwarded(self.bridge, self.bridge)
        };
        let Some(obstacle) = self.obstacle(&packet) else {
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
                obstacle.table, obstacle.base
            ),
        };
        tell(
            Finding::new("bridged-packets-filtered", bridge)
                .means(format!("containers on {bridge} cannot reach each other: what passes the bridge passes FORWARD too"))
                .seen(format!("/proc/sys/{path} is 1, and {obstacle} drops"))
                .mend(mend)
                .of_bridge(bridge),
            findings,
        );
    }

    fn whose(&self, obstacle: &DroppingRule) -> String {
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
    fn users_chain(&self, obstacle: &DroppingRule) -> &'static str {
        let mut tables = self.rules.tables.iter();
        let table = tables.find(|one| one.name == obstacle.table);
        match table.is_some_and(|table| table.chains.contains_key("DOCKER-USER")) {
            true => "DOCKER-USER",
            false => "FORWARD",
        }
    }

    fn mend(&self, obstacle: &DroppingRule) -> String {
        let bridge = self.bridge;
        let host = &self.ground.host;
        let record = host.record_of_network::<NetworkPolicyRecord>(&self.network.name);
        if obstacle.table.ends_with(" firewalld")
            && program(self.ground, "firewall-cmd").is_some()
            && firewalld().is_ok()
        {
            return format!("firewall-cmd --zone=trusted --add-interface={bridge}");
        }
        if let Some(tool) = obstacle.tool() {
            // The plugin firewall accepts beside a chain that drops, and repair makes that again.
            if record.is_some() {
                return format!("pontoon repair {}", self.network.name);
            }
            let chain = self.users_chain(obstacle);
            return format!(
                "{tool} -I {chain} -i {bridge} -j ACCEPT && {tool} -I {chain} -o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT"
            );
        }
        let DroppingRule {
            table, base: chain, ..
        } = obstacle;
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
