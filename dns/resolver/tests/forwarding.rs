//! The whole decision about a forwarded question, in memory and over virtual time: merging, servers in
//! order, cache, stale replies, health and bounds. No socket, and no clock: a second takes none.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where something fails"
)]

use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pontoon_dns::name::Name;
use pontoon_dns::present;
use pontoon_dns::wire::Query;
use pontoon_resolver::choose::ServerChoice;
use pontoon_resolver::forwarding::{Forwarding, ForwardingOutcome};
use pontoon_resolver::merge::{MOST, MOST_OF_ONE};
use pontoon_resolver::plan::is_worth_it_late;
use pontoon_resolver::resolution::{Event, NextAction, Resolution, ResolutionResult};
use pontoon_resolver::server::Server;
use pontoon_resolver::stats::{Outcome, Stats};

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];

/// What a server does with a question.
#[derive(Clone)]
enum Does {
    Nothing,
    /// Nothing can be sent to it.
    NoRoute,
    /// The port is closed, or the handshake fails, after so many milliseconds.
    Fails(u64, Option<&'static str>),
    /// A reply with these flags and an address, after so many milliseconds.
    Says(u64, u16, u8),
    /// The same over UDP with TC, and over TCP as given here.
    Truncates(Box<Does>),
}

/// What an attempt leads to, and when.
struct NextMessage {
    at: Instant,
    server: Server,
    event: Option<(Vec<u8>, bool)>,
    reason: Option<String>,
}

/// A question on its course, and what may still come of each attempt.
struct PendingQuestion {
    number: u64,
    resolution: Resolution,
    packet: Vec<u8>,
    coming: Vec<NextMessage>,
    current: Option<(Server, Instant)>,
}

/// The resolver's forwarding, and servers that do what they are told.
struct World {
    forwarding: Forwarding<&'static str>,
    stats: Stats,
    now: Instant,
    begun: Instant,
    servers: HashMap<Server, Does>,
    pending_questions: Vec<PendingQuestion>,
    /// Who has got what, and when, in milliseconds.
    heard: Vec<(&'static str, String, u64)>,
}

fn server(address: [u8; 4]) -> Server {
    IpAddr::from(address).into()
}

fn source(number: u8) -> IpAddr {
    [10, 9, 0, number].into()
}

fn packet(name: &str) -> Vec<u8> {
    present::query(&Name::parse(name).unwrap(), 1)
}

fn reply(packet: &[u8], flags: u16, address: u8) -> Vec<u8> {
    let mut out = packet.to_vec();
    out[2..4].copy_from_slice(&flags.to_be_bytes());
    if flags & 0x020f == 0 {
        out[7] = 1;
        out.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 2, 0, 4, 192, 0, 2, address]);
    }
    out
}

fn tell(outcome: &ResolutionResult) -> String {
    let last = outcome.reply.as_ref().map(|reply| match reply[3] & 15 {
        0 => format!("address {}", reply[reply.len() - 1]),
        code => format!("code {code}"),
    });
    match outcome.outcome {
        Outcome::Failed => format!("failed: {}", outcome.reason),
        Outcome::Stale => format!("stale {}", last.unwrap()),
        _ => last.unwrap(),
    }
}

impl World {
    fn new(servers: &[([u8; 4], Does)]) -> Self {
        let now = Instant::now();
        Self {
            forwarding: Forwarding::new(16_384),
            stats: Stats::default(),
            now,
            begun: now,
            servers: servers
                .iter()
                .map(|(at, does)| (server(*at), does.clone()))
                .collect(),
            pending_questions: Vec::new(),
            heard: Vec::new(),
        }
    }

    fn set(&mut self, at: [u8; 4], does: Does) {
        self.servers.insert(server(at), does);
    }

    /// The way through these servers; those that have failed lately come last.
    fn choice(&self, servers: &[[u8; 4]]) -> Rc<ServerChoice> {
        let mut servers: Vec<Server> = servers.iter().map(|at| server(*at)).collect();
        servers.sort_by_key(|server| self.forwarding.healths.is_dead(server, self.now));
        Rc::new(ServerChoice {
            servers: servers.into(),
            own: None,
            number: 7,
            origin: "a test".to_owned(),
        })
    }

    fn ask(&mut self, who: &'static str, from: IpAddr, name: &str, servers: &[[u8; 4]]) -> String {
        let packet = packet(name);
        let query = Query::plain(&packet).unwrap();
        let choice = self.choice(servers);
        let mut out = Vec::new();
        let outcome = self
            .forwarding
            .enter(&query, from, &choice, self.now, || who, &mut out);
        match outcome {
            ForwardingOutcome::Cached => format!("cached address {}", out[out.len() - 1]),
            ForwardingOutcome::NoServer => "no server".to_owned(),
            ForwardingOutcome::Joined => "joined".to_owned(),
            ForwardingOutcome::ClientIsFull => "client is full".to_owned(),
            ForwardingOutcome::AllIsFull => "all is full".to_owned(),
            ForwardingOutcome::New(number, resolution) => {
                let pending = PendingQuestion {
                    number,
                    resolution,
                    packet,
                    coming: Vec::new(),
                    current: None,
                };
                self.step(pending, Event::Start);
                "asked".to_owned()
            }
        }
    }

    fn step(&mut self, mut pending: PendingQuestion, mut event: Event) {
        loop {
            let next =
                self.forwarding
                    .step(&mut pending.resolution, event, self.now, &mut self.stats);
            let (server, until, by_udp) = match next {
                NextAction::Ask(server, until) => (server, until, true),
                NextAction::OverTcp(server, until) => (server, until, false),
                NextAction::Done(outcome) => {
                    let at = self.now.duration_since(self.begun).as_millis() as u64;
                    for (_, who) in self.forwarding.leave(pending.number, &outcome, self.now) {
                        self.heard.push((who, tell(&outcome), at));
                    }
                    return;
                }
            };
            let after = |millis| self.now + Duration::from_millis(millis);
            let mut come = |at, event, reason: Option<&str>| {
                let (server, reason) = (server.clone(), reason.map(str::to_owned));
                pending.coming.push(NextMessage {
                    at,
                    server,
                    event,
                    reason,
                });
            };
            match (self.servers[&server].clone(), by_udp) {
                (Does::NoRoute, _) => {
                    event = Event::NotSent;
                    continue;
                }
                (Does::Nothing, _) => {}
                (Does::Fails(millis, reason), _) => come(after(millis), None, reason),
                (Does::Truncates(_), true) => {
                    come(
                        after(1),
                        Some((reply(&pending.packet, 0x8380, 0), true)),
                        None,
                    );
                }
                (Does::Truncates(does), false) => match *does {
                    Does::Says(millis, flags, last) => {
                        let message = reply(&pending.packet, flags, last);
                        come(after(millis), Some((message, false)), None);
                    }
                    Does::Fails(millis, reason) => come(after(millis), None, reason),
                    _ => {}
                },
                (Does::Says(millis, flags, last), by_udp) => {
                    let message = reply(&pending.packet, flags, last);
                    come(after(millis), Some((message, by_udp)), None);
                }
            }
            pending.current = Some((server, until));
            self.pending_questions.push(pending);
            return;
        }
    }

    /// Lets all that is under way come to its end.
    fn run(&mut self) {
        while let Some((index, at)) = self
            .pending_questions
            .iter()
            .enumerate()
            .map(|(index, pending)| {
                let first = pending.coming.iter().map(|coming| coming.at).min();
                let (_, until) = pending.current.as_ref().unwrap();
                (index, first.map_or(*until, |first| first.min(*until)))
            })
            .min_by_key(|(_, at)| *at)
        {
            self.now = self.now.max(at);
            let mut pending = self.pending_questions.swap_remove(index);
            let due = pending.coming.iter().position(|coming| coming.at <= at);
            let Some(due) = due else {
                self.step(pending, Event::Silence);
                continue;
            };
            let coming = pending.coming.swap_remove(due);
            let current = pending
                .current
                .as_ref()
                .is_some_and(|(now, _)| *now == coming.server);
            match coming.event {
                Some((message, true)) if current => self.step(pending, Event::Datagram(message)),
                Some((message, false)) if current => self.step(pending, Event::Stream(message)),
                None if current => self.step(pending, Event::Failure(coming.reason)),
                Some((message, _)) if is_worth_it_late(&message) => {
                    self.step(pending, Event::Late(message, coming.server));
                }
                _ => self.pending_questions.push(pending),
            }
        }
    }

    fn wait(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    /// What was heard since the last call.
    fn heard(&mut self) -> Vec<(&'static str, String, u64)> {
        std::mem::take(&mut self.heard)
    }
}

fn got(who: &'static str, what: &str, at: u64) -> (&'static str, String, u64) {
    (who, what.to_owned(), at)
}

#[test]
fn two_askers_are_one_question_and_the_third_finds_it_in_the_cache() {
    let mut world = World::new(&[(A, Does::Says(20, 0x8180, 7))]);
    assert_eq!(world.ask("a", source(1), "x.test", &[A]), "asked");
    assert_eq!(world.ask("b", source(2), "X.test", &[A]), "joined");
    assert_eq!(world.ask("c", source(3), "y.test", &[A]), "asked");
    world.run();
    let mut heard = world.heard();
    heard.sort();
    assert_eq!(heard, ["a", "b", "c"].map(|who| got(who, "address 7", 20)));
    assert_eq!(
        world.ask("d", source(4), "x.TEST", &[A]),
        "cached address 7"
    );
    world.wait(2000);
    assert_eq!(
        world.ask("e", source(4), "x.test", &[A]),
        "asked",
        "two seconds to live"
    );
}

#[test]
fn silence_goes_round_and_a_late_reply_ends_it() {
    let mut world = World::new(&[(A, Does::Says(1500, 0x8180, 1)), (B, Does::Nothing)]);
    world.ask("a", source(1), "x.test", &[A, B]);
    world.run();
    assert_eq!(world.heard(), [got("a", "address 1", 1500)]);
    assert_eq!(world.stats.upstream_timeouts, 1);
    // What comes late and is a refusal ends nothing; all is over after four seconds.
    let mut world = World::new(&[(A, Does::Says(1500, 0x8182, 1)), (B, Does::Nothing)]);
    world.ask("a", source(1), "x.test", &[A, B]);
    world.run();
    let [(_, what, at)] = &world.heard()[..] else {
        panic!()
    };
    assert_eq!(
        (what.as_str(), *at),
        ("failed: no answer of 10.0.0.1, 10.0.0.2", 4000)
    );
    assert_eq!(world.stats.servfail, 1);
}

#[test]
fn a_silent_server_is_asked_last_for_half_a_minute_and_first_again_after() {
    let mut world = World::new(&[(A, Does::Nothing), (B, Does::Says(5, 0x8180, 2))]);
    // The silence is noted one second after the start.
    for (name, wait, took) in [
        ("a.test", 0, 1005),
        ("b.test", 0, 5),
        ("c.test", 29_900, 5),
        ("d.test", 100, 1005),
    ] {
        world.wait(wait);
        let begun = world.now.duration_since(world.begun).as_millis() as u64;
        world.ask("a", source(1), name, &[A, B]);
        world.run();
        assert_eq!(
            world.heard(),
            [got("a", "address 2", begun + took)],
            "{name}"
        );
    }
    let health: HashMap<_, _> = world.forwarding.healths.all().collect();
    assert_eq!(
        (health[&server(A)].asked, health[&server(A)].failed),
        (2, 2)
    );
    assert_eq!(health[&server(B)].last_micros, 5000);
}

#[test]
fn refusals_and_failures_go_to_the_next_server_at_once() {
    for (first, second, what) in [
        (
            Does::Says(5, 0x8182, 0),
            Does::Says(5, 0x8180, 2),
            "address 2",
        ),
        (Does::Says(5, 0x8185, 0), Does::Says(5, 0x8183, 2), "code 3"),
        (Does::Fails(5, None), Does::Says(5, 0x8180, 2), "address 2"),
        (
            Does::Says(5, 0x8182, 0),
            Does::Says(5, 0x8185, 0),
            "failed: every server that answered said no, the last one REFUSED",
        ),
        (
            Does::Fails(5, Some("its certificate has expired")),
            Does::Fails(5, None),
            "failed: no answer of 10.0.0.1 (its certificate has expired), 10.0.0.2",
        ),
        (
            Does::Fails(5, Some("bad")),
            Does::Says(5, 0x8182, 0),
            "failed: every server that answered said no, the last one SERVFAIL; 10.0.0.1 (bad)",
        ),
    ] {
        let mut world = World::new(&[(A, first), (B, second)]);
        world.ask("a", source(1), "x.test", &[A, B]);
        world.run();
        assert_eq!(world.heard(), [got("a", what, 10)]);
    }
    let mut world = World::new(&[(A, Does::NoRoute), (B, Does::NoRoute)]);
    world.ask("a", source(1), "x.test", &[A, B]);
    world.run();
    assert_eq!(
        world.heard(),
        [got("a", "failed: no answer of 10.0.0.1, 10.0.0.2", 0)]
    );
    assert_eq!(world.ask("a", source(1), "x.test", &[]), "no server");
}

#[test]
fn a_truncated_reply_is_fetched_whole_or_the_next_server_is_asked() {
    let whole = Does::Truncates(Box::new(Does::Says(10, 0x8180, 1)));
    let closed = Does::Truncates(Box::new(Does::Fails(10, None)));
    let silent = Does::Truncates(Box::new(Does::Nothing));
    for (first, what, at) in [
        (whole, "address 1", 11),
        (closed, "address 2", 14),
        (silent, "address 2", 1004),
    ] {
        let mut world = World::new(&[(A, first), (B, Does::Says(3, 0x8180, 2))]);
        world.ask("a", source(1), "x.test", &[A, B]);
        world.run();
        assert_eq!(world.heard(), [got("a", what, at)]);
        assert_eq!(world.stats.tcp_retries, 1);
    }
}

#[test]
fn what_has_expired_is_given_again_when_every_server_is_silent_or_gone() {
    for (does, at) in [(Does::Nothing, 3_050), (Does::Fails(5, None), 3_055)] {
        let mut world = World::new(&[(A, Does::Says(50, 0x8180, 1))]);
        world.ask("a", source(1), "x.test", &[A]);
        world.run();
        world.heard();
        world.wait(3000);
        world.set(A, does.clone());
        world.ask("a", source(1), "x.test", &[A]);
        world.run();
        let silent = matches!(does, Does::Nothing);
        assert_eq!(
            world.heard(),
            [got("a", "stale address 1", at + 1000 * u64::from(silent))]
        );
        assert_eq!((world.stats.stale, world.stats.servfail), (1, 0));
        world.wait(31_000);
        world.ask("a", source(1), "x.test", &[A]);
        world.run();
        assert!(
            world.heard()[0].1.starts_with("failed"),
            "not after half a minute"
        );
    }
    // A refusal is newer than what has expired.
    let mut world = World::new(&[(A, Does::Says(50, 0x8180, 1))]);
    world.ask("a", source(1), "x.test", &[A]);
    world.run();
    world.heard();
    world.wait(3000);
    world.set(A, Does::Says(5, 0x8182, 0));
    world.ask("a", source(1), "x.test", &[A]);
    world.run();
    assert!(world.heard()[0].1.starts_with("failed: every server"));
}

#[test]
fn a_full_table_refuses_at_once_and_has_room_again() {
    let mut world = World::new(&[(A, Does::Nothing)]);
    for client in 0..(MOST / MOST_OF_ONE) as u8 {
        for number in 0..MOST_OF_ONE {
            let name = format!("n{number}.c{client}.test");
            assert_eq!(world.ask("many", source(client), &name, &[A]), "asked");
        }
        assert_eq!(
            world.ask("a", source(client), "more.test", &[A]),
            "client is full"
        );
    }
    assert_eq!(
        world.ask("b", source(200), "more.test", &[A]),
        "all is full"
    );
    assert_eq!(
        world.ask("c", source(200), "n1.c1.test", &[A]),
        "joined",
        "costs no place"
    );
    world.run();
    assert_eq!(world.heard().len(), MOST + 1);
    assert_eq!(world.stats.servfail as usize, MOST);
    world.set(A, Does::Says(1, 0x8180, 1));
    assert_eq!(world.ask("b", source(200), "more.test", &[A]), "asked");
}
