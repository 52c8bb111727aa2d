//! Decisions: names, and buckets of the right size.

use pontoon_attach::reference;
use pontoon_ledger::Key;
use pontoon_netlink::{Link, Qdisc, TokenBucket};

use crate::config::Limit;

/// How long a packet waits at most, as in the reference plugin: 25 ms.
const LATENCY_MS: u64 = 25;
/// Ethernet header, and a VLAN tag.
const FRAME: u32 = 18;

/// The names that the attachment's ifb device may have: the reference plugin's, so that either
/// plugin finds the other's; and, for the second interface of a container on one network, which has
/// the same one there, a name of its own.
pub(crate) fn ifb_names(key: &Key) -> [String; 2] {
    // No id has a NUL.
    let own = Key {
        container: format!("{}\0{}", key.container, key.interface),
        ..key.clone()
    };
    [key, &own].map(|key| reference::reference_attachment(key, Vec::new()).ifb())
}

/// The bucket for a limit on a link. It holds one full packet at least, since a packet that is
/// larger than the bucket never passes.
pub(crate) fn bucket(limit: Limit, mtu: u32) -> TokenBucket {
    let burst = limit.burst.max(mtu.saturating_add(FRAME));
    let waiting = limit.rate.saturating_mul(LATENCY_MS) / 1000;
    TokenBucket {
        rate: limit.rate,
        burst,
        limit: u32::try_from(waiting)
            .unwrap_or(u32::MAX)
            .saturating_add(burst),
    }
}

/// Whether a qdisc is that bucket, made by either plugin: the size of the bucket is kept in ticks,
/// and rounded.
pub(crate) fn is(qdisc: Option<&Qdisc>, bucket: &TokenBucket) -> bool {
    qdisc.is_some_and(|qdisc| {
        qdisc.kind == "tbf" && qdisc.rate == Some(bucket.rate) && qdisc.limit == Some(bucket.limit)
    })
}

/// Whether two links are the ends of one veth pair, each in its own namespace.
pub(crate) fn are_peers(host: &Link, container: &Link) -> bool {
    let veth = |link: &Link| link.kind.as_deref() == Some("veth");
    veth(host)
        && veth(container)
        && host.peer == Some(container.index)
        && container.peer == Some(host.index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_is_the_reference_plugins() {
        let key = |interface: &str| Key {
            network: "net".into(),
            container: "c1".into(),
            interface: interface.into(),
        };
        let [first, second] = ifb_names(&key("eth0"));
        // printf netc1 | sha512sum
        assert_eq!(first, "bwp623e1c388032");
        assert_eq!(second.len(), 15);
        assert_eq!(ifb_names(&key("eth1"))[0], first);
        assert_ne!(ifb_names(&key("eth1"))[1], second);
    }

    #[test]
    fn a_bucket_holds_a_packet() {
        let limit = Limit {
            rate: 1_000_000,
            burst: 100_000,
        };
        let usual = TokenBucket {
            rate: 1_000_000,
            burst: 100_000,
            limit: 125_000,
        };
        assert_eq!(bucket(limit, 1500), usual);
        assert_eq!(bucket(Limit { burst: 10, ..limit }, 1500).burst, 1518);
        let huge = Limit {
            rate: u64::MAX,
            burst: u32::MAX - 1,
        };
        assert_eq!(bucket(huge, 1500).limit, u32::MAX);
    }
}
