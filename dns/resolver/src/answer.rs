//! The way of a packet: answered from what was prepared, by hickory, or by other servers.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use pontoon_dns::answer::{Verdict, decide, prepared};
use pontoon_dns::wire::{Query, bare};

use super::client::{Client, MESSAGE, PacketOutcome};
use super::forward::QuestionSource;
use super::state::Daemon;
use pontoon_resolver::local::{self, InvalidQuery, Local};

impl Daemon {
    /// Answers a packet, or sends it on its way to a server that can. `gateway` is the address asked at
    /// over UDP.
    pub(crate) fn answer(
        self: &Rc<Self>,
        packet: &[u8],
        from: SocketAddr,
        gateway: Option<IpAddr>,
        client: impl FnOnce() -> Client,
        out: &mut Vec<u8>,
    ) -> PacketOutcome {
        let rotation = self.rotation.get().wrapping_add(1);
        self.rotation.set(rotation);
        let (local, refused) = self.turn.get();
        let by_udp = gateway.is_some();
        let source = from.ip();
        let zone = self.zone.borrow();
        // Most queries are plain, and hickory sees only those of them that it answers.
        let plain = Query::plain(packet);
        let mut verdict = None;
        if let Some(query) = &plain {
            if prepared(&zone, source, query, by_udp, rotation, out) {
                self.turn.set((local + 1, refused));
                return PacketOutcome::Reply;
            }
            let decided = decide(&zone, source, query);
            if decided == Verdict::Forward {
                drop(zone);
                let limit = if by_udp { query.udp_limit() } else { MESSAGE };
                let asked = QuestionSource {
                    source,
                    gateway,
                    limit,
                };
                return self.forward(query, asked, client, out);
            }
            verdict = Some(decided);
        }
        let request = match local::read(packet, from, by_udp) {
            Ok(request) => request,
            Err(InvalidQuery::Drop) => {
                self.stats.borrow_mut().malformed += 1;
                return PacketOutcome::Dropped;
            }
            Err(InvalidQuery::Reply(rcode)) => {
                bare(packet, rcode, out);
                return PacketOutcome::Reply;
            }
        };
        let Some(query) = plain.or_else(|| local::query(&request, packet)) else {
            return PacketOutcome::Dropped;
        };
        let limit = if by_udp { query.udp_limit() } else { MESSAGE };
        let verdict = verdict.unwrap_or_else(|| decide(&zone, source, &query));
        drop(zone);
        if let Some(answer) = Local::of(&request, &verdict, rotation, limit) {
            answer.write(&request, limit, out);
            self.turn.set(match verdict {
                Verdict::Refused(_) => (local, refused + 1),
                _ => (local + 1, refused),
            });
            return PacketOutcome::Reply;
        }
        let asked = QuestionSource {
            source,
            gateway,
            limit,
        };
        self.forward(&query, asked, client, out)
    }
}
