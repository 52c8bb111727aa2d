//! Questions that the kernel of another host answers by itself: echo, its clock, and a TCP connection to a port that no
//! program has. They are written whole, so that their size, their `don't fragment` and their checksum are what is wanted.
//! IPv4 only.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, socket,
};

/// How often a question is asked that has no answer: a packet may be lost.
const TRIES: u32 = 3;
/// For how long answers are waited for after each try.
const PATIENCE: Duration = Duration::from_millis(350);

/// Bytes of the headers of IPv4, ICMP and TCP without options.
const IP: usize = 20;
const ICMP: usize = 8;
const TCP: usize = 20;
/// Bytes of the three times in a question for a clock.
const TIMES: usize = 12;
/// Types of ICMP messages (RFC 792).
const ECHO_REPLY: u8 = 0;
const ECHO: u8 = 8;
const TIMESTAMP: u8 = 13;
const TIMESTAMP_REPLY: u8 = 14;
const ICMP_PROTOCOL: u8 = 1;
const TCP_PROTOCOL: u8 = 6;
const DONT_FRAGMENT: u8 = 0x40;
const TTL: u8 = 64;
const SYN: u8 = 2;
/// tcpmux (RFC 1078): no program of today listens there, so the kernel refuses.
pub(super) const CLOSED_PORT: u16 = 1;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// An echo; the packet has so many bytes, and must not be cut.
    Echo(usize),
    /// The time of day.
    Clock,
    /// A TCP connection, whose checksum is written here and not by the link.
    Connection,
}

/// A question to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) from: Ipv4Addr,
    pub(super) to: Ipv4Addr,
    pub(super) question: Question,
}

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It did.
    Yes,
    /// The other host's clock is so many milliseconds ahead of this one's, or behind it.
    Clock(i64),
}

/// Sockets for questions and answers.
pub(super) struct Wire {
    sender: OwnedFd,
    icmp: OwnedFd,
    tcp: OwnedFd,
    id: u16,
}

impl Wire {
    pub(super) fn open() -> io::Result<Self> {
        let open = |protocol| {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            socket(AddressFamily::Inet, SockType::Raw, flags, protocol)
        };
        Ok(Self {
            sender: open(SockProtocol::Raw)?,
            icmp: open(SockProtocol::Icmp)?,
            tcp: open(SockProtocol::Tcp)?,
            id: std::process::id() as u16 | 1,
        })
    }

    /// Asks all at once; the answers in the order of the questions. It returns as soon as all are there.
    pub(super) fn ask(&self, probes: &[Probe]) -> Vec<Option<Answer>> {
        let mut answers = vec![None; probes.len()];
        for _ in 0..TRIES {
            for (number, probe) in probes.iter().enumerate() {
                if answers[number].is_none() {
                    self.send(number, probe);
                }
            }
            let end = Instant::now() + PATIENCE;
            while answers.iter().any(Option::is_none) {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
                let mut ready =
                    [&self.icmp, &self.tcp].map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN));
                let polled = poll(&mut ready, timeout);
                if polled.is_err_and(|errno| errno != Errno::EINTR) {
                    break;
                }
                for fd in [&self.icmp, &self.tcp] {
                    self.receive(fd, probes, &mut answers);
                }
            }
        }
        answers
    }

    /// A question that cannot be sent has no answer.
    fn send(&self, number: usize, probe: &Probe) {
        let packet = packet(probe, self.id, number as u16);
        let to = SockaddrIn::from(SocketAddrV4::new(probe.to, 0));
        let _ = sendto(self.sender.as_raw_fd(), &packet, &to, MsgFlags::empty());
    }

    fn receive(&self, fd: &OwnedFd, probes: &[Probe], answers: &mut [Option<Answer>]) {
        let mut buffer = [0; 65536];
        while let Ok(length) = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            let found = answer(&buffer[..length], self.id, midnight_ms());
            let Some((from, number, answer)) = found else {
                continue;
            };
            let asked = probes.get(usize::from(number));
            if asked.is_some_and(|probe| probe.to == from)
                && let Some(place) = answers.get_mut(usize::from(number))
            {
                place.get_or_insert(answer);
            }
        }
    }
}

/// Milliseconds since midnight UTC.
fn midnight_ms() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or_default() % DAY_MS
}

fn packet(probe: &Probe, id: u16, number: u16) -> Vec<u8> {
    let (protocol, length) = match probe.question {
        Question::Echo(size) => (ICMP_PROTOCOL, size.max(IP + ICMP)),
        Question::Clock => (ICMP_PROTOCOL, IP + ICMP + TIMES),
        Question::Connection => (TCP_PROTOCOL, IP + TCP),
    };
    // Length, identification and checksum of this header are the kernel's.
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, DONT_FRAGMENT, 0, TTL, protocol, 0, 0];
    packet.extend(probe.from.octets());
    packet.extend(probe.to.octets());
    packet.resize(length, 0);
    let body = &mut packet[IP..];
    let sum = match probe.question {
        Question::Connection => {
            body[..2].copy_from_slice(&id.to_be_bytes());
            body[2..4].copy_from_slice(&CLOSED_PORT.to_be_bytes());
            // The refusal acknowledges the next number.
            body[4..6].copy_from_slice(&number.to_be_bytes());
            body[12] = (TCP as u8 / 4) << 4;
            body[13] = SYN;
            body[14..16].copy_from_slice(&u16::MAX.to_be_bytes());
            let mut all = [probe.from.octets(), probe.to.octets()].concat();
            all.extend([0, TCP_PROTOCOL, 0, TCP as u8]);
            all.extend_from_slice(body);
            (16, checksum(&all))
        }
        Question::Echo(_) | Question::Clock => {
            body[0] = if probe.question == Question::Clock {
                TIMESTAMP
            } else {
                ECHO
            };
            body[4..6].copy_from_slice(&id.to_be_bytes());
            body[6..8].copy_from_slice(&number.to_be_bytes());
            (2, checksum(body))
        }
    };
    body[sum.0..sum.0 + 2].copy_from_slice(&sum.1.to_be_bytes());
    packet
}

/// Who answers which question, and how. `None` for what is no answer to ours.
fn answer(packet: &[u8], id: u16, now_ms: i64) -> Option<(Ipv4Addr, u16, Answer)> {
    let header = usize::from(packet.first()? & 15) * 4;
    let from: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
    let body = packet.get(header..)?;
    let word = |at: usize| Some(u16::from_be_bytes(body.get(at..at + 2)?.try_into().ok()?));
    if packet.get(9) == Some(&TCP_PROTOCOL) {
        let ours = (word(0)?, word(2)?) == (CLOSED_PORT, id);
        return ours.then_some((from.into(), word(8)?, Answer::Yes));
    }
    if word(4)? != id {
        return None;
    }
    let answer = match *body.first()? {
        ECHO_REPLY => Answer::Yes,
        TIMESTAMP_REPLY => {
            let time = u32::from_be_bytes(body.get(12..16)?.try_into().ok()?);
            // The highest bit marks a time that is none of UTC.
            let time = Some(i64::from(time)).filter(|time| *time < DAY_MS)?;
            // Midnight may be between the two clocks.
            Answer::Clock((time - now_ms + DAY_MS / 2).rem_euclid(DAY_MS) - DAY_MS / 2)
        }
        _ => return None,
    };
    Some((from.into(), word(6)?, answer))
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| {
        u32::from(u16::from_be_bytes([
            word[0],
            word.get(1).copied().unwrap_or(0),
        ]))
    });
    let sum = words.fold(0_u32, |sum, word| {
        let sum = sum + word;
        (sum & 0xffff) + (sum >> 16)
    });
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(question: Question) -> Probe {
        Probe {
            from: Ipv4Addr::new(10, 5, 1, 0),
            to: Ipv4Addr::new(10, 5, 2, 0),
            question,
        }
    }

    /// What the other host makes of a question.
    fn reply(question: Question, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut packet = packet(&probe(question), 7, 3);
        packet.copy_within(16..20, 12);
        change(&mut packet[IP..]);
        packet
    }

    #[test]
    fn checksums_add_up_to_nothing() {
        for question in [Question::Echo(1450), Question::Echo(29), Question::Clock] {
            assert_eq!(checksum(&packet(&probe(question), 7, 3)[IP..]), 0);
        }
    }

    #[test]
    fn sizes_are_those_of_whole_packets() {
        assert_eq!(packet(&probe(Question::Echo(1450)), 7, 3).len(), 1450);
        assert_eq!(packet(&probe(Question::Connection), 7, 3).len(), 40);
    }

    #[test]
    fn answers_are_told_from_other_packets() {
        let from = Ipv4Addr::new(10, 5, 2, 0);
        let echo = reply(Question::Echo(64), |body| body[0] = ECHO_REPLY);
        assert_eq!(answer(&echo, 7, 0), Some((from, 3, Answer::Yes)));
        assert_eq!(answer(&echo, 8, 0), None);
        let own = reply(Question::Echo(64), |_| ());
        assert_eq!(answer(&own, 7, 0), None);
        let refused = reply(Question::Connection, |body| {
            body.copy_within(4..8, 8);
            body[..4].rotate_left(2);
        });
        assert_eq!(answer(&refused, 7, 0), Some((from, 3, Answer::Yes)));
        assert_eq!(answer(&echo[..21], 7, 0), None);
    }

    #[test]
    fn clocks_are_compared_over_midnight() {
        for (other, own, expected) in [
            (5_000, 1_000, 4_000),
            (1_000, 5_000, -4_000),
            (1_000, DAY_MS - 1_000, 2_000),
            (DAY_MS - 1_000, 1_000, -2_000),
        ] {
            let packet = reply(Question::Clock, |body| {
                body[0] = TIMESTAMP_REPLY;
                body[12..16].copy_from_slice(&u32::try_from(other).unwrap().to_be_bytes());
            });
            let (_, _, found) = answer(&packet, 7, own).unwrap();
            assert_eq!(found, Answer::Clock(expected));
        }
    }
}
