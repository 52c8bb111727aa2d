//! Many packets of all kinds at once, and what became of each: seen where it was to arrive or not
//! seen there, answered or not. What does not arrive is waited for once, not once a packet.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pontoon_netlink::Netns;

use super::failure::{Failure, Outcome};
use super::station::{Mark, Observation, Protocol, Station, converse};

/// For how long an expected answer may fail to come.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long after the last expected answer a packet that shall not arrive is waited for. Those that
/// shall go the same ways and were sent at the same moment.
const GRACE: Duration = Duration::from_millis(200);
/// After which datagrams without the expected answer are sent again.
const AGAIN: Duration = Duration::from_millis(500);
/// The first number of a packet; lower ones are ports of servers.
const FIRST: u16 = 10_000;
/// The last one: the kernel's own source ports come after it.
const LAST: u16 = 32_000;

/// One packet, or one connection.
#[derive(Debug, Clone, Copy)]
pub struct Shot {
    /// The station that sends.
    pub from: usize,
    /// The address that it sends to; the port means nothing to ICMP.
    pub to: SocketAddr,
    /// What is sent.
    pub protocol: Protocol,
    /// The station that it is to arrive at, or not.
    pub at: usize,
    /// A served port to send from; else it is a fresh one.
    pub source_port: Option<u16>,
    /// Whether it is to arrive. Only tells how long to wait.
    pub arrives: bool,
}

/// What became of a [`Shot`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShotOutcome {
    /// It was seen at the station that it was meant for, by the first segment where it was TCP.
    pub arrived: bool,
    /// The answer came back to the sender.
    pub answered: bool,
}

impl ShotOutcome {
    /// Whether this is as it should be: arrived and answered, or not even seen.
    #[must_use]
    pub fn fits(self, arrives: bool) -> bool {
        self.arrived == arrives && self.answered >= arrives
    }
}

/// Stations in any number of namespaces.
#[derive(Default)]
pub struct Volley {
    stations: BTreeMap<usize, Station>,
    next: u16,
}

struct Connection {
    shot: usize,
    stream: TcpStream,
    number: u16,
    asked: bool,
}

impl Volley {
    /// Opens a station that serves these ports, TCP and UDP, IPv4 and IPv6. It gets this number; one
    /// that had it before is closed.
    pub fn station(&mut self, number: usize, netns: &Netns, ports: &[u16]) -> Outcome {
        self.stations.insert(number, Station::open(netns, ports)?);
        Ok(())
    }

    /// Closes a station.
    pub fn close(&mut self, number: usize) {
        self.stations.remove(&number);
    }

    /// Fires, waits, and tells of each shot what became of it.
    pub fn fire(&mut self, shots: &[Shot]) -> Outcome<Vec<ShotOutcome>> {
        let mut saw = Vec::new();
        for station in self.stations.values_mut() {
            station.attend(&mut saw);
        }
        let marks: Vec<Mark> = shots.iter().map(|shot| self.mark(shot)).collect();
        let mut fates = vec![
            ShotOutcome {
                arrived: false,
                answered: false,
            };
            shots.len()
        ];
        let mut connections = self.begin(shots, &marks)?;
        self.send(shots, &marks, |_| true);
        let started = Instant::now();
        let (mut sent, mut settled) = (started, None);
        loop {
            let open = |(shot, fate): (&Shot, &ShotOutcome)| {
                shot.arrives && !(fate.arrived && fate.answered)
            };
            let waiting = shots.iter().zip(&fates).any(open);
            if !waiting || started.elapsed() > PATIENCE {
                let settled = settled.get_or_insert_with(Instant::now);
                if settled.elapsed() > GRACE {
                    return Ok(fates);
                }
            } else if sent.elapsed() > AGAIN {
                sent = Instant::now();
                self.send(shots, &marks, |shot| open((&shots[shot], &fates[shot])));
            }
            self.wait(&connections)?;
            connections.retain_mut(|connection| {
                match converse(
                    &mut connection.stream,
                    &mut connection.asked,
                    connection.number,
                ) {
                    None => true,
                    Some(answered) => {
                        fates[connection.shot].answered = answered;
                        false
                    }
                }
            });
            for (&number, station) in &mut self.stations {
                let mut saw = Vec::new();
                station.attend(&mut saw);
                for sight in saw {
                    note(sight, number, shots, &marks, &mut fates);
                }
            }
        }
    }

    fn mark(&mut self, shot: &Shot) -> Mark {
        let fresh = self.next.max(FIRST);
        let number = match (shot.protocol, shot.source_port) {
            (Protocol::Tcp, Some(port)) => port,
            _ => {
                self.next = if fresh == LAST { FIRST } else { fresh + 1 };
                fresh
            }
        };
        Mark {
            protocol: shot.protocol,
            v6: shot.to.is_ipv6(),
            number,
        }
    }

    fn begin(&mut self, shots: &[Shot], marks: &[Mark]) -> Outcome<Vec<Connection>> {
        let mut connections = Vec::new();
        for (&from, station) in &mut self.stations {
            let own: Vec<usize> = (0..shots.len())
                .filter(|&i| shots[i].from == from && shots[i].protocol == Protocol::Tcp)
                .collect();
            let wanted: Vec<_> = own
                .iter()
                .map(|&shot| (marks[shot].number, shots[shot].to))
                .collect();
            for (&shot, stream) in own.iter().zip(station.begin(&wanted)?) {
                connections.extend(stream.map(|stream| Connection {
                    shot,
                    stream,
                    number: marks[shot].number,
                    asked: false,
                }));
            }
        }
        Ok(connections)
    }

    fn send(&self, shots: &[Shot], marks: &[Mark], which: impl Fn(usize) -> bool) {
        for (i, (shot, mark)) in shots.iter().zip(marks).enumerate() {
            if which(i)
                && let Some(station) = self.stations.get(&shot.from)
            {
                station.send(*mark, shot.to, shot.source_port);
            }
        }
    }

    fn wait(&self, connections: &[Connection]) -> Outcome {
        let tick = PollTimeout::from(20u8);
        let mut all: Vec<PollFd<'_>> = self
            .stations
            .values()
            .flat_map(Station::descriptors)
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        all.extend(connections.iter().map(|connection| {
            let flag = if connection.asked {
                PollFlags::POLLIN
            } else {
                PollFlags::POLLOUT
            };
            PollFd::new(connection.stream.as_fd(), flag)
        }));
        poll(&mut all, tick)
            .map(drop)
            .map_err(Failure::act("wait for packets"))
    }
}

fn note(sight: Observation, at: usize, shots: &[Shot], marks: &[Mark], fates: &mut [ShotOutcome]) {
    let (mark, arrival) = match sight {
        Observation::Arrival(mark) => (mark, true),
        Observation::Answer(mark) => (mark, false),
    };
    for (i, shot) in shots.iter().enumerate().filter(|(i, _)| marks[*i] == mark) {
        if arrival && shot.at == at {
            fates[i].arrived = true;
        } else if !arrival && shot.from == at {
            fates[i].answered = true;
        }
    }
}
