//! Published ports that a process of the host listens on as well.

use std::fs;

use super::{Finding, Ground};

/// State of a listening TCP socket, and of an unconnected UDP one, in /proc/net.
const LISTENS: [(&str, &str); 2] = [("tcp", "0A"), ("udp", "07")];

pub(crate) fn check(ground: &Ground, findings: &mut Vec<Finding>) {
    for (protocol, state) in LISTENS {
        let mut sockets = Vec::new();
        for family in ["", "6"] {
            let table = fs::read_to_string(format!("/proc/thread-self/net/{protocol}{family}"));
            sockets.extend(listening(&table.unwrap_or_default(), state));
        }
        for one in &ground.attachments {
            for port in one.ports.iter().filter(|port| port.protocol == protocol) {
                let Some((_, inode)) = sockets.iter().find(|(taken, _)| *taken == port.host_port)
                else {
                    continue;
                };
                let (pid, name) = owner(inode).unwrap_or_else(|| (0, "a process".to_owned()));
                findings.push(
                    Finding::new(
                        "port-taken-by-process",
                        format!("{}/{protocol}", port.host_port),
                    )
                    .means(format!(
                        "connections go to container {} and never reach the process that listens on the port too",
                        one.id
                    ))
                    .seen(format!("{name} (pid {pid}) listens on port {}", port.host_port))
                    .mend(format!("kill {pid}"))
                    .of_container(&one.id),
                );
            }
        }
    }
}

/// Port and inode of the sockets in this state.
fn listening(table: &str, state: &str) -> Vec<(u16, String)> {
    let socket = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let port = words.get(1)?.rsplit(':').next()?;
        let port = u16::from_str_radix(port, 16).ok()?;
        (*words.get(3)? == state).then(|| Some((port, (*words.get(9)?).to_owned())))?
    };
    table.lines().skip(1).filter_map(socket).collect()
}

/// The process that has the socket open, by number and name.
fn owner(inode: &str) -> Option<(u32, String)> {
    let wanted = format!("socket:[{inode}]");
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let Ok(files) = fs::read_dir(entry.path().join("fd")) else {
            continue;
        };
        let mut targets = files
            .flatten()
            .filter_map(|file| fs::read_link(file.path()).ok());
        if targets.any(|target| target.as_os_str() == wanted.as_str()) {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some((pid, name.trim().to_owned()));
        }
    }
    None
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
        assert_eq!(listening(table, "0A"), [(8080, "4242".to_owned())]);
    }
}
