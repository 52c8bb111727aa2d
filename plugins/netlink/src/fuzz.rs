//! Answers of a kernel that is broken, or newer than all that we know: real ones of a host, mutated.
//! Nothing panics or goes on for ever, and what is read lies within what came.

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::tc::TcMessage;
use netlink_packet_route::{AddressFamily, link::LinkMessage};
use pontoon_lab::{Host, fuzz};

use crate::address::Address;
use crate::attr;
use crate::frame::{Frame, Frames, MessageMeaning};
use crate::link::Link;
use crate::neighbour::Neighbour;
use crate::route::RouteSocket;
use crate::routing::RouteEntry;
use crate::traffic::{read_qdisc, read_redirection};

/// What the kernel tells of a host with a cable and default routes, each message a datagram.
fn answers() -> Vec<Vec<u8>> {
    let host = Host::new().expect("a host");
    let opened = host.run(RouteSocket::open).expect("the host's namespace");
    let mut socket = opened.expect("a socket");
    let mut all = Vec::new();
    let mut keep = |frame: Frame<'_>| {
        let mut frames = Frames::new();
        frames.push(frame.kind, frame.flags, frame.payload, |_| {});
        all.push(frames.as_bytes().to_vec());
        None::<()>
    };
    let mut route = RouteMessage::default();
    route.header.address_family = AddressFamily::Inet;
    let asked = [
        socket.ask(18, NLM_F_DUMP, &LinkMessage::default(), &mut keep),
        socket.ask(22, NLM_F_DUMP, &AddressMessage::default(), &mut keep),
        socket.ask(26, NLM_F_DUMP, &route, &mut keep),
        socket.ask(30, NLM_F_DUMP, &NeighbourMessage::default(), &mut keep),
        socket.ask(38, NLM_F_DUMP, &TcMessage::default(), &mut keep),
    ];
    for answer in asked {
        answer.expect("an answer").expect("a dump");
    }
    assert!(all.len() > 8, "{} messages", all.len());
    all
}

#[test]
fn answers_are_read_or_not() {
    fuzz("netlink answers", &answers(), |bytes, _| {
        let mut seen = 0;
        for frame in Frame::walk(bytes) {
            seen += frame.payload.len();
            if let MessageMeaning::Failed(failure) = frame.meaning() {
                let words = failure.message.unwrap_or_default();
                // A byte that is not UTF-8 becomes three.
                assert!(words.len() <= 3 * bytes.len());
            }
            if let Some(link) = Link::parse(frame.payload) {
                assert!(link.name.len() <= 3 * bytes.len());
            }
            if let Some(address) = Address::parse(frame.payload) {
                assert!(address.cidr.prefix() <= 128);
            }
            let _ = Neighbour::parse(frame.payload);
            if let Some(route) = RouteEntry::parse(frame.payload) {
                assert!(route.next_hops.len() <= bytes.len() / 8);
            }
        }
        assert!(seen <= bytes.len());
        for frame in Frame::walk(bytes) {
            let _ = read_redirection(Frame { ..frame });
        }
        for frame in Frame::walk(bytes) {
            let _ = read_qdisc(frame);
        }
        let mut length = 0;
        for attr in attr::read(bytes) {
            length += attr.value.len() + 4;
            let _ = (attr.u8(), attr.u16be(), attr.u32be(), attr.u64be());
            let _ = (attr.ip(), attr.text(), attr.nested().count());
        }
        assert!(length <= bytes.len());
    });
}
