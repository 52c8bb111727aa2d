//! A name server that does what it is told to, badly if need be.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pontoon_netlink::Netns;

use super::failure::{Failure, Outcome};

/// A server that answers by the first label of the name it is asked for:
///
/// | label begins with | what happens |
/// | --- | --- |
/// | `silent` | nothing |
/// | `slow` | the right reply, two seconds late |
/// | `servfail`, `refused`, `nxdomain` | that code |
/// | `wrongid`, `wrongquestion`, `wrongtype`, `query`, `garbage` | three wrong replies of that kind with a wrong address, then the right one |
/// | `truncated` | TC over UDP, the right reply over TCP |
/// | `big` | TC over UDP, 4000 addresses over TCP |
/// | `cname` | an alias without its target |
/// | `brief` | the right reply, with two seconds to live |
/// | anything else | the right reply: `address` for A, nothing for other types |
pub struct NameServer {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    asked: Arc<Mutex<HashMap<String, Vec<Instant>>>>,
}

/// What wrong replies say.
pub const WRONG: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);

impl NameServer {
    /// Serves at `at`, port 53, in a namespace.
    pub fn start(netns: &Netns, at: IpAddr, address: Ipv4Addr) -> Outcome<Self> {
        let act = format!("serve names at {at}");
        let (udp, tcp) = netns
            .run(|| -> io::Result<_> {
                Ok((UdpSocket::bind((at, 53))?, TcpListener::bind((at, 53))?))
            })
            .map_err(Failure::act(&act))?
            .map_err(Failure::act(&act))?;
        udp.set_read_timeout(Some(Duration::from_millis(50)))
            .map_err(Failure::act(&act))?;
        tcp.set_nonblocking(true).map_err(Failure::act(&act))?;
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(Mutex::new(HashMap::new()));
        let threads = vec![
            thread::spawn({
                let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
                move || serve_udp(&udp, address, &stop, &asked)
            }),
            thread::spawn({
                let stop = Arc::clone(&stop);
                move || serve_tcp(&tcp, address, &stop)
            }),
        ];
        Ok(Self {
            stop,
            threads,
            asked,
        })
    }

    /// How often it was asked for a name over UDP.
    #[must_use]
    pub fn asked(&self, name: &str) -> usize {
        self.asked
            .lock()
            .map(|asked| asked.get(name).map_or(0, Vec::len))
            .unwrap_or_default()
    }

    /// When it was first asked for a name over UDP.
    #[must_use]
    pub fn first_asked(&self, name: &str) -> Option<Instant> {
        self.asked.lock().ok()?.get(name)?.first().copied()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The name asked for, and where the question ends.
fn question(query: &[u8]) -> Option<(String, usize)> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*query.get(at)?);
        if length == 0 {
            return Some((labels.join("."), at + 5));
        }
        let label = query.get(at + 1..at + 1 + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += 1 + length;
    }
}

/// A reply with these flags and records, each type and data.
fn reply(query: &[u8], end: usize, flags: u16, records: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut out = query[..2].to_vec();
    out.extend_from_slice(&(0x8180 | flags).to_be_bytes());
    out.extend_from_slice(&[0, 1]);
    out.extend_from_slice(&(records.len() as u16).to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&query[12..end]);
    for (kind, data) in records {
        out.extend_from_slice(&[0xc0, 12]);
        out.extend_from_slice(&kind.to_be_bytes());
        let brief = query.get(13..18) == Some(b"brief");
        out.extend_from_slice(&[0, 1, 0, 0, 0, if brief { 2 } else { 60 }]);
        out.extend_from_slice(&(data.len() as u16).to_be_bytes());
        out.extend_from_slice(data);
    }
    out
}

/// The right reply.
fn right(query: &[u8], name: &str, end: usize, address: Ipv4Addr) -> Vec<u8> {
    const A: &[u8] = &[0, 1, 0, 1];
    let is_a = query.get(end - 4..end) == Some(A);
    let addresses = |count: u32| -> Vec<(u16, Vec<u8>)> {
        (0..count)
            .map(|number| (1, (u32::from(address) + number).to_be_bytes().to_vec()))
            .collect()
    };
    if name.starts_with("cname") {
        return reply(query, end, 0, &[(5, b"\x06target\x04test\0".to_vec())]);
    }
    let count = match (is_a, name.starts_with("big")) {
        (false, _) => 0,
        (true, true) => 4000,
        (true, false) => 1,
    };
    reply(query, end, 0, &addresses(count))
}

fn serve_udp(
    socket: &UdpSocket,
    address: Ipv4Addr,
    stop: &AtomicBool,
    asked: &Mutex<HashMap<String, Vec<Instant>>>,
) {
    let mut query = [0; 1500];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, peer)) = socket.recv_from(&mut query) else {
            continue;
        };
        let query = &query[..length];
        let Some((name, end)) = question(query) else {
            continue;
        };
        if let Ok(mut asked) = asked.lock() {
            asked.entry(name.clone()).or_default().push(Instant::now());
        }
        let good = right(query, &name, end, address);
        let send = |packet: &[u8]| drop(socket.send_to(packet, peer));
        let wrong = reply(query, end, 0, &[(1, WRONG.octets().to_vec())]);
        let spoil = |change: &dyn Fn(&mut Vec<u8>, u8)| {
            for turn in 1..=3 {
                let mut packet = wrong.clone();
                change(&mut packet, turn);
                send(&packet);
            }
        };
        match name.split(['-', '.']).next().unwrap_or_default() {
            "silent" => continue,
            "slow" => thread::sleep(Duration::from_secs(2)),
            "servfail" => return_code(&send, query, end, 2),
            "refused" => return_code(&send, query, end, 5),
            "nxdomain" => return_code(&send, query, end, 3),
            "truncated" | "big" => {
                send(&reply(query, end, 0x0200, &[]));
                continue;
            }
            "wrongid" => spoil(&|packet, turn| packet[1] = packet[1].wrapping_add(turn)),
            "wrongquestion" => spoil(&|packet, turn| packet[13] = b'a' + turn),
            "wrongtype" => spoil(&|packet, turn| packet[end - 3] = 100 + turn),
            "query" => spoil(&|packet, _| packet[2] &= 0x7f),
            "garbage" => spoil(&|packet, turn| packet.truncate(usize::from(turn) * 5)),
            _ => {}
        }
        if !matches!(
            name.split(['-', '.']).next(),
            Some("servfail" | "refused" | "nxdomain")
        ) {
            send(&good);
        }
    }
}

fn return_code(send: &dyn Fn(&[u8]), query: &[u8], end: usize, code: u16) {
    send(&reply(query, end, code, &[]));
}

fn serve_tcp(listener: &TcpListener, address: Ipv4Addr, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else {
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        let _ = stream.set_nonblocking(false);
        let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
        let mut length = [0; 2];
        if stream.read_exact(&mut length).is_err() {
            continue;
        }
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        if stream.read_exact(&mut query).is_err() {
            continue;
        }
        let Some((name, end)) = question(&query) else {
            continue;
        };
        let good = right(&query, &name, end, address);
        let _ = stream.write_all(&(good.len() as u16).to_be_bytes());
        let _ = stream.write_all(&good);
    }
}
