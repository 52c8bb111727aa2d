//! What the keeper does for the worker. Each request is checked against the records as they are on disk:
//! the worker, which reads what containers send, is not trusted.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use pontoon_dns::record::{LARGEST, Record};
use pontoon_dns::zone::Key;
use pontoon_ledger::files::may_exist;
use pontoon_netlink::Netns;
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

use super::files;
use crate::request::{FILES, OpenResult, Reply, Request, WatchKind};
use crate::sockets;
use crate::startup;

/// Port of DNS: a container's own servers are asked there.
const DNS: u16 = 53;

/// The requests about files and sockets, answered.
pub(crate) struct Service {
    state: PathBuf,
    /// Ports at which the worker may listen.
    ports: Vec<u16>,
    records: Option<OwnedFd>,
    notes: Option<OwnedFd>,
    /// Directories in which namespaces of containers could be seen.
    visible: HashSet<PathBuf>,
}

impl Service {
    pub(crate) fn new(state: &Path, port: u16) -> Self {
        Self {
            state: state.to_owned(),
            ports: startup::ports(port).collect(),
            records: None,
            notes: None,
            visible: HashSet::new(),
        }
    }

    /// Makes what tells a new worker of changes; `None` where the kernel gives none
    /// (`max_user_instances`).
    pub(crate) fn renew_watches(&mut self) {
        let flags = CreateFlags::NONBLOCK | CreateFlags::CLOEXEC;
        self.records = init(flags).ok();
        self.notes = init(flags).ok();
    }

    /// Takes over those of a worker that is there.
    pub(crate) fn set_watches(&mut self, records: Option<OwnedFd>, notes: Option<OwnedFd>) {
        (self.records, self.notes) = (records, notes);
    }

    pub(crate) fn watches(&self) -> [Option<&OwnedFd>; 2] {
        [self.records.as_ref(), self.notes.as_ref()]
    }

    /// The answer, and the descriptors that go with it. Requests about processes are refused.
    pub(crate) fn answer(&mut self, request: Request) -> (Reply, Vec<OwnedFd>) {
        let alone = |reply| (reply, Vec::new());
        match request {
            Request::Open(paths) => self.open(&paths),
            Request::Exists(path) => alone(match files::components(&path) {
                Some((parts, files::PathKind::Hidden)) => {
                    Reply::Is(files::exists(&self.state, &parts))
                }
                _ => Reply::refused(format!("{path:?} is no record of an attachment")),
            }),
            Request::Watch(watched, path) => alone(self.watch(watched, &path)),
            Request::Listen {
                keys,
                address,
                port,
            } => self.listen(&keys, address, port),
            Request::Connect {
                key,
                server,
                stream,
            } => match self.connect(&key, server, stream) {
                Ok(socket) => (Reply::Done, vec![socket]),
                Err(error) => alone(Reply::failed(&error)),
            },
            Request::IsAnyAlive(keys) => {
                let alive = keys.iter().any(|key| self.is_alive(key));
                alone(Reply::Is(alive))
            }
            _ => alone(Reply::refused(
                "this is asked of the process, not of its files",
            )),
        }
    }

    fn open(&self, paths: &[String]) -> (Reply, Vec<OwnedFd>) {
        let mut opened = Vec::new();
        let mut descriptors = Vec::new();
        for path in paths.iter().take(FILES) {
            let found = match files::components(path) {
                None | Some((_, files::PathKind::Hidden)) => {
                    Err(io::Error::other("the resolver reads no such file"))
                }
                Some((parts, shape)) => files::open(&self.state, &parts, shape),
            };
            opened.push(match found {
                Ok(Some(file)) => {
                    descriptors.push(file);
                    OpenResult::There
                }
                Ok(None) => OpenResult::Missing,
                Err(error) => OpenResult::Failed(error.to_string()),
            });
        }
        (Reply::Opened(opened), descriptors)
    }

    /// Watching a directory again is the same watch.
    fn watch(&self, watched: WatchKind, path: &str) -> Reply {
        let changes = WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::CLOSE_WRITE;
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (inotify, flags) = match (watched, &parts[..]) {
            (WatchKind::Records, ["dns"]) => (&self.records, WatchFlags::CREATE),
            (WatchKind::Records, ["dns", "records"]) => {
                (&self.records, WatchFlags::CREATE | WatchFlags::MOVED_TO)
            }
            (WatchKind::Records, ["dns", "remote"]) => (&self.records, changes),
            (WatchKind::Records, ["dns", "records", _]) if files::components(path).is_some() => {
                (&self.records, changes)
            }
            (WatchKind::Notes, []) => (
                &self.notes,
                WatchFlags::CREATE
                    | WatchFlags::DELETE
                    | WatchFlags::MOVED_TO
                    | WatchFlags::MOVED_FROM,
            ),
            (WatchKind::Notes, ["policy"]) => (&self.notes, changes | WatchFlags::CREATE),
            _ => return Reply::refused(format!("{path:?} is not watched")),
        };
        let Some(inotify) = inotify else {
            return Reply::refused("the kernel gives no inotify instance");
        };
        let watched = files::directory(&self.state, &parts).and_then(|dir| {
            let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
            Ok(add_watch(inotify, path, flags)?)
        });
        match watched {
            Ok(number) => Reply::Watching(number),
            Err(error) => Reply::failed(&error),
        }
    }

    /// A record as it is now.
    fn record(&self, key: &str) -> io::Result<Record> {
        let unread = |text: String| io::Error::other(text);
        let path = format!("dns/records/{key}");
        let named = files::components(&path).filter(|_| Key::parse(key).is_some());
        let Some((parts, shape)) = named else {
            return Err(unread(format!("{key:?} names no record")));
        };
        let Some(file) = files::open(&self.state, &parts, shape)? else {
            return Err(unread(format!("there is no record {key}")));
        };
        let mut text = Vec::new();
        File::from(file).take(LARGEST).read_to_end(&mut text)?;
        Record::parse(&text, Path::new(&path)).map_err(io::Error::other)
    }

    fn listen(&self, keys: &[String], address: IpAddr, port: u16) -> (Reply, Vec<OwnedFd>) {
        let named = |key: &String| {
            self.record(key)
                .is_ok_and(|record| record.gateways.contains(&address))
        };
        if !self.ports.contains(&port) || !keys.iter().take(FILES).any(named) {
            let text = format!(
                "no record names {address} as a gateway, or port {port} is not the resolver's"
            );
            return (Reply::refused(text), Vec::new());
        }
        match sockets::listening(SocketAddr::new(address, port)) {
            Ok(both) => (Reply::Done, both.into()),
            Err(error) => (Reply::failed(&error), Vec::new()),
        }
    }

    fn connect(&self, key: &str, server: SocketAddr, stream: bool) -> io::Result<OwnedFd> {
        let record = self.record(key)?;
        if !record.servers.contains(&server.ip()) || server.port() != DNS {
            let text = format!("the record {key} does not name the server {server}");
            return Err(io::Error::other(text));
        }
        let Some(path) = record.netns else {
            return sockets::connected(server, stream);
        };
        // A socket stays in the namespace in which it is made.
        let netns = Netns::open(&path).map_err(io::Error::other)?;
        netns
            .run(|| sockets::connected(server, stream))
            .map_err(io::Error::other)?
    }

    /// Whether the container of a record may be alive. A namespace that could never be seen from here
    /// proves nothing by its absence.
    fn is_alive(&mut self, key: &str) -> bool {
        let Ok(Record {
            netns: Some(path), ..
        }) = self.record(key)
        else {
            return true;
        };
        let Some(dir) = path.parent() else {
            return true;
        };
        if may_exist(&path) {
            if !self.visible.contains(dir) {
                self.visible.insert(dir.to_owned());
            }
            return true;
        }
        !self.visible.contains(dir)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::UdpSocket;

    use super::*;

    /// A container at 127.0.0.1 whose own server is 127.0.0.1.
    fn service(dir: &Path) -> Service {
        let text = serde_json::json!({
            "version": 1, "network": "net", "container": "c", "interface": "eth0", "names": ["c"],
            "addresses": ["127.0.0.1"], "gateways": ["127.0.0.1"], "servers": ["127.0.0.1"],
            "domain": "d", "ttl": 5, "resolvConf": "/x",
        });
        fs::create_dir_all(dir.join("dns/records/net")).unwrap();
        fs::write(dir.join("dns/records/net/c:eth0"), text.to_string()).unwrap();
        Service::new(dir, startup::PORT)
    }

    fn is_refused(answer: (Reply, Vec<OwnedFd>)) -> bool {
        matches!(answer.0, Reply::Refused { errno: None, .. }) && answer.1.is_empty()
    }

    fn connect(key: &str, server: &str) -> Request {
        Request::Connect {
            key: key.to_owned(),
            server: server.parse().unwrap(),
            stream: false,
        }
    }

    #[test]
    fn a_server_that_the_record_does_not_name_is_not_asked() {
        let dir = tempfile::tempdir().unwrap();
        let mut service = service(dir.path());
        let (reply, sockets) = service.answer(connect("net/c:eth0", "127.0.0.1:53"));
        assert_eq!((reply, sockets.len()), (Reply::Done, 1));
        for (key, server) in [
            ("net/c:eth0", "127.0.0.2:53"),
            ("net/c:eth0", "127.0.0.1:22"),
            ("net/d:eth0", "127.0.0.1:53"),
            ("../records/net/c:eth0", "127.0.0.1:53"),
        ] {
            assert!(
                is_refused(service.answer(connect(key, server))),
                "{key} {server}"
            );
        }
    }

    #[test]
    fn an_address_that_is_no_gateway_is_not_listened_at() {
        let dir = tempfile::tempdir().unwrap();
        let mut service = service(dir.path());
        let taken: Vec<_> = startup::ports(startup::PORT)
            .filter_map(|port| UdpSocket::bind(("127.0.0.1", port)).ok())
            .collect();
        let port = taken[0].local_addr().unwrap().port();
        let mut listen = |key: &str, address: &str, port| {
            service.answer(Request::Listen {
                keys: vec![key.to_owned()],
                address: address.parse().unwrap(),
                port,
            })
        };
        // The right ones get as far as the kernel.
        let (reply, _) = listen("net/c:eth0", "127.0.0.1", port);
        assert_eq!(reply.into_error().kind(), io::ErrorKind::AddrInUse);
        drop(taken);
        let (reply, sockets) = listen("net/c:eth0", "127.0.0.1", port);
        assert_eq!((reply, sockets.len()), (Reply::Done, 2));
        assert!(is_refused(listen("net/c:eth0", "127.0.0.2", port)));
        assert!(is_refused(listen("net/c:eth0", "127.0.0.1", 53)));
        assert!(is_refused(listen("net/d:eth0", "127.0.0.1", port)));
    }

    #[test]
    fn files_of_others_are_told_of_and_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let mut service = service(dir.path());
        fs::create_dir_all(dir.path().join("bridge/net")).unwrap();
        fs::write(dir.path().join("bridge/net/c:eth0"), "{}").unwrap();
        let record = "bridge/net/c:eth0".to_owned();
        let (reply, _) = service.answer(Request::Exists(record.clone()));
        assert_eq!(reply, Reply::Is(true));
        let paths = vec![
            "dns/records/net/c:eth0".to_owned(),
            record,
            "/etc/shadow".to_owned(),
        ];
        let (reply, files) = service.answer(Request::Open(paths));
        let Reply::Opened(opened) = reply else {
            panic!("{reply:?}")
        };
        assert!(matches!(
            &opened[..],
            [
                OpenResult::There,
                OpenResult::Failed(_),
                OpenResult::Failed(_)
            ]
        ));
        assert_eq!(files.len(), 1);
        assert!(is_refused(
            service.answer(Request::Exists("policy/net".to_owned()))
        ));
        service.renew_watches();
        for path in ["", "dns/records/net", "/etc", "dns/../..", "policy"] {
            let watch = Request::Watch(WatchKind::Records, path.to_owned());
            let watched = matches!(service.answer(watch).0, Reply::Watching(_));
            assert_eq!(watched, path == "dns/records/net", "{path}");
        }
    }
}
