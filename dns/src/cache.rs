//! Replies of other servers, kept as long as they may be. Time comes in as an argument.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::wire::{Query, Rcode, entries, flag, flags, kind};

/// Most replies kept.
pub const MOST: usize = 4096;
/// Largest reply kept, in bytes.
const LARGEST: usize = 4096;
/// How often a full cache is searched for replies that have expired.
const SWEEP: Duration = Duration::from_secs(1);
/// For how long a reply that has expired is there for when every server is silent (RFC 8767).
const STALE: Duration = Duration::from_secs(30);
/// Time to live of a stale answer, in seconds: asked again soon.
const STALE_TTL: u32 = 5;
/// Longest that an answer is kept, in seconds.
const LONGEST: u32 = 3600;
/// Longest that the absence of one is kept, in seconds.
const LONGEST_ABSENCE: u32 = 300;

/// What makes two questions the same: name in lower case, type, class, what the client wants to
/// know about signatures, and who answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    name: Box<[u8]>,
    kind: (u16, u16),
    /// RD, CD, EDNS there, DO.
    bits: u8,
    /// The servers asked.
    route: u64,
}

impl Question {
    /// The question of a query that goes to the servers numbered `route`. `None` when the reply may
    /// be for this client alone.
    #[must_use]
    pub fn of(query: &Query<'_>, route: u64) -> Option<Self> {
        if query.edns.is_some_and(|edns| edns.options) {
            return None;
        }
        let bit = |set: bool, place: u8| u8::from(set) << place;
        let bits = bit(query.flags & flag::RD != 0, 0)
            | bit(query.flags & flag::CD != 0, 1)
            | bit(query.edns.is_some(), 2)
            | bit(query.edns.is_some_and(|edns| edns.dnssec), 3);
        Some(Self::new(
            query.name,
            query.qtype,
            query.qclass,
            bits,
            route,
        ))
    }

    /// A question of its parts.
    #[must_use]
    pub fn new(name: &[u8], qtype: u16, qclass: u16, bits: u8, route: u64) -> Self {
        Self {
            name: name.to_ascii_lowercase().into(),
            kind: (qtype, qclass),
            bits,
            route,
        }
    }
}

struct CachedReply {
    reply: Box<[u8]>,
    /// Where times to live stand in it.
    ttls: Box<[u16]>,
    since: Instant,
    until: Instant,
}

/// A bounded cache.
#[derive(Default)]
pub struct Cache {
    kept: HashMap<Rc<Question>, CachedReply>,
    /// Questions in the order in which they came: the oldest one makes room.
    order: VecDeque<Rc<Question>>,
    swept: Option<Instant>,
}

impl Cache {
    /// How many replies are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.kept.clear();
        self.order.clear();
    }

    /// Keeps a reply, if it says for how long.
    pub fn put(&mut self, question: Question, reply: &[u8], now: Instant) {
        let Some(seconds) = keepable(reply).filter(|seconds| *seconds > 0) else {
            return;
        };
        let known = self.kept.contains_key(&question);
        if !known && self.kept.len() >= MOST {
            self.make_room(now);
        }
        let records = entries(reply).unwrap_or_default();
        let ttls = records.iter().filter(|entry| entry.kind != kind::OPT);
        let kept = CachedReply {
            reply: reply.into(),
            ttls: ttls.map(|entry| entry.ttl_at as u16).collect(),
            since: now,
            until: now + Duration::from_secs(seconds.into()),
        };
        let question = Rc::new(question);
        if !known {
            self.order.push_back(Rc::clone(&question));
        }
        self.kept.insert(question, kept);
    }

    /// Every reply is looked at once a second at most, so that a full cache costs what an empty one
    /// does.
    fn make_room(&mut self, now: Instant) {
        let rested = |at: Instant| now.saturating_duration_since(at) >= SWEEP;
        if self.swept.is_none_or(rested) {
            self.swept = Some(now);
            self.kept.retain(|_, kept| kept.until + STALE > now);
            self.order
                .retain(|question| self.kept.contains_key(question));
        }
        if self.kept.len() >= MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.kept.remove(&oldest);
        }
    }

    /// Writes the kept reply to a question, as one to `query`, its times to live less what has
    /// passed. `false` when there is none.
    pub fn get(
        &self,
        question: &Question,
        query: &Query<'_>,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> bool {
        let Some(kept) = self.kept.get(question).filter(|kept| kept.until > now) else {
            return false;
        };
        let age = now.saturating_duration_since(kept.since).as_secs() as u32;
        kept.write(|ttl| ttl.saturating_sub(age), out);
        readdress(query, out);
        true
    }

    /// The reply to a question that expired a moment ago, for when no server answers.
    #[must_use]
    pub fn stale(&self, question: &Question, now: Instant) -> Option<Vec<u8>> {
        let kept = self.kept.get(question)?;
        let mut out = Vec::new();
        (kept.until + STALE > now).then(|| kept.write(|_| STALE_TTL, &mut out))?;
        Some(out)
    }
}

impl CachedReply {
    /// Writes the reply with other times to live.
    fn write(&self, left: impl Fn(u32) -> u32, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.reply);
        for at in &self.ttls {
            let at = usize::from(*at);
            if let Some(place) = out.get_mut(at..at + 4) {
                let ttl = u32::from_be_bytes([place[0], place[1], place[2], place[3]]);
                place.copy_from_slice(&left(ttl).to_be_bytes());
            }
        }
    }
}

/// Makes a reply to the same question one to `query`: its identifier, and its name in its case.
pub fn readdress(query: &Query<'_>, reply: &mut [u8]) {
    if let Some(id) = reply.get_mut(..2) {
        id.copy_from_slice(&query.id.to_be_bytes());
    }
    let from = crate::wire::HEADER;
    if let Some(name) = reply.get_mut(from..from + query.name.len()) {
        name.copy_from_slice(query.name);
    }
}

/// For how long a reply may be kept, in seconds; `None` when it may not be.
fn keepable(reply: &[u8]) -> Option<u32> {
    let flags = flags(reply);
    let rcode = flags & flag::RCODE;
    let known = rcode == Rcode::NoError as u16 || rcode == Rcode::NxDomain as u16;
    if !known || flags & flag::TC != 0 || reply.len() > LARGEST {
        return None;
    }
    let entries = entries(reply)?;
    let shortest = |entries: &mut dyn Iterator<Item = u32>| entries.min();
    // A time to live of more than 2^31 seconds is none (RFC 2181 section 8).
    let ttl = |ttl: u32| if ttl > i32::MAX as u32 { 0 } else { ttl };
    let records = || entries.iter().filter(|entry| entry.kind != kind::OPT);
    let all = shortest(&mut records().map(|entry| ttl(entry.ttl)));
    if rcode == Rcode::NoError as u16 && entries.iter().any(|entry| entry.section == 1) {
        // A chain of aliases without an end is no answer to be kept: the next server may know it.
        return all.map(|seconds| seconds.min(LONGEST));
    }
    // RFC 2308 section 5: the lesser of the record's own time and the last number in it.
    let authority = entries
        .iter()
        .find(|entry| entry.section == 2 && entry.kind == kind::SOA)?;
    let end = authority.data.1;
    let last = reply.get(end - 4..end)?;
    let minimum = u32::from_be_bytes([last[0], last[1], last[2], last[3]]);
    all.map(|seconds| seconds.min(ttl(minimum)).min(LONGEST_ABSENCE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(name: &[u8], id: u8) -> Vec<u8> {
        let mut packet = vec![0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        packet.extend_from_slice(name);
        packet.extend_from_slice(&[0, 0, 1, 0, 1]);
        packet
    }

    fn reply(query: &Query<'_>, rcode: Rcode, section: u8, kind: u16, ttl: u32) -> Vec<u8> {
        let mut out = query.packet[..query.end].to_vec();
        out[2..4].copy_from_slice(&(flag::QR | flag::RD | flag::RA | rcode as u16).to_be_bytes());
        out[5 + 2 * usize::from(section)] = 1;
        let data: &[u8] = match kind {
            kind::SOA => &[
                0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 30,
            ],
            _ => &[10, 0, 0, 1],
        };
        out.extend_from_slice(&[0xc0, 12]);
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&[0, 1]);
        out.extend_from_slice(&ttl.to_be_bytes());
        out.extend_from_slice(&(data.len() as u16).to_be_bytes());
        out.extend_from_slice(data);
        out
    }

    #[test]
    fn a_hit_is_a_reply_to_the_new_query() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut cache = Cache::default();
        let first = packet(b"\x01a\x03com", 1);
        let first = Query::new(&first, None).unwrap();
        let question = Question::of(&first, 7).unwrap();
        cache.put(
            question.clone(),
            &reply(&first, Rcode::NoError, 1, kind::A, 60),
            start,
        );

        let second = packet(b"\x01A\x03cOm", 2);
        let second = Query::new(&second, None).unwrap();
        assert_eq!(Question::of(&second, 7), Some(question.clone()));
        let mut out = Vec::new();
        assert!(cache.get(&question, &second, after(20), &mut out));
        assert!(crate::wire::answers(second.packet, second.id, &out));
        assert_eq!(&out[12..18], b"\x01A\x03cOm");
        assert_eq!(entries(&out).unwrap()[0].ttl, 40);
        assert!(!cache.get(&question, &second, after(60), &mut out));
        let stale = cache.stale(&question, after(80)).unwrap();
        assert_eq!(entries(&stale).unwrap()[0].ttl, STALE_TTL);
        assert!(cache.stale(&question, after(90)).is_none());
        let elsewhere = Question::of(&second, 8).unwrap();
        assert!(!cache.get(&elsewhere, &second, after(20), &mut out));
    }

    #[test]
    fn what_may_be_kept_and_for_how_long() {
        let packet = packet(b"\x01a", 1);
        let query = Query::new(&packet, None).unwrap();
        let check = |rcode, section, kind, ttl, expected| {
            let reply = reply(&query, rcode, section, kind, ttl);
            assert_eq!(
                keepable(&reply),
                expected,
                "{rcode:?} {section} {kind} {ttl}"
            );
        };
        check(Rcode::NoError, 1, kind::A, 60, Some(60));
        check(Rcode::NoError, 1, kind::A, 100_000, Some(LONGEST));
        check(Rcode::NoError, 1, kind::A, u32::MAX, Some(0));
        check(Rcode::NxDomain, 2, kind::SOA, 60, Some(30));
        check(Rcode::NoError, 2, kind::SOA, 10, Some(10));
        check(Rcode::NxDomain, 3, kind::A, 60, None);
        check(Rcode::ServFail, 1, kind::A, 60, None);
        let mut torn = reply(&query, Rcode::NoError, 1, kind::A, 60);
        torn.pop();
        assert_eq!(keepable(&torn), None);
    }

    #[test]
    fn it_never_grows_beyond_its_bound() {
        let mut cache = Cache::default();
        let now = Instant::now();
        for number in 0..MOST as u32 + 100 {
            let label = format!("{number:04}");
            let name = [&[label.len() as u8][..], label.as_bytes()].concat();
            let packet = packet(&name, 1);
            let query = Query::new(&packet, None).unwrap();
            let question = Question::of(&query, 0).unwrap();
            cache.put(
                question,
                &reply(&query, Rcode::NoError, 1, kind::A, 60),
                now,
            );
        }
        assert_eq!(cache.len(), MOST);
        assert_eq!(cache.order.len(), MOST);
        let hit = |cache: &Cache, number: u32| {
            let label = format!("{number:04}");
            let name = [&[label.len() as u8][..], label.as_bytes()].concat();
            let packet = packet(&name, 1);
            let query = Query::new(&packet, None).unwrap();
            let question = Question::of(&query, 0).unwrap();
            cache.get(&question, &query, now, &mut Vec::new())
        };
        assert!(!hit(&cache, 99), "the oldest ones made room");
        assert!(hit(&cache, 100) && hit(&cache, MOST as u32 + 99));
    }

    #[test]
    fn a_full_cache_is_swept_once_a_second() {
        let mut cache = Cache::default();
        let start = Instant::now();
        let put = |cache: &mut Cache, number: u32, ttl: u32, now| {
            let label = format!("{number:04}");
            let name = [&[label.len() as u8][..], label.as_bytes()].concat();
            let packet = packet(&name, 1);
            let query = Query::new(&packet, None).unwrap();
            let question = Question::of(&query, 0).unwrap();
            let reply = reply(&query, Rcode::NoError, 1, kind::A, ttl);
            cache.put(question, &reply, now);
        };
        for number in 0..MOST as u32 {
            put(&mut cache, number, 2, start);
        }
        put(&mut cache, 9000, 60, start);
        assert_eq!(cache.len(), MOST, "swept, and nothing had expired");
        let later = start + Duration::from_secs(3) + STALE;
        put(&mut cache, 9001, 60, later);
        assert_eq!(cache.len(), 2, "all that has expired is gone");
        assert_eq!(cache.order.len(), 2);
    }
}
