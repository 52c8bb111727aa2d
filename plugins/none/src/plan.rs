//! Decisions: what may be in a namespace that has no network.

use pontoon_netlink::Link;

use crate::error::AloneError;

/// Devices that the kernel itself puts into each new namespace, down, where their modules are
/// loaded (`net.core.fb_tunnels_only_for_init_net`).
const FALLBACK: [&str; 10] = [
    "erspan0", "gre0", "gretap0", "ip6_vti0", "ip6gre0", "ip6tnl0", "ip_vti0", "sit0", "teql0",
    "tunl0",
];

/// The first interface that gives the namespace a network.
pub(crate) fn intruder(links: &[Link]) -> Option<&Link> {
    links
        .iter()
        .find(|link| link.name != "lo" && (link.up || !FALLBACK.contains(&link.name.as_str())))
}

/// The loopback interface, which each namespace has.
pub(crate) fn loopback(links: &[Link]) -> Result<&Link, AloneError> {
    links
        .iter()
        .find(|link| link.name == "lo")
        .ok_or(AloneError::NoLoopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(links: &[(&str, bool)], expected: Option<&str>) {
        let links: Vec<Link> = links
            .iter()
            .map(|&(name, up)| Link {
                name: name.into(),
                up,
                ..Link::default()
            })
            .collect();
        let found = intruder(&links).map(|link| link.name.as_str());
        assert_eq!(found, expected);
    }

    #[test]
    fn whatever_is_not_the_kernels_own_intrudes() {
        check(&[("lo", true)], None);
        check(&[("lo", true), ("sit0", false), ("tunl0", false)], None);
        check(&[("lo", true), ("sit0", true)], Some("sit0"));
        check(&[("lo", true), ("eth0", false)], Some("eth0"));
    }
}
