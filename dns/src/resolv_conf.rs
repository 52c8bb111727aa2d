//! resolv.conf: the host's, read as resolv.conf(5) says and as people write it, and a container's,
//! written so that everything in it works there.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::name::Name;

/// Where systemd-resolved keeps the servers that its stub hides.
pub const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
/// Bytes of a file that are read; a real one has some hundred.
pub const LARGEST: usize = 64 * 1024;

/// A name server as written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    /// Its address.
    pub address: IpAddr,
    /// The interface that a link-local address is on.
    pub scope: Option<String>,
}

/// A resolv.conf as far as it says something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Servers in their order, each once.
    pub servers: Vec<Server>,
    /// Domains to search; the last `domain` or `search` counts.
    pub search: Vec<String>,
    /// Options, each once; of one with values the last counts.
    pub options: Vec<String>,
    /// Lines that are passed on as they are.
    pub others: Vec<String>,
    /// What cannot be understood.
    pub unreadable: Vec<String>,
}

/// Why a container does not get a server of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnusableReason {
    /// It is the host's own loopback.
    Loopback,
    /// It is the embedded resolver.
    Ours,
    /// There is no address of its family.
    Family,
    /// It is on a link, and nothing says on which.
    NoScope,
    /// It is on a link of the host.
    Scope,
    /// No server can have such an address.
    NoServer,
    /// It did not answer a probe.
    Silent,
}

/// Who wants to use the servers.
#[derive(Default)]
pub struct ClientNetwork<'a> {
    /// It has IPv4.
    pub v4: bool,
    /// It has IPv6.
    pub v6: bool,
    /// It is in the host's network namespace: its loopback and its links are the host's.
    pub on_host: bool,
    /// Addresses of the embedded resolver.
    pub ours: &'a [IpAddr],
    /// Servers that were probed and found silent.
    pub silent: &'a [IpAddr],
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scope {
            Some(scope) => write!(f, "{}%{scope}", self.address),
            None => write!(f, "{}", self.address),
        }
    }
}

impl fmt::Display for UnusableReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "it is a loopback address of the host",
            Self::Ours => "it is the embedded resolver itself",
            Self::Family => "the container has no address of its family",
            Self::NoScope => "it is link-local and names no interface",
            Self::Scope => "it is link-local on an interface of the host",
            Self::NoServer => "no server can have this address",
            Self::Silent => "it did not answer",
        })
    }
}

impl ResolvConf {
    /// Reads a file. Nothing in it is an error: what makes no sense is listed.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let mut conf = Self::default();
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let bytes = bytes.get(..LARGEST).unwrap_or(bytes);
        let text = String::from_utf8_lossy(bytes);
        // Old Mac files and CRLF alike; an empty line more does not matter.
        for line in text.split(['\n', '\r']) {
            conf.line(line);
        }
        conf
    }

    fn line(&mut self, line: &str) {
        // The man page allows comments at the start of a line only; glibc stops at the first word
        // that is no address, so that comments behind values work there as well.
        let mut words = line
            .split(|c: char| c.is_whitespace() || c == '\0')
            .filter(|word| !word.is_empty())
            .take_while(|word| !word.starts_with(['#', ';']));
        let Some(keyword) = words.next() else { return };
        if words.clone().any(|word| word.contains(char::is_control)) {
            self.unreadable.push(printable(line));
            return;
        }
        match keyword.to_ascii_lowercase().as_str() {
            "nameserver" => {
                let mut any = false;
                for word in words {
                    any = true;
                    // One line may name several, apart by commas too.
                    for text in word.split(',').filter(|text| !text.is_empty()) {
                        self.server(text);
                    }
                }
                if !any {
                    self.unreadable
                        .push("nameserver without address".to_owned());
                }
            }
            "domain" => {
                if let Some(domain) = words.next() {
                    self.search = vec![domain.to_owned()];
                }
            }
            "search" => {
                self.search = Vec::new();
                for domain in words {
                    if !self.search.iter().any(|known| known == domain) {
                        self.search.push(domain.to_owned());
                    }
                }
            }
            "options" => words.for_each(|option| self.option(option)),
            "sortlist" => {
                let rest: Vec<&str> = words.collect();
                if !rest.is_empty() {
                    self.others.push(format!("sortlist {}", rest.join(" ")));
                }
            }
            _ => self.unreadable.push(printable(line)),
        }
    }

    fn server(&mut self, text: &str) {
        match server(text) {
            Some(server) if self.servers.contains(&server) => {}
            Some(server) => self.servers.push(server),
            None => self
                .unreadable
                .push(format!("nameserver {}", printable(text))),
        }
    }

    fn option(&mut self, option: &str) {
        let key = |text: &str| text.split(':').next().unwrap_or_default().to_owned();
        let wanted = key(option);
        self.options.retain(|known| key(known) != wanted);
        self.options.push(option.to_owned());
    }

    /// Whether systemd-resolved's stub is among the servers.
    #[must_use]
    pub fn names_stub(&self) -> bool {
        let stubs = ["127.0.0.53", "127.0.0.54"].map(str::parse::<IpAddr>);
        self.servers
            .iter()
            .any(|server| stubs.contains(&Ok(server.address)))
    }

    /// The servers that `audience` can use, and those that it cannot, with the reason.
    #[must_use]
    pub fn usable(
        &self,
        audience: &ClientNetwork<'_>,
    ) -> (Vec<Server>, Vec<(Server, UnusableReason)>) {
        let mut usable = Vec::new();
        let mut dropped = Vec::new();
        for server in &self.servers {
            match audience.objection(server) {
                None => usable.push(server.clone()),
                Some(why) => dropped.push((server.clone(), why)),
            }
        }
        (usable, dropped)
    }
}

/// A line that may be quoted in a comment.
fn printable(text: &str) -> String {
    text.trim().chars().map(plain).take(80).collect()
}

fn plain(c: char) -> char {
    if c.is_control() { '?' } else { c }
}

/// Whether it can be searched: a domain name, or `.`, which is none.
fn is_domain(text: &str) -> bool {
    text == "." || Name::parse(text).is_some()
}

/// Whether it is one word: anything else would be another option, or another line of the file.
fn is_option(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// An address, maybe with a scope. Port numbers and netmasks are no part of it.
fn server(text: &str) -> Option<Server> {
    let (address, scope) = match text.split_once('%') {
        Some((_, "")) => return None,
        Some((address, scope)) => (address, Some(scope.to_owned())),
        None => (text, None),
    };
    let inner = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(address);
    let address: IpAddr = inner.parse().ok()?;
    let address = address.to_canonical();
    // Elsewhere it says nothing (RFC 4007 section 6).
    let local = matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let scope = scope.filter(|_| local);
    Some(Server { address, scope })
}

impl ClientNetwork<'_> {
    fn objection(&self, server: &Server) -> Option<UnusableReason> {
        let address = server.address;
        // glibc takes 0.0.0.0 and :: for the host itself.
        if address.is_unspecified() || address.is_loopback() {
            let usable = self.on_host && !self.ours.contains(&address);
            return (!usable).then_some(UnusableReason::Loopback);
        }
        if address.is_multicast() || address == IpAddr::from([255; 4]) {
            return Some(UnusableReason::NoServer);
        }
        if self.ours.contains(&address) {
            return Some(UnusableReason::Ours);
        }
        if !(if address.is_ipv4() { self.v4 } else { self.v6 }) {
            return Some(UnusableReason::Family);
        }
        if matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
            match server.scope {
                None => return Some(UnusableReason::NoScope),
                Some(_) if !self.on_host => return Some(UnusableReason::Scope),
                Some(_) => {}
            }
        }
        self.silent
            .contains(&address)
            .then_some(UnusableReason::Silent)
    }
}

/// The host's resolv.conf: `path`, or systemd-resolved's real file when `path` names its stub.
/// `read` gets a file's bytes. Returns the file that counted.
#[must_use]
pub fn source(
    path: &Path,
    read: impl Fn(&Path) -> Option<Vec<u8>>,
) -> (PathBuf, Option<ResolvConf>) {
    let Some(conf) = read(path).map(|bytes| ResolvConf::parse(&bytes)) else {
        return (path.to_owned(), None);
    };
    let real = Path::new(RESOLVED);
    if conf.names_stub()
        && let Some(bytes) = read(real)
    {
        let mut found = ResolvConf::parse(&bytes);
        if !found.servers.is_empty() {
            // The stub's file has what the admin wants clients to do.
            if found.search.is_empty() {
                found.search = conf.search;
            }
            if found.options.is_empty() {
                found.options = conf.options;
                // These are for the stub alone: resolved's own options.
                found
                    .options
                    .retain(|option| !matches!(option.as_str(), "trust-ad" | "edns0"));
            }
            return (real.to_owned(), Some(found));
        }
    }
    (path.to_owned(), Some(conf))
}

/// The servers that a process of the host asks: those of the file. Behind systemd-resolved the stub
/// comes first, since it alone knows which server answers for which domain (a VPN's, a link's); its
/// own servers follow, for a stub that does not answer. Returns the file that counted.
#[must_use]
pub fn servers_of_host(
    path: &Path,
    mut read: impl FnMut(&Path) -> Option<Vec<u8>>,
) -> (PathBuf, Vec<Server>) {
    let audience = ClientNetwork {
        v4: true,
        v6: true,
        on_host: true,
        ..ClientNetwork::default()
    };
    let conf = read(path)
        .map(|bytes| ResolvConf::parse(&bytes))
        .unwrap_or_default();
    let (mut servers, _) = conf.usable(&audience);
    if conf.names_stub()
        && let Some(bytes) = read(Path::new(RESOLVED))
    {
        let (real, _) = ResolvConf::parse(&bytes).usable(&audience);
        for server in real {
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
    }
    (path.to_owned(), servers)
}

/// What a container's own resolver is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerResolver {
    /// Servers.
    pub servers: Vec<IpAddr>,
    /// Domains to search.
    pub search: Vec<String>,
    /// Options.
    pub options: Vec<String>,
    /// Other lines.
    pub others: Vec<String>,
    /// Comments: where it comes from, and what was left out.
    pub notes: Vec<String>,
}

impl fmt::Display for ContainerResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            // A path may have a line break, and what follows it would not be a comment any more.
            let note: String = note.chars().map(plain).collect();
            writeln!(f, "# {note}")?;
        }
        for server in &self.servers {
            writeln!(f, "nameserver {server}")?;
        }
        for (keyword, words) in [("search", &self.search), ("options", &self.options)] {
            if !words.is_empty() {
                writeln!(f, "{keyword} {}", words.join(" "))?;
            }
        }
        for line in &self.others {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

/// What the container's resolv.conf is made of.
pub struct ResolvConfInput<'a> {
    /// The host's file, and what it says; `None` when there is none.
    pub host: (PathBuf, Option<ResolvConf>),
    /// Who will use it.
    pub audience: ClientNetwork<'a>,
    /// The embedded resolver, as the container reaches it; empty when it does not serve here.
    pub resolver: Vec<IpAddr>,
    /// The network's domain, searched first when the resolver serves.
    pub domain: &'a str,
    /// Servers that replace the host's.
    pub servers: Vec<IpAddr>,
    /// Domains that replace the host's; `.` alone is none.
    pub search: Vec<String>,
    /// Options that replace the host's.
    pub options: Vec<String>,
}

impl ResolvConfInput<'_> {
    /// What of the domains and options cannot stand in the file and is left out, in words.
    #[must_use]
    pub fn unfit(&self) -> Vec<String> {
        let domains = self.search.iter().filter(|text| !is_domain(text));
        let options = self.options.iter().filter(|text| !is_option(text));
        domains
            .map(|text| {
                format!(
                    "the search domain \"{}\" is no domain name",
                    printable(text)
                )
            })
            .chain(
                options.map(|text| format!("the option \"{}\" is not one word", printable(text))),
            )
            .map(|text| format!("{text}, and is left out of resolv.conf"))
            .collect()
    }

    /// Makes the container's file. The second part is a warning for the admin, when the container
    /// would reach no server of the host.
    #[must_use]
    pub fn inside(&self) -> (ContainerResolver, Option<String>) {
        let (path, host) = &self.host;
        let path = path.display();
        let empty = ResolvConf::default();
        let conf = host.as_ref().unwrap_or(&empty);
        let (usable, dropped) = conf.usable(&self.audience);
        let mut notes = match host {
            Some(_) => vec![format!("Made by Pontoon from {path}.")],
            None => vec![format!("Made by Pontoon; there is no {path}.")],
        };
        for (server, why) in &dropped {
            notes.push(format!("left out: nameserver {server}: {why}"));
        }
        for line in &conf.unreadable {
            notes.push(format!("left out: {line}: not understood"));
        }
        let theirs: Vec<IpAddr> = match self.servers.as_slice() {
            [] => usable.iter().map(|server| server.address).collect(),
            own => own.to_vec(),
        };
        let mut warning = None;
        let servers = if self.resolver.is_empty() {
            if theirs.is_empty() {
                warning = Some(format!(
                    "no server of {path} can be reached by the container"
                ));
            }
            theirs
        } else {
            self.resolver.clone()
        };
        let mut search = Vec::new();
        if !self.resolver.is_empty() {
            search.push(self.domain.to_owned());
        }
        let more = if self.search.is_empty() {
            &conf.search
        } else {
            &self.search
        };
        let wanted = |domain: &&String| *domain != "." && is_domain(domain);
        for domain in more.iter().filter(wanted) {
            if !search.contains(domain) {
                search.push(domain.clone());
            }
        }
        let mut options = if self.options.is_empty() {
            conf.options.clone()
        } else {
            self.options.clone()
        };
        options.retain(|option| is_option(option));
        let inside = ContainerResolver {
            servers,
            search,
            options,
            others: conf.others.clone(),
            notes,
        };
        (inside, warning)
    }
}

#[cfg(test)]
#[path = "resolv_conf_tests.rs"]
mod tests;
