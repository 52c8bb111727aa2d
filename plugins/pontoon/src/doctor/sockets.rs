//! Published ports that a process of the host listens on as well.
//!
//! Runtimes listen too, on purpose: podman hands each published port to conmon, so that no other process
//! takes it, and no client is meant to connect there. Such a reservation is no finding.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{CheckInput, Finding};
use crate::facts::{Attachment, Port};
use crate::report::Failure;

/// State of a listening TCP socket, and of an unconnected UDP one, in /proc/net.
const LISTENS: [(&str, &str); 2] = [("tcp", "0A"), ("udp", "07")];
/// Programs of runtimes that keep published ports from others.
const RESERVES: [&str; 6] = [
    "conmon",
    "conmonrs",
    "crio",
    "podman",
    "rootlessport",
    "slirp4netns",
];

pub(crate) fn check(ground: &mut CheckInput, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let processes = Processes::default();
    for (protocol, state) in LISTENS {
        let mut sockets = Vec::new();
        for family in ["", "6"] {
            sockets.extend(listening(&table_of(protocol, family)?, state));
        }
        for one in &ground.attachments {
            for port in one.ports.iter().filter(|port| port.protocol == protocol) {
                let mut meets = sockets.iter().filter(|socket| socket.meets(one, port));
                findings.extend(
                    meets.find_map(|socket| taken(processes.with(&socket.inode), one, port)),
                );
            }
        }
    }
    Ok(())
}

/// Whether a socket of the calling thread's namespace takes what is sent to this address and port.
pub(crate) fn takes(protocol: &str, address: IpAddr, port: u16) -> Result<bool, Failure> {
    let takes = |socket: &Listener| {
        let own = socket.address.to_canonical();
        // One that is bound to :: takes IPv4 too, unless it is told not to.
        let any = own.is_unspecified() && (own.is_ipv6() || address.is_ipv4());
        socket.port == port && (any || own == address)
    };
    for (_, state) in LISTENS.iter().filter(|(known, _)| *known == protocol) {
        for family in ["", "6"] {
            if listening(&table_of(protocol, family)?, state)
                .iter()
                .any(takes)
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// A socket that waits for clients.
#[derive(Debug, PartialEq, Eq)]
struct Listener {
    /// The address that it is bound to; unspecified for all.
    address: IpAddr,
    port: u16,
    inode: String,
}

impl Listener {
    /// Whether a connection may be meant for it and goes to the container.
    fn meets(&self, one: &Attachment, port: &Port) -> bool {
        // One that is bound to :: takes IPv4 too, unless it is told not to.
        let any = self.address.is_unspecified();
        let family = any || one.ips().any(|ip| ip.is_ipv4() == self.address.is_ipv4());
        let address = match port.host_ip {
            Some(wanted) if !wanted.is_unspecified() => any || wanted == self.address,
            _ => true,
        };
        self.port == port.host_port && family && address
    }
}

fn taken(process: Option<Process>, one: &Attachment, port: &Port) -> Option<Finding> {
    if process
        .as_ref()
        .is_some_and(|process| process.reserves(one))
    {
        return None;
    }
    let object = format!("{}/{}", port.host_port, port.protocol);
    let (who, which) = match &process {
        Some(Process {
            pid, name, unit, ..
        }) => {
            let unit = unit
                .as_ref()
                .map_or(String::new(), |unit| format!(", {unit}"));
            (format!("{name} (pid {pid}{unit})"), name.as_str())
        }
        None => ("a process".to_owned(), "that process"),
    };
    Some(
        Finding::new("port-taken-by-process", object)
            .means(format!(
                "connections go to container {} and never reach the process that listens on the port too",
                one.id
            ))
            .seen(format!("{who} listens on port {}", port.host_port))
            .advice(format!(
                "publish another port of the host for container {}, or let {which} listen on another one",
                one.id
            ))
            .of_container(&one.id),
    )
}

/// The sockets in this state.
fn listening(table: &str, state: &str) -> Vec<Listener> {
    let socket = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (address, port) = words.get(1)?.rsplit_once(':')?;
        let listener = Listener {
            address: address_of(address)?,
            port: u16::from_str_radix(port, 16).ok()?,
            inode: (*words.get(9)?).to_owned(),
        };
        (*words.get(3)? == state).then_some(listener)
    };
    table.lines().skip(1).filter_map(socket).collect()
}

/// An address as /proc/net writes it: words of 32 bits, each in the order of this machine.
fn address_of(text: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let word = u32::from_str_radix(text.get(at * 8..at * 8 + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    if text.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?).into());
    }
    let words = [word(0)?, word(1)?, word(2)?, word(3)?];
    let bytes: [u8; 16] = words.concat().try_into().ok()?;
    Some(Ipv6Addr::from(bytes).to_canonical())
}

struct Process {
    pid: u32,
    name: String,
    arguments: String,
    /// The unit of systemd that it belongs to.
    unit: Option<String>,
}

impl Process {
    /// Whether it only keeps the port of this very attachment from others.
    fn reserves(&self, one: &Attachment) -> bool {
        // A runtime's helper is told which container it serves, docker-proxy its address.
        let told = |word: &str| self.arguments.split('\0').any(|argument| argument == word);
        RESERVES.contains(&self.name.as_str())
            || told(&one.id)
            || (self.name == "docker-proxy" && one.ips().any(|ip| told(&ip.to_string())))
    }
}

/// Who has which socket open, by inode: looked up once, and only where a port is listened on.
#[derive(Default)]
struct Processes(OnceCell<HashMap<String, u32>>);

impl Processes {
    fn with(&self, inode: &str) -> Option<Process> {
        let pid = *self.0.get_or_init(sockets_of_all).get(inode)?;
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
        let group = read("cgroup").unwrap_or_default();
        let mut parts = group.lines().flat_map(|line| line.rsplit('/'));
        Some(Process {
            pid,
            name: read("comm").unwrap_or_default().trim().to_owned(),
            arguments: read("cmdline").unwrap_or_default(),
            unit: parts
                .find(|part| part.ends_with(".service"))
                .map(str::to_owned),
        })
    }
}

/// The sockets of a protocol, as the kernel lists them for the namespace of the calling thread; nothing
/// where the family is switched off.
fn table_of(protocol: &str, family: &str) -> Result<String, Failure> {
    let path = format!("/proc/thread-self/net/{protocol}{family}");
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|error| Failure::Failed(format!("cannot read {path}: {error}"))),
    }
}

// Processes end while they are looked at: what cannot be read of one is gone.
fn sockets_of_all() -> HashMap<String, u32> {
    let mut found = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let files = fs::read_dir(entry.path().join("fd")).into_iter().flatten();
        for file in files.flatten() {
            let Ok(target) = fs::read_link(file.path()) else {
                continue;
            };
            let socket = target
                .to_str()
                .and_then(|text| text.strip_prefix("socket:["));
            if let Some(inode) = socket.and_then(|text| text.strip_suffix(']')) {
                // Of a runtime and the helper that it has handed the socket to, the helper stays.
                found.insert(inode.to_owned(), pid);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0
   1: 0100007F:0016 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4243 1 0 100 0 0 10 0
";
        let listener = |address: &str, port, inode: &str| Listener {
            address: address.parse().unwrap(),
            port,
            inode: inode.to_owned(),
        };
        assert_eq!(listening(table, "0A"), [listener("0.0.0.0", 8080, "4242")]);
        assert_eq!(listening(table, "01"), [listener("127.0.0.1", 22, "4243")]);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn addresses_are_read() {
        for (text, address) in [
            ("0100007F", "127.0.0.1"),
            ("00000000000000000000000001000000", "::1"),
            ("0000000000000000FFFF00000100007F", "127.0.0.1"),
        ] {
            assert_eq!(address_of(text), address.parse().ok());
        }
    }
}
