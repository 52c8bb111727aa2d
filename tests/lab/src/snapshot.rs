//! All that an operation could leave on a host, as text that can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{fmt, fs};

use ipnetwork::IpNetwork;
use pontoon_netlink::RouteSocket;

use super::failure::{Failure, Outcome};
use super::host::Host;
use super::programs::{find, missing};

/// Lines under headings. Two of them are equal when nothing was left and nothing was lost.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Snapshot(BTreeMap<String, BTreeSet<String>>);

/// For how long what a network leaves may take to go.
const PATIENCE: Duration = Duration::from_secs(4);

/// Sysctls that say whether a host forwards.
const FORWARDING: [&str; 2] = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];

impl Snapshot {
    /// Looks at everything: links, addresses, routes, rules of every backend, forwarding, the
    /// leases in `leases` and the plugins' state.
    pub fn take(host: &Host, leases: &Path) -> Outcome<Self> {
        let mut all = Self::of_links(host)?;
        all.rules(host)?;
        for key in FORWARDING {
            let value = host.get(key)?.unwrap_or_default();
            all.line("sysctls", format!("{key} = {value}"));
        }
        all.files("leases", leases, |path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.parse::<IpAddr>().is_ok())
        });
        all.files("state", &host.state_dir(), |path| !path.starts_with("lock"));
        Ok(all)
    }

    /// Looks at links, addresses and routes only; needs no tools.
    pub fn of_links(host: &Host) -> Outcome<Self> {
        let mut all = Self::default();
        host.run(|| all.links())?
            .map_err(Failure::act("list links, addresses and routes"))?;
        Ok(all)
    }

    /// The lines under a heading.
    #[must_use]
    pub fn lines(&self, heading: &str) -> Vec<&str> {
        self.0
            .get(heading)
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect()
    }

    /// What `later` has and this has not, and the other way round; empty when they are equal.
    #[must_use]
    pub fn changes(&self, later: &Self) -> String {
        let mut text = String::new();
        let empty = BTreeSet::new();
        let headings: BTreeSet<&String> = self.0.keys().chain(later.0.keys()).collect();
        for heading in headings {
            let (old, new) = (
                self.0.get(heading).unwrap_or(&empty),
                later.0.get(heading).unwrap_or(&empty),
            );
            for line in new.difference(old) {
                let _ = writeln!(text, "  + {heading}: {line}");
            }
            for line in old.difference(new) {
                let _ = writeln!(text, "  - {heading}: {line}");
            }
        }
        text
    }

    /// The same with these lines under a heading.
    #[must_use]
    pub fn with(mut self, heading: &str, lines: Vec<String>) -> Self {
        for line in lines {
            self.line(heading, line);
        }
        self
    }

    /// The same without one heading.
    #[must_use]
    pub fn without(mut self, heading: &str) -> Self {
        self.0.remove(heading);
        self
    }

    /// The same without a link, its addresses and its routes.
    #[must_use]
    pub fn without_link(mut self, name: &str) -> Self {
        let (start, device) = (format!("{name} "), format!("dev {name} "));
        for lines in self.0.values_mut() {
            lines.retain(|line| !line.starts_with(&start) && !line.contains(&device));
        }
        self.0.retain(|_, lines| !lines.is_empty());
        self
    }

    /// Fails when `later` differs, saying after what.
    pub fn same_as(&self, later: &Self, after: &str) -> Outcome {
        let changes = self.changes(later);
        if changes.is_empty() {
            Ok(())
        } else {
            Err(Failure::new(format!(
                "{after} changed the host:\n{changes}"
            )))
        }
    }

    /// Fails unless what `look` sees is the same within `PATIENCE`: rules of a network without
    /// containers stay for a second.
    pub fn settles(&self, look: impl Fn() -> Outcome<Self>, after: &str) -> Outcome {
        let started = Instant::now();
        loop {
            match self.same_as(&look()?, after) {
                Err(_) if started.elapsed() < PATIENCE => sleep(Duration::from_millis(50)),
                outcome => return outcome,
            }
        }
    }

    fn line(&mut self, heading: &str, line: impl Into<String>) {
        self.0
            .entry(heading.to_owned())
            .or_default()
            .insert(line.into());
    }

    fn links(&mut self) -> Result<(), pontoon_netlink::Error> {
        let mut socket = RouteSocket::open()?;
        let mut names = BTreeMap::new();
        for link in socket.links()? {
            let kind = link.kind.as_deref().unwrap_or("-");
            let alias = link.alias.as_deref().unwrap_or("-");
            self.line(
                "links",
                format!(
                    "{} {kind} mtu {} up {} alias {alias}",
                    link.name, link.mtu, link.up
                ),
            );
            for address in socket
                .addresses(link.index)?
                .into_iter()
                .filter(|address| !is_link_local(address.cidr))
            {
                self.line("addresses", format!("{} {}", link.name, address.cidr));
            }
            names.insert(link.index, link.name);
        }
        for v4 in [true, false] {
            for route in socket
                .routes(v4)?
                .into_iter()
                .filter(|route| !is_link_local(route.destination))
            {
                let (dst, via) = (route.destination, route.gateway);
                let out = route
                    .interface
                    .and_then(|index| names.get(&index))
                    .map_or("-", String::as_str);
                self.line(
                    "routes",
                    format!("{dst} via {via:?} dev {out} table {}", route.table),
                );
            }
        }
        Ok(())
    }

    // Rules, and chains that are not built in: the kernel makes built-in chains as soon as a program
    // lists a table, and they mean nothing.
    fn rules(&mut self, host: &Host) -> Outcome {
        for multi in ["xtables-nft-multi", "xtables-legacy-multi"] {
            let program = find(multi).ok_or_else(|| missing(multi))?;
            for save in ["iptables-save", "ip6tables-save"] {
                let text = host.command(Command::new(&program).arg(save))?;
                let mut table = "";
                for line in text.lines() {
                    match line.split_at_checked(1) {
                        Some(("*", name)) => table = name,
                        Some((":", chain)) if chain.contains(" - ") => {
                            let name = chain.split(' ').next().unwrap_or(chain);
                            self.line("rules", format!("{multi} {save} {table}: chain {name}"));
                        }
                        Some(("-", _)) => {
                            self.line("rules", format!("{multi} {save} {table}: {line}"))
                        }
                        _ => {}
                    }
                }
            }
        }
        let nft = find("nft").ok_or_else(|| missing("nft"))?;
        let text = host.command(Command::new(nft).args(["list", "ruleset"]))?;
        let mut table = None;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("table ") {
                let name = name.trim_end_matches(['{', ' ']);
                // These belong to iptables-nft, which was asked above.
                let (family, own) = name.split_once(' ').unwrap_or((name, ""));
                let iptables = ["ip", "ip6"].contains(&family)
                    && ["nat", "filter", "mangle", "raw", "security"].contains(&own);
                table = (!iptables).then_some(name);
                if table.is_some() {
                    self.line("rules", format!("nft table {name}"));
                }
            } else if let Some(name) = table {
                self.line("rules", format!("nft {name}: {}", line.trim()));
            }
        }
        Ok(())
    }

    // Names and contents of the files that count. A lease is a file named by its address; beside
    // them lie locks, the last address given out, and an index, which may stay.
    fn files(&mut self, heading: &str, dir: &Path, counts: impl Fn(&Path) -> bool) {
        let mut rest = vec![dir.to_path_buf()];
        while let Some(path) = rest.pop() {
            if let Ok(entries) = fs::read_dir(&path) {
                rest.extend(entries.flatten().map(|entry| entry.path()));
                continue;
            }
            let name = path.strip_prefix(dir).unwrap_or(&path);
            if path.is_file() && counts(name) {
                let bytes = fs::read(&path).unwrap_or_default();
                // What is no text is an index, which may change; that it is there counts.
                let text = String::from_utf8(bytes).unwrap_or_else(|_| "binary".to_owned());
                self.line(heading, format!("{}: {text:?}", name.display()));
            }
        }
    }
}

/// fe80::/10 comes by itself, a second after its link: it says nothing that the link does not.
fn is_link_local(network: IpNetwork) -> bool {
    matches!(network.ip(), IpAddr::V6(address) if address.is_unicast_link_local())
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Self::default().changes(self))
    }
}
