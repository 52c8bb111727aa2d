//! Whether this host has a way to the outside itself.

use pontoon_netlink::{Link, RouteEntry, RouteSocket};

use super::{CheckInput, Finding};
use crate::facts;
use crate::report::Failure;

/// `RTN_UNICAST`: a default route may also be one that refuses.
const UNICAST: u8 = 1;

/// Why nothing leaves this host, when that is so.
#[derive(Debug)]
pub(crate) enum UplinkFault {
    /// No default route of a family that is used; the one link that is down and may have had it.
    NoRoute(Option<String>),
    /// The link of each default route is down, or has no carrier.
    Down { link: String, what: &'static str },
}

impl UplinkFault {
    /// In words, for `ip-forward`.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::NoRoute(None) => "this host has no default route".to_owned(),
            Self::NoRoute(Some(link)) => {
                format!("this host has no default route, and {link} is down")
            }
            Self::Down { link, what } => format!("{link}, which has the default route, {what}"),
        }
    }
}

pub(crate) fn check(ground: &mut CheckInput, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let open = |name: &str| {
        let mut networks = ground.networks.iter();
        networks.any(|network| network.name == name && !network.closed.contains(&"internal"))
    };
    let served = ground
        .attachments
        .iter()
        .filter(|one| one.alive && facts::has_host_end(one.mode) && open(&one.network));
    let addresses: Vec<bool> = served
        .flat_map(|one| one.ips())
        .map(|ip| ip.is_ipv4())
        .collect();
    // A family without an uplink is common beside one that has it.
    if addresses.is_empty() {
        return Ok(());
    }
    let families: Vec<bool> = [true, false]
        .into_iter()
        .filter(|v4| addresses.contains(v4))
        .collect();
    let Some(cut) = cut(&mut ground.host.socket, &ground.host.links, &families)? else {
        return Ok(());
    };
    let finding = match &cut {
        UplinkFault::NoRoute(_) => Finding::new("no-default-route", "this host"),
        UplinkFault::Down { link, .. } => Finding::new("uplink-down", link),
    };
    let finding = finding
        .means("containers reach nothing beyond the networks that this host is attached to, and no host out there reaches them")
        .seen(cut.text());
    findings.push(match cut {
        UplinkFault::NoRoute(None) => finding.advice(
            "add the default route by the means that configure this host's network, or for now: ip route add default via ROUTER dev UPLINK",
        ),
        UplinkFault::NoRoute(Some(link)) => finding.mend(format!("ip link set dev {link} up")).advice(
            "its routes went with it: the means that configure this host's network make them again, or: ip route add default via ROUTER dev UPLINK",
        ),
        UplinkFault::Down { link, what: "is down" } => finding.mend(format!("ip link set dev {link} up")),
        UplinkFault::Down { link, .. } => finding.advice(format!(
            "look at what {link} is connected to: the cable, the switch, the other end of the tunnel"
        )),
    });
    Ok(())
}

/// Whether no family of these has a way out.
pub(crate) fn cut(
    socket: &mut RouteSocket,
    links: &[Link],
    families: &[bool],
) -> Result<Option<UplinkFault>, Failure> {
    let mut defaults: Vec<RouteEntry> = Vec::new();
    for v4 in families {
        let routes = socket.routes(*v4)?;
        defaults.extend(
            routes
                .into_iter()
                .filter(|route| route.destination.prefix() == 0 && route.kind == UNICAST),
        );
    }
    let link = |index: Option<u32>| links.iter().find(|link| Some(link.index) == index);
    if defaults.is_empty() {
        let mut down = links.iter().filter(|link| may_be_uplink(link) && !link.up);
        let only = down.next().filter(|_| down.next().is_none());
        return Ok(Some(UplinkFault::NoRoute(
            only.map(|link| link.name.clone()),
        )));
    }
    let mut dead = None;
    for route in &defaults {
        // One of several next hops may do: the kernel chooses among those that live.
        let Some(link) = link(route.interface).filter(|_| route.next_hops.is_empty()) else {
            return Ok(None);
        };
        let what = match (link.up, link.carrier) {
            (true, true) => return Ok(None),
            (true, false) => "has no carrier",
            (false, _) => "is down",
        };
        dead.get_or_insert(UplinkFault::Down {
            link: link.name.clone(),
            what,
        });
    }
    Ok(dead)
}

/// Not one that belongs to containers.
fn may_be_uplink(link: &Link) -> bool {
    let kind = link.kind.as_deref().unwrap_or_default();
    let tunnels_of_the_kernel = [
        "sit0", "tunl0", "gre0", "gretap0", "erspan0", "ip6tnl0", "ip_vti0", "ip6_vti0", "ip6gre0",
    ];
    link.name != "lo"
        && link.master.is_none()
        && link
            .alias
            .as_ref()
            .is_none_or(|alias| !alias.starts_with("pontoon "))
        && !["bridge", "ifb", "dummy", "macvlan"].contains(&kind)
        && !tunnels_of_the_kernel.contains(&link.name.as_str())
}
