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
use pontoon_dns::zone::{Attachment, Route, Zone};

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
    /// The network namespace to ask from; `None` is the host's.
    pub(crate) netns: Option<PathBuf>,
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

    /// The way of a question for `name`, in lower case. Servers that failed a moment ago come last. `confined` has the
    /// attachments of a container that is on internal networks alone: only servers on these are
    /// asked, and never those of the host.
    pub(crate) fn way(
        &mut self,
        zone: &Zone,
        route: Option<&Route>,
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
        let domain = route.and_then(|route| route.domain(name));
        let (mut servers, netns, origin) = match route {
            Some(route) if !route.servers.is_empty() => (
                plain(&route.servers),
                route.netns.clone(),
                "the container's own servers".to_owned(),
            ),
            _ if let Some((domain, servers)) = domain => (
                plain(servers),
                None,
                format!("key \"upstreams\" of the network for {domain}"),
            ),
            Some(route) if !route.upstreams.is_empty() => (
                plain(&route.upstreams),
                None,
                "key \"upstreams\" of the network".to_owned(),
            ),
            _ if confined.is_some() => (Vec::new(), None, INTERNAL.to_owned()),
            other => {
                let path = other.map_or(&default, |route| &route.resolv_conf);
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
            netns,
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
                .or_else(|_| nix::net::if_::if_nametoindex(scope.as_str()))
                .ok()?;
            Some(SocketAddrV6::new(address, 53, 0, index).into())
        }
        (address, _) => Some(SocketAddr::new(address, 53)),
    }
}

#[cfg(test)]
mod tests {
    use pontoon_dns::name::Name;

    use super::*;

    fn servers(way: &Way) -> Vec<String> {
        way.servers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_file_is_followed_and_the_dead_come_last() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        let route = Route {
            servers: Vec::new(),
            netns: None,
            upstreams: Vec::new(),
            domains: Vec::new(),
            resolv_conf: path.clone(),
        };
        let (mut upstreams, zone, now) = (Upstreams::default(), Zone::default(), Instant::now());
        let none = upstreams.way(&zone, Some(&route), b"", None, now);
        assert!(none.servers.is_empty());
        upstreams.begin_turn();
        fs::write(&path, "nameserver 10.0.0.1\nnameserver 10.0.0.2\n").unwrap();
        let first = upstreams.way(&zone, Some(&route), b"", None, now);
        assert_eq!(servers(&first), ["10.0.0.1:53", "10.0.0.2:53"]);
        upstreams.failed("10.0.0.1:53".parse().unwrap(), now);
        let second = upstreams.way(&zone, Some(&route), b"", None, now);
        assert_eq!(servers(&second), ["10.0.0.2:53", "10.0.0.1:53"]);
        assert_eq!(first.number, second.number, "the cache stays good");
        let later = upstreams.way(&zone, Some(&route), b"", None, now + PENALTY);
        assert_eq!(servers(&later), ["10.0.0.1:53", "10.0.0.2:53"]);
        // By rename, as editors and network managers do.
        fs::write(dir.path().join("new"), "nameserver 10.0.0.3\n").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        upstreams.begin_turn();
        let third = upstreams.way(&zone, Some(&route), b"", None, now);
        assert_eq!(servers(&third), ["10.0.0.3:53"]);
        assert_ne!(first.number, third.number);
    }

    #[test]
    fn the_nearest_list_counts_and_we_are_in_none() {
        let mut zone = Zone::default();
        let record = serde_json::json!({
            "version": 1, "network": "n", "container": "c", "interface": "e", "names": ["c"],
            "addresses": ["10.0.0.2"], "gateways": ["10.0.0.1"], "domain": "d", "ttl": 5,
            "servers": ["10.0.0.1", "10.9.9.9"], "upstreams": ["10.0.0.1", "10.8.8.8"],
            "resolvConf": "/nowhere", "netns": "/run/netns/c"
        });
        zone.insert(serde_json::from_value(record).unwrap());
        let mut route = zone.at("10.0.0.2".parse().unwrap()).unwrap().route.clone();
        let mut upstreams = Upstreams::default();
        let own = upstreams.way(&zone, Some(&route), b"", None, Instant::now());
        assert_eq!(servers(&own), ["10.9.9.9:53"]);
        assert_eq!(own.netns.as_deref(), Some(Path::new("/run/netns/c")));
        route.servers.clear();
        let network = upstreams.way(&zone, Some(&route), b"", None, Instant::now());
        assert_eq!(servers(&network), ["10.8.8.8:53"]);
        assert_eq!(network.netns, None);
    }

    #[test]
    fn the_longest_domain_has_its_servers() {
        let list = |text: &str| vec![text.parse().unwrap()];
        let domain = |name: &str, server: &str| (Name::parse(name).unwrap(), list(server));
        let mut route = Route {
            servers: Vec::new(),
            netns: None,
            upstreams: list("10.0.0.1"),
            domains: vec![
                domain("example", "10.0.0.2"),
                domain("Corp.Example", "10.0.0.3"),
            ],
            resolv_conf: "/nowhere".into(),
        };
        let (mut upstreams, zone) = (Upstreams::default(), Zone::default());
        let mut ask = |route: &Route, name: &[u8]| {
            servers(&upstreams.way(&zone, Some(route), name, None, Instant::now())).join(" ")
        };
        assert_eq!(ask(&route, b"\x01a\x04corp\x07example"), "10.0.0.3:53");
        assert_eq!(ask(&route, b"\x04corp\x07example"), "10.0.0.3:53");
        assert_eq!(ask(&route, b"\x05acorp\x07example"), "10.0.0.2:53");
        assert_eq!(ask(&route, b"\x03org"), "10.0.0.1:53");
        route.servers = list("10.0.0.9");
        assert_eq!(ask(&route, b"\x07example"), "10.0.0.9:53");
    }
}
