//! Which servers answer what is not ours, and in which order.

use std::collections::HashMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pontoon_dns::internal::is_inside;
use pontoon_dns::resolv_conf::{RESOLVED, Server, servers_of_host};
use pontoon_dns::zone::{Attachment, Key, Zone};

use super::sockets;

/// For how long a server that did not answer is tried last.
const PENALTY: Duration = Duration::from_secs(30);
/// What stands for a list of servers where there is none.
const INTERNAL: &str = "the container's networks are internal";
/// Most servers of one list that are asked.
const MOST: usize = 8;
/// Most servers whose health is remembered.
const REMEMBERED: usize = 1024;

/// Servers to ask, and from where.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) servers: Vec<SocketAddr>,
    /// The attachment whose own servers they are, asked from its network namespace; `None` for servers
    /// that are asked from the host's.
    pub(crate) own: Option<Key>,
    /// The same for the same servers in the same order of preference.
    pub(crate) number: u64,
    /// Which list it is, in words.
    pub(crate) origin: String,
}

/// How a server does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health {
    pub(crate) asked: u64,
    pub(crate) failed: u64,
    pub(crate) last_micros: u64,
    dead_until: Option<Instant>,
}

impl Health {
    pub(crate) fn is_dead(&self, now: Instant) -> bool {
        self.dead_until.is_some_and(|until| until > now)
    }
}

/// What tells one state of a file from another.
type Stamp = Option<(u64, u64, u64, i64, i64, i64)>;

struct File {
    /// The turn in which it was last looked at.
    looked: u64,
    stamps: [Stamp; 2],
    used: PathBuf,
    servers: Vec<Server>,
}

/// The host's files, followed, and the servers' health.
#[derive(Default)]
pub(crate) struct Upstreams {
    files: HashMap<PathBuf, File>,
    turn: u64,
    pub(crate) health: HashMap<SocketAddr, Health>,
}

impl Upstreams {
    /// Files are looked at again from now on.
    pub(crate) fn begin_turn(&mut self) {
        self.turn += 1;
    }

    /// The way of a question for `name`, in lower case, that a container asks by its attachment, or
    /// the host. Servers that failed a moment ago come last. `confined` has the attachments of a
    /// container that is on internal networks alone: only servers on these are asked, and never those
    /// of the host.
    pub(crate) fn way(
        &mut self,
        zone: &Zone,
        asker: Option<&Attachment>,
        name: &[u8],
        confined: Option<&[&Attachment]>,
        now: Instant,
    ) -> Way {
        let own = |address: &IpAddr| zone.is_gateway(*address);
        let plain = |list: &[IpAddr]| -> Vec<SocketAddr> {
            list.iter()
                .filter(|address| !own(address))
                .map(|address| SocketAddr::new(*address, 53))
                .collect()
        };
        let default = PathBuf::from("/etc/resolv.conf");
        let shared = asker.map(|asker| &asker.shared);
        let domain = shared.and_then(|shared| shared.servers_for(name));
        let (mut servers, netns, origin) = match asker {
            Some(asker) if !asker.servers.is_empty() => (
                plain(&asker.servers),
                asker.netns.clone(),
                "the container's own servers".to_owned(),
            ),
            _ if let Some((domain, servers)) = domain => (
                plain(servers),
                None,
                format!("key \"upstreams\" of the network for {domain}"),
            ),
            Some(asker) if !asker.shared.upstreams.is_empty() => (
                plain(&asker.shared.upstreams),
                None,
                "key \"upstreams\" of the network".to_owned(),
            ),
            _ if confined.is_some() => (Vec::new(), None, INTERNAL.to_owned()),
            _ => {
                let path = shared.map_or(&default, |shared| &shared.resolv_conf);
                let file = self.file(path);
                let servers = file.servers.iter().filter_map(reachable);
                let servers = servers.filter(|server| !own(&server.ip())).collect();
                (servers, None, file.used.display().to_string())
            }
        };
        let mut origin = origin;
        if let Some(attachments) = confined {
            servers.retain(|server| {
                let own = netns.is_some() && server.ip().is_loopback();
                own || is_inside(attachments, server.ip())
            });
            if servers.is_empty() {
                origin = INTERNAL.to_owned();
            }
        }
        servers.truncate(MOST);
        let mut hasher = DefaultHasher::new();
        (&servers, &netns).hash(&mut hasher);
        // Stable: among equals the admin's order stays.
        servers.sort_by_key(|server| {
            self.health
                .get(server)
                .is_some_and(|health| health.is_dead(now))
        });
        Way {
            servers,
            own: netns.and(asker).map(Attachment::key),
            number: hasher.finish(),
            origin,
        }
    }

    /// The servers of a host file as it is now: looking costs two system calls, once for all
    /// questions that came at a time, and no change is ever missed.
    fn file(&mut self, path: &Path) -> &File {
        let turn = self.turn;
        if self
            .files
            .get(path)
            .is_some_and(|known| known.looked == turn)
        {
            return &self.files[path];
        }
        let stamps = [stamp(path), stamp(Path::new(RESOLVED))];
        let known = self.files.get_mut(path);
        if let Some(known) = known.filter(|known| known.stamps == stamps) {
            known.looked = turn;
        } else {
            let (used, servers) = servers_of_host(path, |path| fs::read(path).ok());
            let file = File {
                looked: turn,
                stamps,
                used,
                servers,
            };
            if self.files.len() >= REMEMBERED {
                self.files.clear();
            }
            self.files.insert(path.to_owned(), file);
        }
        &self.files[path]
    }

    pub(crate) fn asked(&mut self, server: SocketAddr) {
        if self.health.len() >= REMEMBERED {
            self.health.clear();
        }
        self.health.entry(server).or_default().asked += 1;
    }

    pub(crate) fn answered(&mut self, server: SocketAddr, took: Duration) {
        if let Some(health) = self.health.get_mut(&server) {
            health.dead_until = None;
            health.last_micros = took.as_micros().try_into().unwrap_or(u64::MAX);
        }
    }

    pub(crate) fn failed(&mut self, server: SocketAddr, now: Instant) {
        let health = self.health.entry(server).or_default();
        health.failed += 1;
        health.dead_until = Some(now + PENALTY);
    }
}

fn stamp(path: &Path) -> Stamp {
    let data = fs::metadata(path).ok()?;
    Some((
        data.dev(),
        data.ino(),
        data.size(),
        data.mtime_nsec(),
        data.ctime(),
        data.ctime_nsec(),
    ))
}

/// Where a server is asked; `None` when the interface of its scope is not there.
fn reachable(server: &Server) -> Option<SocketAddr> {
    match (server.address, &server.scope) {
        (IpAddr::V6(address), Some(scope)) => {
            let index = scope
                .parse()
                .ok()
                .or_else(|| sockets::interface_index(scope))?;
            Some(SocketAddrV6::new(address, 53, 0, index).into())
        }
        (address, _) => Some(SocketAddr::new(address, 53)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(way: &Way) -> Vec<String> {
        way.servers.iter().map(ToString::to_string).collect()
    }

    /// A container at 10.0.0.2 with these keys in its record.
    fn zone(keys: serde_json::Value) -> Zone {
        let mut record = serde_json::json!({
            "version": 1, "network": "n", "container": "c", "interface": "e", "names": ["c"],
            "addresses": ["10.0.0.2"], "gateways": ["10.0.0.1"], "domain": "d", "ttl": 5,
            "resolvConf": "/nowhere", "netns": "/run/netns/c"
        });
        for (key, value) in keys.as_object().unwrap() {
            record[key] = value.clone();
        }
        let mut zone = Zone::default();
        zone.insert(serde_json::from_value(record).unwrap());
        zone
    }

    fn ask(upstreams: &mut Upstreams, zone: &Zone, name: &[u8], now: Instant) -> Way {
        let asker = zone.at("10.0.0.2".parse().unwrap());
        upstreams.way(zone, asker, name, None, now)
    }

    #[test]
    fn the_file_is_followed_and_the_dead_come_last() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        let zone = zone(serde_json::json!({ "resolvConf": path }));
        let (mut upstreams, now) = (Upstreams::default(), Instant::now());
        let none = ask(&mut upstreams, &zone, b"", now);
        assert!(none.servers.is_empty());
        upstreams.begin_turn();
        fs::write(&path, "nameserver 10.0.0.7\nnameserver 10.0.0.8\n").unwrap();
        let first = ask(&mut upstreams, &zone, b"", now);
        assert_eq!(servers(&first), ["10.0.0.7:53", "10.0.0.8:53"]);
        upstreams.failed("10.0.0.7:53".parse().unwrap(), now);
        let second = ask(&mut upstreams, &zone, b"", now);
        assert_eq!(servers(&second), ["10.0.0.8:53", "10.0.0.7:53"]);
        assert_eq!(first.number, second.number, "the cache stays good");
        let later = ask(&mut upstreams, &zone, b"", now + PENALTY);
        assert_eq!(servers(&later), ["10.0.0.7:53", "10.0.0.8:53"]);
        // By rename, as editors and network managers do.
        fs::write(dir.path().join("new"), "nameserver 10.0.0.3\n").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        upstreams.begin_turn();
        let third = ask(&mut upstreams, &zone, b"", now);
        assert_eq!(servers(&third), ["10.0.0.3:53"]);
        assert_ne!(first.number, third.number);
    }

    #[test]
    fn the_nearest_list_counts_and_the_resolver_is_in_none() {
        let mut upstreams = Upstreams::default();
        let upstream = serde_json::json!(["10.0.0.1", "10.8.8.8"]);
        let both = zone(serde_json::json!({
            "servers": ["10.0.0.1", "10.9.9.9"], "upstreams": upstream
        }));
        let own = ask(&mut upstreams, &both, b"", Instant::now());
        assert_eq!(servers(&own), ["10.9.9.9:53"]);
        assert_eq!(own.own.as_ref(), Some(&Key::parse("n/c:e").unwrap()));
        let one = zone(serde_json::json!({ "upstreams": upstream }));
        let network = ask(&mut upstreams, &one, b"", Instant::now());
        assert_eq!(servers(&network), ["10.8.8.8:53"]);
        assert_eq!(network.own, None);
    }

    #[test]
    fn the_longest_domain_has_its_servers() {
        let mut keys = serde_json::json!({
            "upstreams": ["10.0.0.4"],
            "domains": [
                { "name": "example", "servers": ["10.0.0.5"] },
                { "name": "Corp.Example", "servers": ["10.0.0.6"] },
            ],
        });
        let mut upstreams = Upstreams::default();
        let mut look = |keys: &serde_json::Value, name: &[u8]| {
            servers(&ask(
                &mut upstreams,
                &zone(keys.clone()),
                name,
                Instant::now(),
            ))
            .join(" ")
        };
        assert_eq!(look(&keys, b"\x01a\x04corp\x07example"), "10.0.0.6:53");
        assert_eq!(look(&keys, b"\x04corp\x07example"), "10.0.0.6:53");
        assert_eq!(look(&keys, b"\x05acorp\x07example"), "10.0.0.5:53");
        assert_eq!(look(&keys, b"\x03org"), "10.0.0.4:53");
        keys["servers"] = serde_json::json!(["10.0.0.9"]);
        assert_eq!(look(&keys, b"\x07example"), "10.0.0.9:53");
    }
}
