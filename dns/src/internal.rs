//! Internal networks: a container that is on no other kind learns names of its networks only. A
//! question about a name of the outside would be a way out for data.

use std::net::IpAddr;

use pontoon_netlink::IpNetwork;

use crate::zone::{Attachment, Querier, Zone};

/// What the records of names do not tell.
pub trait Facts {
    /// Whether a firewall keeps the network to itself.
    fn is_closed(&mut self, network: &str) -> bool;

    /// Whether the container is on an open network that has no names.
    fn is_on_open_network(&mut self, container: &str) -> bool;
}

/// Whether the asker is a container on internal networks alone: then the subnets of those.
pub fn confinement<'z>(
    zone: &'z Zone,
    querier: Querier<'z>,
    facts: &mut impl Facts,
) -> Option<Vec<&'z Attachment>> {
    let Querier::Container(id) = querier else {
        return None;
    };
    let attachments: Vec<&Attachment> = zone.of_container(id).collect();
    let all = attachments
        .iter()
        .all(|one| one.shared.internal || facts.is_closed(&one.shared.network));
    (all && !facts.is_on_open_network(id)).then_some(attachments)
}

/// Whether a question came to the address of internal networks alone from a container that is on none
/// of them. A container of the network can claim any source address, and needs no reply to carry
/// data out.
pub fn is_astray(
    zone: &Zone,
    querier: Querier<'_>,
    gateway: IpAddr,
    facts: &mut impl Facts,
) -> bool {
    let Querier::Container(_) = querier else {
        return false;
    };
    let mut networks = zone.networks_at(gateway).peekable();
    networks.peek().is_some()
        && networks.all(|(network, internal)| {
            (internal || facts.is_closed(network)) && !zone.on_network(querier, network)
        })
}

/// Whether a server lies on one of these networks, so that asking it leads nowhere else.
#[must_use]
pub fn is_inside(attachments: &[&Attachment], server: IpAddr) -> bool {
    attachments
        .iter()
        .flat_map(|one| &one.shared.subnets)
        .any(|subnet: &IpNetwork| subnet.contains(server))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::record;

    #[derive(Default)]
    struct FixedFacts {
        closed: Vec<&'static str>,
        open: bool,
    }

    impl Facts for FixedFacts {
        fn is_closed(&mut self, network: &str) -> bool {
            self.closed.contains(&network)
        }

        fn is_on_open_network(&mut self, _: &str) -> bool {
            self.open
        }
    }

    #[test]
    fn an_address_of_another_network_is_believed_on_no_internal_one() {
        let mut zone = Zone::default();
        let (inner, outer): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 1, 1].into());
        let mut one = record("inner", "c", "10.0.0.2");
        (one.internal, one.gateways) = (true, vec![inner]);
        zone.insert(one);
        let mut two = record("outer", "d", "10.0.1.2");
        two.gateways = vec![outer];
        zone.insert(two);
        let (c, d) = (Querier::Container("c"), Querier::Container("d"));
        let mut none = FixedFacts::default();
        assert!(is_astray(&zone, d, inner, &mut none));
        assert!(!is_astray(&zone, c, inner, &mut none));
        assert!(!is_astray(&zone, d, outer, &mut none));
        assert!(!is_astray(&zone, Querier::Host, inner, &mut none));
        let mut closed = FixedFacts {
            closed: vec!["outer"],
            ..FixedFacts::default()
        };
        assert!(is_astray(&zone, c, outer, &mut closed));
    }

    #[test]
    fn one_open_network_is_enough() {
        let mut zone = Zone::default();
        let mut inner = record("inner", "c", "10.0.0.2");
        inner.internal = true;
        inner.subnets = vec!["10.0.0.0/24".parse().unwrap()];
        zone.insert(inner);
        let container = Querier::Container("c");
        let mut none = FixedFacts::default();
        let confined = confinement(&zone, container, &mut none).unwrap();
        assert!(is_inside(&confined, "10.0.0.53".parse().unwrap()));
        assert!(!is_inside(&confined, "10.0.1.53".parse().unwrap()));
        assert!(confinement(&zone, Querier::Host, &mut none).is_none());
        let mut elsewhere = FixedFacts {
            open: true,
            ..FixedFacts::default()
        };
        assert!(confinement(&zone, container, &mut elsewhere).is_none());

        zone.insert(record("outer", "c", "10.0.1.2"));
        assert!(confinement(&zone, container, &mut none).is_none());
        let mut firewalled = FixedFacts {
            closed: vec!["outer"],
            ..FixedFacts::default()
        };
        assert!(confinement(&zone, container, &mut firewalled).is_some());
    }
}
