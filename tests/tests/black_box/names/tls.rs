//! DNS over TLS to a real unbound, whose certificate is of an authority that the test has made.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use pontoon_lab::{
    Attachment, Backend, Container, Daemon, Failure, Network, Outcome, Site, libraries, missing,
    openssl, same, target_dir,
};
use serde_json::json;

const AT: &str = "127.0.0.21";
/// What the certificate is for.
const NAME: &str = "dns.test";

struct Scene {
    site: Site,
    client: Container,
}

/// A container on a network, and the network.
struct Asker<'s> {
    scene: &'s Scene,
    network: Network,
    attachment: Attachment,
}

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

/// An authority `NAME.pem`.
fn authority(folder: &Path, name: &str) -> Outcome {
    let subject = format!("-subj /CN={name} -days 2");
    let files = format!("-keyout {name}.key -out {name}.pem");
    openssl(folder, &format!("req -x509 {KEY} {files} {subject}"))
}

impl Scene {
    fn new() -> Outcome<Self> {
        let site = Site::new(Backend::Nftables)?;
        let client = Container::new("client")?;
        let scene = Self { site, client };
        let folder = scene.folder();
        authority(&folder, "ca")?;
        authority(&folder, "other")?;
        let names = format!("subjectAltName=DNS:{NAME},IP:{AT}\n");
        fs::write(folder.join("names"), names).map_err(Failure::act("write names"))?;
        let request = format!("req {KEY} -keyout server.key -out server.csr -subj /CN={NAME}");
        openssl(&folder, &request)?;
        for (file, days) in [("good", 2), ("expired", 0)] {
            let signs = "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial";
            openssl(
                &folder,
                &format!("{signs} -days {days} -extfile names -out {file}.pem"),
            )?;
        }
        Ok(scene)
    }

    fn folder(&self) -> PathBuf {
        self.site.leases.path().to_owned()
    }

    /// Unbound with a certificate, over TLS and, to compare with, in plain text.
    fn unbound(&self, certificate: &str) -> Outcome<Daemon> {
        let root = target_dir()?.join("tools/nameservers");
        let program = root.join("usr/sbin/unbound");
        if !program.is_file() {
            return Err(missing("unbound"));
        }
        let folder = self.folder();
        let shown = folder.display();
        let conf = format!(
            "server:\n interface: {AT}@853\n interface: {AT}@53\n tls-port: 853\n \
             tls-service-key: {shown}/server.key\n tls-service-pem: {shown}/{certificate}.pem\n \
             do-daemonize: no\n chroot: \"\"\n username: \"\"\n directory: \"/\"\n pidfile: \"\"\n \
             use-syslog: no\n access-control: 0.0.0.0/0 allow\n num-threads: 1\n \
             incoming-num-tcp: 100\n rrset-roundrobin: no\n module-config: \"iterator\"\n \
             local-zone: test. static\n local-data: \"a.test. 60 IN A 192.0.2.9\"\n \
             local-zone: many.test. redirect\n local-data: \"many.test. 60 IN A 192.0.2.10\"\n \
             local-data: \"odd.test. 60 IN TYPE65280 \\# 0\"\n \
             local-data: \"odd.test. 60 IN TYPE65280 \\# 3 abcdef\"\n \
             local-data: \"odd.test. 60 IN TXT second first\"\n\
             remote-control:\n control-enable: no\n"
        );
        let file = folder.join("unbound.conf");
        fs::write(&file, conf).map_err(Failure::act("write unbound.conf"))?;
        let mut command = Command::new(&program);
        command
            .env("LD_LIBRARY_PATH", libraries(&root))
            .args(["-d", "-c"])
            .arg(&file);
        let at: IpAddr = AT.parse().map_err(Failure::act("read an address"))?;
        let listens = || {
            let probe = || TcpStream::connect((at, 853)).is_ok();
            self.site.host.run(probe).unwrap_or(false)
        };
        let log = folder.join("unbound.log");
        Daemon::start(&self.site.host, &mut command, &log, listens)
    }

    /// A container of a network whose names are asked of these servers.
    fn join(&self, number: u8, upstreams: &[&str], ca: &str) -> Outcome<Asker<'_>> {
        let mut keys = json!({ "upstreams": upstreams });
        if !ca.is_empty() {
            keys["upstreamsCa"] = json!(self.folder().join(ca));
        }
        let network = self.site.named_network(&format!("n{number}"), number, keys);
        let mut attachment = Attachment::new(&self.client).named("client");
        attachment.ifname = format!("eth{number}");
        self.site.runtime().add(&network, &mut attachment)?;
        Ok(Asker {
            scene: self,
            network,
            attachment,
        })
    }

    /// The connections to unbound's port 853, each by the ports of both ends.
    fn connections(&self) -> Outcome<Vec<String>> {
        let text = self
            .site
            .host
            .run(|| fs::read_to_string("/proc/thread-self/net/tcp"))?
            .map_err(Failure::act("read the connections"))?;
        // `sl local remote state`; established is 01, and 0355 is port 853.
        let lines = text.lines().map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let local = words.next().unwrap_or_default().to_owned();
            (local, words.next().unwrap_or_default(), words.next())
        });
        let to_unbound =
            lines.filter(|(_, remote, state)| remote.ends_with(":0355") && *state == Some("01"));
        Ok(to_unbound.map(|(local, ..)| local).collect())
    }

    /// Why the newest question has failed.
    fn reason(&self) -> Outcome<String> {
        let status = self.site.pontoon_json(&["dns", "status"])?;
        let reason = status["failures"][0]["reason"].as_str();
        Ok(reason.unwrap_or_default().to_owned())
    }
}

impl Asker<'_> {
    fn at(&self) -> String {
        self.attachment
            .gateway(false)
            .unwrap_or_default()
            .to_owned()
    }

    fn dig(&self, name: &str) -> Outcome<String> {
        self.scene
            .client
            .dig(&[&format!("@{}", self.at()), "+tries=1", name])
    }

    /// The question fails at once, and why is told.
    fn fails(&self, name: &str, reason: &str) -> Outcome {
        let begun = Instant::now();
        same(name, &self.dig(name)?, "SERVFAIL")?;
        let took = begun.elapsed();
        if took > Duration::from_secs(3) {
            return Err(Failure::new(format!("{name}: SERVFAIL after {took:?}")));
        }
        same(name, &self.scene.reason()?, reason)?;
        let status = self.scene.site.pontoon_ends(&["dns", "status"], 0)?;
        let inner = reason.split('(').nth(1).unwrap_or_default();
        let line = format!(", {}: tried last", inner.trim_end_matches(')'));
        if !status.contains(&line) {
            return Err(Failure::new(format!("status lacks {line:?}: {status}")));
        }
        Ok(())
    }

    fn done(self) -> Outcome {
        let runtime = self.scene.site.runtime();
        Ok(runtime.del(&self.network, &self.attachment)?)
    }
}

/// Sends a question over UDP.
fn send(at: SocketAddr, question: &[u8]) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.connect(at)?;
    socket.send(question)?;
    Ok(socket)
}

/// Its reply.
fn receive(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    let mut reply = vec![0; 4096];
    let length = socket.recv(&mut reply)?;
    reply.truncate(length);
    Ok(reply)
}

/// A question with an OPT record, and perhaps an option that no program knows.
fn question(label: &str, kind: u16, option: bool) -> Vec<u8> {
    let mut bytes = vec![0x50, 0x54, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    bytes.push(u8::try_from(label.len()).unwrap_or_default());
    bytes.extend_from_slice(label.as_bytes());
    bytes.extend_from_slice(b"\x04test\0");
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    bytes.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0x80, 0]);
    match option {
        true => bytes.extend_from_slice(&[0, 5, 0xfd, 0xe9, 0, 1, 7]),
        false => bytes.extend_from_slice(&[0, 0]),
    }
    bytes
}

#[test]
fn names_are_asked_over_tls_and_replies_come_byte_for_byte() -> Outcome {
    let scene = Scene::new()?;
    let unbound = scene.unbound("good")?;
    let server = format!("tls://{AT}#{NAME}");
    let asker = scene.join(90, &[&server], "ca.pem")?;
    same("over TLS", &asker.dig("a.test")?, "NOERROR 192.0.2.9")?;
    let connections = scene.connections()?;
    same("connections", &connections.len().to_string(), "1")?;
    let at = |text: &str, port| -> Outcome<SocketAddr> {
        let ip: IpAddr = text.parse().map_err(Failure::act("read an address"))?;
        Ok(SocketAddr::new(ip, port))
    };
    let (direct, by) = (at(AT, 53)?, at(&asker.at(), 53)?);
    for (label, kind) in [
        ("odd", 65280),
        ("odd", 16),
        ("a", 1),
        ("a", 15),
        ("none", 1),
    ] {
        for option in [false, true] {
            let question = question(label, kind, option);
            let ask = |at| send(at, &question).and_then(|socket| receive(&socket));
            let expected = scene.site.host.run(|| ask(direct))?;
            let found = scene.client.run(|| ask(by))?;
            let expected = expected.map_err(Failure::act("ask unbound"))?;
            let found = found.map_err(Failure::act("ask the resolver"))?;
            same(
                &format!("{label} {kind}"),
                &format!("{found:x?}"),
                &format!("{expected:x?}"),
            )?;
        }
    }
    // One hundred questions at a time.
    let replies: Vec<io::Result<Vec<u8>>> = scene.client.run(|| {
        let ask = |number| {
            let mut bytes = vec![1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            for label in [&format!("n{number}"), "many", "test"] {
                bytes.push(u8::try_from(label.len()).unwrap_or_default());
                bytes.extend_from_slice(label.as_bytes());
            }
            bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
            send(by, &bytes)
        };
        let sockets: Vec<io::Result<UdpSocket>> = (0..100).map(ask).collect();
        let receive = |socket: io::Result<UdpSocket>| receive(&socket?);
        sockets.into_iter().map(receive).collect()
    })?;
    let good = replies.iter().filter(|reply| {
        reply
            .as_ref()
            .is_ok_and(|reply| reply.ends_with(&[192, 0, 2, 10]))
    });
    same("answers", &good.count().to_string(), "100")?;
    same(
        "the same one",
        &format!("{:?}", scene.connections()?),
        &format!("{connections:?}"),
    )?;
    // Everything that names a server names it so.
    let query = scene
        .site
        .pontoon_ends(&["dns", "query", "b.many.test", "--as", "client"], 0)?;
    let status = scene.site.pontoon_ends(&["dns", "status"], 0)?;
    let metrics = scene
        .site
        .pontoon_ends(&["dns", "status", "--metrics"], 0)?;
    for (text, words) in [
        (&query, server.clone()),
        (&status, format!("server {server}: asked ")),
        (
            &metrics,
            format!("pontoon_dns_server_asked_total{{server=\"{server}\"}} "),
        ),
    ] {
        if !text.contains(&words) {
            return Err(Failure::new(format!("no {words:?} in {text}")));
        }
    }
    // The kept connection ends with the server; the next question has another.
    drop(unbound);
    let _unbound = scene.unbound("good")?;
    same(
        "restarted",
        &asker.dig("n1.many.test")?,
        "NOERROR 192.0.2.10",
    )?;
    same(
        "restarted",
        &asker.dig("n2000.many.test")?,
        "NOERROR 192.0.2.10",
    )?;
    same("connections", &scene.connections()?.len().to_string(), "1")?;
    thread::sleep(Duration::from_secs(12));
    same("idle", &scene.connections()?.len().to_string(), "0")?;
    same(
        "after it",
        &asker.dig("n2001.many.test")?,
        "NOERROR 192.0.2.10",
    )?;
    asker.done()
}

#[test]
fn a_certificate_that_is_not_good_is_told_and_nothing_is_asked_in_plain_text() -> Outcome {
    let scene = Scene::new()?;
    let unbound = scene.unbound("good")?;
    // The resolver stays for all of it.
    let first = scene.join(98, &[AT], "")?;
    let wrong = format!("tls://{AT}#wrong.test");
    let right = format!("tls://{AT}#{NAME}");
    let asker = scene.join(91, &[&wrong], "ca.pem")?;
    let why = format!("no answer of {wrong} (its certificate is not for wrong.test)");
    asker.fails("a.test", &why)?;
    asker.done()?;
    let other = scene.folder().join("other.pem");
    let asker = scene.join(92, &[&right], "other.pem")?;
    let why = format!("its certificate is of no authority in {}", other.display());
    asker.fails("a.test", &format!("no answer of {right} ({why})"))?;
    asker.done()?;
    let asker = scene.join(93, &[&right], "")?;
    let why = "its certificate is of no authority that the host trusts";
    asker.fails("a.test", &format!("no answer of {right} ({why})"))?;
    asker.done()?;
    // The address is a name too, and what cannot be checked is passed over for the next server.
    let by_address = format!("tls://{AT}#{AT}");
    let asker = scene.join(94, &[&wrong, &by_address], "ca.pem")?;
    same("the next one", &asker.dig("a.test")?, "NOERROR 192.0.2.9")?;
    asker.done()?;
    let missing = scene.folder().join("none.pem");
    let asker = scene.join(95, &[&right], "none.pem")?;
    let why = format!(
        "certificate authorities {} cannot be read: No such file or directory (os error 2)",
        missing.display()
    );
    same("no file", &asker.dig("a.test")?, "SERVFAIL")?;
    same(
        "no file",
        &scene.reason()?,
        &format!("no answer of {right} ({why})"),
    )?;
    asker.done()?;
    drop(unbound);
    let asker = scene.join(96, &[&right], "ca.pem")?;
    let why = "no connection: Connection refused (os error 111)";
    same("no server", &asker.dig("a.test")?, "SERVFAIL")?;
    same(
        "no server",
        &scene.reason()?,
        &format!("no answer of {right} ({why})"),
    )?;
    let _unbound = scene.unbound("expired")?;
    asker.fails(
        "b.test",
        &format!("no answer of {right} (its certificate has expired, by the host's clock)"),
    )?;
    asker.done()?;
    first.done()
}

#[test]
fn a_server_over_tls_that_cannot_be_one_is_refused() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = site.named_network("bad", 97, json!({}));
    for (keys, words) in [
        (
            json!({ "upstreams": ["tls://192.0.2.1"] }),
            "\"tls://192.0.2.1\" has no #NAME, which the server's certificate is checked against",
        ),
        (
            json!({ "upstreams": { "a.test": ["tls://dns.test#dns.test"] } }),
            "has no IP address behind tls://",
        ),
        (
            json!({ "upstreams": ["tls://192.0.2.1#a"], "serve": "none" }),
            "only the resolver asks tls://192.0.2.1#a over TLS, and \"serve\" is \"none\"",
        ),
        (
            json!({ "upstreamsCa": "ca.pem" }),
            "key \"upstreamsCa\": ca.pem is no absolute path",
        ),
    ] {
        let mut bad = network.clone();
        for (key, value) in keys.as_object().into_iter().flatten() {
            bad = bad.with("dns", key, value.clone());
        }
        let container = Container::new("bad")?;
        match site.try_add(&bad, &mut Attachment::new(&container))? {
            Some(error) if error.code == 7 && error.msg.contains(words) => {}
            other => return Err(Failure::new(format!("{keys}: {other:?}"))),
        }
    }
    Ok(())
}
