//! Which servers a question is asked, and in which order. Knows neither socket, clock nor file: what the
//! host's files say comes in by a function.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use pontoon_dns::internal::is_inside;
use pontoon_dns::record::Upstream;
use pontoon_dns::zone::{Attachment, Key, Zone};

use crate::health::Healths;
use crate::server::Server;

/// The host's file when no record names another.
const DEFAULT: &str = "/etc/resolv.conf";
/// What stands for a list of servers where there is none.
const INTERNAL: &str = "the container's networks are internal";
/// Most servers of one list that are asked.
const MOST: usize = 8;

/// Servers to ask, and from where.
#[derive(Debug)]
pub struct ServerChoice {
    /// Those that have failed lately come last.
    pub servers: Rc<[Server]>,
    /// The attachment whose own servers they are, asked from its network namespace; `None` for servers
    /// that are asked from the host's.
    pub own: Option<Key>,
    /// The same for the same servers in the same order of preference.
    pub number: u64,
    /// Which list it is, in words.
    pub origin: String,
}

/// A question, as far as it decides about servers.
#[derive(Debug, Clone, Copy)]
pub struct ServerCriteria<'a> {
    /// The container's attachment; `None` is the host.
    pub querier: Option<&'a Attachment>,
    /// The name, in lower case.
    pub name: &'a [u8],
    /// The attachments of a container that is on internal networks alone: only servers on these are
    /// asked, and never those of the host.
    pub confined: Option<&'a [&'a Attachment]>,
}

/// The way of a question. `file` reads the servers of a host's file, and names the file that they come
/// from.
pub fn choose(
    zone: &Zone,
    criteria: ServerCriteria<'_>,
    healths: &Healths,
    now: Instant,
    file: impl FnOnce(&Path) -> (Vec<SocketAddr>, String),
) -> ServerChoice {
    let ServerCriteria {
        querier,
        name,
        confined,
    } = criteria;
    // The resolver itself, at port 53 of a gateway.
    let own = |server: &Server| server.tls.is_none() && zone.is_gateway(server.at.ip());
    let shared = querier.map(|querier| &querier.shared);
    let ca = shared.and_then(|shared| shared.upstreams_ca.as_deref());
    let listed = |list: &[Upstream]| list.iter().map(|one| Server::of(one, ca)).collect();
    let domain = shared.and_then(|shared| shared.servers_for(name));
    let (mut servers, netns, mut origin): (Vec<Server>, _, _) = match querier {
        Some(querier) if !querier.servers.is_empty() => (
            querier.servers.iter().map(|one| (*one).into()).collect(),
            querier.netns.as_deref(),
            "the container's own servers".to_owned(),
        ),
        _ if let Some((domain, servers)) = domain => (
            listed(servers),
            None,
            format!("key \"upstreams\" of the network for {domain}"),
        ),
        Some(querier) if !querier.shared.upstreams.is_empty() => (
            listed(&querier.shared.upstreams),
            None,
            "key \"upstreams\" of the network".to_owned(),
        ),
        _ if confined.is_some() => (Vec::new(), None, INTERNAL.to_owned()),
        _ => {
            let path = shared.map_or(Path::new(DEFAULT), |shared| &shared.resolv_conf);
            let (servers, used) = file(path);
            (servers.into_iter().map(Server::from).collect(), None, used)
        }
    };
    servers.retain(|server| !own(server));
    if let Some(attachments) = confined {
        servers.retain(|server| {
            let own = netns.is_some() && server.at.ip().is_loopback();
            own || is_inside(attachments, server.at.ip())
        });
        if servers.is_empty() {
            origin = INTERNAL.to_owned();
        }
    }
    servers.truncate(MOST);
    let mut hasher = DefaultHasher::new();
    (&servers, &netns).hash(&mut hasher);
    // Stable: among equals the admin's order stays.
    servers.sort_by_key(|server| healths.is_dead(server, now));
    ServerChoice {
        servers: servers.into(),
        own: netns.and(querier).map(Attachment::key),
        number: hasher.finish(),
        origin,
    }
}

/// The address of a plain server, as a file of the host names it.
#[must_use]
pub fn plain(address: IpAddr) -> SocketAddr {
    Server::from(address).at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::PENALTY;

    fn servers(choice: &ServerChoice) -> String {
        let all: Vec<String> = choice.servers.iter().map(ToString::to_string).collect();
        all.join(" ")
    }

    /// A container at 10.0.0.2 with these keys in its record.
    fn zone(keys: serde_json::Value) -> Zone {
        let mut record = serde_json::json!({
            "version": 1, "network": "n", "container": "c", "interface": "e", "names": ["c"],
            "addresses": ["10.0.0.2"], "gateways": ["10.0.0.1"], "domain": "d", "ttl": 5,
            "resolvConf": "/nowhere", "netns": "/run/netns/c", "subnets": ["10.0.0.0/24"]
        });
        for (key, value) in keys.as_object().unwrap() {
            record[key] = value.clone();
        }
        let mut zone = Zone::default();
        zone.insert(serde_json::from_value(record).unwrap());
        zone
    }

    fn host(path: &Path) -> (Vec<SocketAddr>, String) {
        let all = ["10.0.0.1", "10.7.7.7", "10.8.8.8"];
        (
            all.map(|one| plain(one.parse().unwrap())).into(),
            path.display().to_string(),
        )
    }

    fn ask(zone: &Zone, name: &[u8], healths: &Healths, now: Instant) -> ServerChoice {
        let criteria = ServerCriteria {
            querier: zone.at([10, 0, 0, 2].into()),
            name,
            confined: None,
        };
        choose(zone, criteria, healths, now, host)
    }

    #[test]
    fn the_hosts_are_asked_and_the_dead_come_last() {
        let zone = zone(serde_json::json!({}));
        let (mut healths, now) = (Healths::default(), Instant::now());
        let first = ask(&zone, b"", &healths, now);
        assert_eq!(
            servers(&first),
            "10.7.7.7:53 10.8.8.8:53",
            "not the resolver itself"
        );
        assert_eq!(first.origin, "/nowhere");
        healths.failed(&first.servers[0], None, now);
        let second = ask(&zone, b"", &healths, now);
        assert_eq!(servers(&second), "10.8.8.8:53 10.7.7.7:53");
        assert_eq!(first.number, second.number, "the cache stays good");
        let later = ask(&zone, b"", &healths, now + PENALTY);
        assert_eq!(servers(&later), servers(&first));
    }

    #[test]
    fn the_nearest_list_counts_and_the_resolver_is_in_none() {
        let (healths, now) = (Healths::default(), Instant::now());
        let upstreams = serde_json::json!(["10.0.0.1", "10.8.8.8", "tls://10.0.0.1#own.test"]);
        let both = zone(serde_json::json!({
            "servers": ["10.0.0.1", "10.9.9.9"], "upstreams": upstreams
        }));
        let own = ask(&both, b"", &healths, now);
        assert_eq!(servers(&own), "10.9.9.9:53");
        assert_eq!(own.own.as_ref(), Some(&Key::parse("n/c:e").unwrap()));
        let mut keys = serde_json::json!({ "upstreams": upstreams });
        let network = ask(&zone(keys.clone()), b"", &healths, now);
        assert_eq!(servers(&network), "10.8.8.8:53 tls://10.0.0.1#own.test");
        assert_eq!(network.own, None);
        keys["upstreamsCa"] = serde_json::json!("/ca");
        let other = ask(&zone(keys), b"", &healths, now);
        assert_ne!(
            network.number, other.number,
            "what another authority vouches for is not kept"
        );
    }

    #[test]
    fn the_longest_domain_has_its_servers() {
        let (healths, now) = (Healths::default(), Instant::now());
        let mut keys = serde_json::json!({
            "upstreams": ["10.0.0.4"],
            "domains": [
                { "name": "example", "servers": ["10.0.0.5"] },
                { "name": "Corp.Example", "servers": ["tls://10.0.0.6#a"] },
            ],
        });
        let look = |keys: &serde_json::Value, name: &[u8]| {
            servers(&ask(&zone(keys.clone()), name, &healths, now))
        };
        assert_eq!(look(&keys, b"\x01a\x04corp\x07example"), "tls://10.0.0.6#a");
        assert_eq!(look(&keys, b"\x04corp\x07example"), "tls://10.0.0.6#a");
        assert_eq!(look(&keys, b"\x05acorp\x07example"), "10.0.0.5:53");
        assert_eq!(look(&keys, b"\x03org"), "10.0.0.4:53");
        keys["servers"] = serde_json::json!(["10.0.0.9"]);
        assert_eq!(look(&keys, b"\x07example"), "10.0.0.9:53");
    }

    #[test]
    fn who_is_confined_asks_inside_only() {
        let (healths, now) = (Healths::default(), Instant::now());
        for (keys, expected) in [
            (serde_json::json!({}), ""),
            (
                serde_json::json!({ "upstreams": ["10.0.0.5", "tls://10.0.0.6#a", "tls://10.1.0.6#a"] }),
                "10.0.0.5:53 tls://10.0.0.6#a",
            ),
            (
                serde_json::json!({ "servers": ["10.1.0.5", "127.0.0.1"] }),
                "127.0.0.1:53",
            ),
        ] {
            let zone = zone(keys);
            let all: Vec<&Attachment> = zone.attachments().collect();
            let criteria = ServerCriteria {
                querier: zone.at([10, 0, 0, 2].into()),
                name: b"",
                confined: Some(&all),
            };
            let choice = choose(&zone, criteria, &healths, now, host);
            assert_eq!(servers(&choice), expected);
            assert_eq!(choice.origin == INTERNAL, expected.is_empty());
        }
    }
}
