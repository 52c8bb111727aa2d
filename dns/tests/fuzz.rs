//! Malformed packets, resolv.conf and record files: mutations of
//! good ones. Nothing may panic, and what is said about each must hold together. Two seconds for each
//! kind, or `PONTOON_FUZZ_SECONDS`; the seed of a finding is printed, and `PONTOON_FUZZ_SEED` begins
//! with it.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test runs programs, and ends where something fails"
)]

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use pontoon_dns::answer::{decide, ready};
use pontoon_dns::cache::{Cache, Question, readdress};
use pontoon_dns::present;
use pontoon_dns::record::Record;
use pontoon_dns::resolv_conf::{ClientNetwork, ResolvConf, ResolvConfInput};
use pontoon_dns::wire::{Edns, Query, Rcode, answers, bare, entries, flags};
use pontoon_dns::zone::Zone;

/// xorshift64*: the same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.roll() >> 33) as usize % end.max(1)
    }

    /// One of these with a few bytes changed, cut, doubled or taken from another.
    fn mutate(&mut self, good: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = good[self.below(good.len())].clone();
        for _ in 0..self.below(8) {
            let at = self.below(bytes.len());
            match self.below(7) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                1 if !bytes.is_empty() => bytes[at] = self.roll() as u8,
                2 if !bytes.is_empty() => bytes[at] = [0, 0xc0, 0xff, 0x3f][self.below(4)],
                3 => bytes.truncate(at),
                4 => bytes.insert(at, self.roll() as u8),
                5 => {
                    let end = at + self.below(bytes.len() - at);
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
                _ => {
                    let other = &good[self.below(good.len())];
                    let start = self.below(other.len());
                    let end = start + self.below(other.len() - start);
                    let piece = other[start..end].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        bytes
    }
}

/// Runs `check` on mutations until the time is over.
fn fuzz(what: &str, good: &[Vec<u8>], mut check: impl FnMut(&[u8], &mut Dice)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seconds = number("PONTOON_FUZZ_SECONDS").unwrap_or(2);
    let clock = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(1, |time| time.as_nanos() as u64);
    let mut seed = number("PONTOON_FUZZ_SEED").unwrap_or(clock) | 1;
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut count = 0u64;
    while count == 0 || Instant::now() < end {
        for _ in 0..256 {
            let mut dice = Dice(seed);
            let bytes = dice.mutate(good);
            let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                check(&bytes, &mut dice);
            }));
            assert!(
                checked.is_ok(),
                "{what}: PONTOON_FUZZ_SEED={seed} {bytes:02x?}"
            );
            seed = Dice(seed).roll() | 1;
            count += 1;
        }
    }
    eprintln!("{what}: {count} tried");
}

fn packet(name: &str, qtype: u16, tail: &[u8]) -> Vec<u8> {
    let mut packet = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(!tail.is_empty())];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        packet.push(label.len() as u8);
        packet.extend_from_slice(label.as_bytes());
    }
    packet.push(0);
    packet.extend_from_slice(&qtype.to_be_bytes());
    packet.extend_from_slice(&[0, 1]);
    packet.extend_from_slice(tail);
    packet
}

/// OPT with 1232 bytes, and with a client's cookie.
const EDNS: [u8; 11] = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
const COOKIE: [u8; 23] = [
    0, 0, 41, 4, 208, 0, 0, 128, 0, 0, 12, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8,
];

fn queries() -> Vec<Vec<u8>> {
    let mut good = Vec::new();
    for name in [
        "web",
        "WEB.dns.pontoon",
        "web.front.dns.pontoon",
        "pool",
        "",
        "a.b.example",
    ] {
        for qtype in [1, 28, 12, 15, 255, 252, 65] {
            for tail in [&[][..], &EDNS, &COOKIE] {
                good.push(packet(name, qtype, tail));
            }
        }
    }
    good.push(packet("2.0.1.10.in-addr.arpa", 12, &[]));
    good.push(packet(&format!("{}ip6.arpa", "0.".repeat(32)), 12, &EDNS));
    good
}

fn records() -> Vec<Vec<u8>> {
    let full = r#"{"version":1,"network":"front","container":"c1","interface":"eth0","names":["web"],"aliases":["pool","a-b"],"links":[{"target":"db","alias":"database"}],"addresses":["10.1.0.2","fd01::2"],"gateways":["10.1.0.1","fd01::1"],"domain":"dns.pontoon","ttl":5,"servers":["192.0.2.1"],"upstreams":["192.0.2.2"],"resolv_conf":"/etc/resolv.conf","resolvConf":"/etc/resolv.conf","netns":"/run/netns/web"}"#;
    let other = full
        .replace("\"c1\"", "\"c2\"")
        .replace("\"web\"", "\"db\"")
        .replace("10.1.0.2", "10.1.0.3");
    vec![full.into(), other.into_bytes()]
}

fn zone() -> Zone {
    let mut zone = Zone::default();
    for text in records() {
        let record = Record::parse(&text, Path::new("/record")).expect("a good record");
        zone.insert(record);
    }
    zone
}

#[test]
fn queries_are_answered_or_dropped() {
    let zone = zone();
    let sources: [IpAddr; 3] =
        ["10.1.0.2", "10.1.0.1", "192.0.2.9"].map(|text| text.parse().unwrap());
    let mut out = Vec::new();
    fuzz("queries", &queries(), |bytes, dice| {
        let source = sources[dice.below(3)];
        if ready(&zone, source, bytes, true, dice.below(5), &mut out) {
            assert!(out.len() <= 1232, "{} bytes", out.len());
            assert!(entries(&out).is_some(), "not to be read: {out:02x?}");
            assert!(flags(&out) & 0x8000 != 0 && out[..2] == bytes[..2]);
        }
        if bytes.len() >= 12 {
            bare(bytes, Rcode::FormErr, &mut out);
            assert!(flags(&out) & 0x8000 != 0 && out[..2] == bytes[..2]);
        }
        let edns = Edns {
            size: 1232,
            version: 0,
            dnssec: false,
            options: dice.below(2) == 0,
        };
        if let Some(query) = Query::new(bytes, Some(edns)) {
            let _ = decide(&zone, source, &query);
            let onward = query.onward();
            assert!(onward.len() <= bytes.len() && Query::new(&onward, None).is_some());
        }
    });
}

#[test]
fn replies_are_taken_for_what_they_are() {
    let ask = packet("web.example", 1, &EDNS);
    let query = Query::new(&ask, None).expect("a good query");
    let mut reply = ask.clone();
    reply[2] = 0x81;
    reply[3] = 0x80;
    reply[7] = 1;
    let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 0, 0, 4, 192, 0, 2, 7];
    let at = reply.len() - EDNS.len();
    reply.splice(at..at, record);
    let mut alias = ask.clone();
    alias[2] = 0x81;
    alias[7] = 2;
    let chain = [0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 4, 1, b'x', 0xc0, 12];
    alias.splice(at..at, [&chain[..], &record].concat());
    let good = [reply, alias, ask.clone()];
    let question = Question::of(&query, 1).expect("a question to be kept");
    let mut out = Vec::new();
    fuzz("replies", &good, |bytes, dice| {
        let now = Instant::now();
        let taken = answers(&ask, 7, bytes);
        assert!(!taken || bytes[..2] == [0, 7]);
        let _ = present::reply(bytes);
        let _ = entries(bytes);
        if !taken {
            return;
        }
        let mut cache = Cache::default();
        cache.put(question.clone(), bytes, now);
        let later = now + Duration::from_secs(dice.below(600) as u64);
        if cache.get(&question, &query, later, &mut out) {
            assert_eq!(out.len(), bytes.len());
        }
        let mut own = bytes.to_vec();
        readdress(&query, &mut own);
        assert_eq!(own.len(), bytes.len());
    });
}

#[test]
fn resolv_conf_is_read_whatever_it_says() {
    let good = [
        "nameserver 1.1.1.1\nnameserver fe80::1%eth0\nsearch a.com b.com\noptions ndots:2 edns0\n",
        "# a comment\ndomain lan\r\nnameserver 127.0.0.53\nsortlist 10.0.0.0/8\nlookup file bind\n",
        "\u{feff}nameserver [2001:db8::53], 9.9.9.9 ; both\noptions timeout:1\toptions attempts:9\n",
    ]
    .map(|text| text.as_bytes().to_vec());
    let ours: [IpAddr; 1] = ["10.1.0.1".parse().unwrap()];
    fuzz("resolv.conf", &good, |bytes, dice| {
        let conf = ResolvConf::parse(bytes);
        let (v4, v6) = (dice.below(2) == 0, dice.below(2) == 0);
        let audience = |on_host| ClientNetwork {
            v4,
            v6,
            on_host,
            ours: &ours,
            silent: &[],
        };
        for on_host in [false, true] {
            let (usable, dropped) = conf.usable(&audience(on_host));
            assert_eq!(usable.len() + dropped.len(), conf.servers.len());
        }
        let wanted = ResolvConfInput {
            host: ("/etc/resolv.conf".into(), Some(conf)),
            audience: audience(false),
            resolver: Vec::new(),
            domain: "dns.pontoon",
            servers: Vec::new(),
            search: Vec::new(),
            options: Vec::new(),
        };
        let (inside, _) = wanted.inside();
        // What is written reads as it was meant, and no comment becomes a line of its own.
        let again = ResolvConf::parse(inside.to_string().as_bytes());
        let servers: Vec<IpAddr> = again.servers.iter().map(|server| server.address).collect();
        assert_eq!(servers, inside.servers, "{inside}");
        assert!(
            again.unreadable.is_empty(),
            "{:?} of {inside}",
            again.unreadable
        );
    });
}

#[test]
fn records_are_taken_or_refused() {
    fuzz("records", &records(), |bytes, _| {
        let Ok(record) = Record::parse(bytes, Path::new("/record")) else {
            return;
        };
        let mut zone = zone();
        let before = zone.len();
        zone.insert(record);
        assert!(zone.len() <= before + 1);
        let keys: Vec<_> = zone.keys().collect();
        for key in keys {
            assert!(zone.remove(&key));
        }
        assert!(zone.is_empty() && zone.gateways().next().is_none());
    });
}
