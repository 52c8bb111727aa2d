use netlink_packet_core::NLM_F_CREATE;
use pontoon_netlink::{Errno, Frames, NetfilterSocket};

use crate::scene::Scene;

const INET: u8 = 1;
const NF_TABLES: u8 = 10;
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;
const NEW_TABLE: u16 = 0x0a00;
const GET_TABLE: u16 = 0x0a01;
const NEW_CHAIN: u16 = 0x0a03;
const NEW_RULE: u16 = 0x0a06;
const GENERIC: [u8; 4] = [INET, 0, 0, 0];

/// A transaction around what `fill` adds.
fn transaction(fill: impl FnOnce(&mut Frames)) -> Frames {
    let mut frames = Frames::new();
    frames.push(BEGIN, 0, &[0, 0, 0, NF_TABLES], |_| {});
    fill(&mut frames);
    frames.push(END, 0, &[0, 0, 0, NF_TABLES], |_| {});
    frames
}

fn table(frames: &mut Frames, name: &str) -> u32 {
    frames.push(NEW_TABLE, NLM_F_CREATE, &GENERIC, |attrs| {
        attrs.cstr(1, name)
    })
}

/// A table with a chain (of the input hook) whose one rule asks for the state of a flow: that switches connection
/// tracking on in the namespace.
pub(crate) fn track(socket: &mut NetfilterSocket) {
    let mut frames = transaction(|frames| {
        table(frames, "t");
        frames.push(NEW_CHAIN, NLM_F_CREATE, &GENERIC, |chain| {
            chain.cstr(1, "t");
            chain.cstr(3, "input");
            chain.nested(4, |hook| {
                hook.u32be(1, 1);
                hook.u32be(2, 0);
            });
            chain.cstr(7, "filter");
        });
        frames.push(NEW_RULE, NLM_F_CREATE, &GENERIC, |rule| {
            rule.cstr(1, "t");
            rule.cstr(2, "input");
            rule.nested(4, |list| {
                list.nested(1, |expression| {
                    expression.cstr(1, "ct");
                    expression.nested(2, |data| {
                        data.u32be(1, 1);
                        data.u32be(2, 0);
                    });
                });
            });
        });
    });
    socket
        .send_batch(&mut frames)
        .expect("a table, a chain and a rule");
}

fn names(socket: &mut NetfilterSocket) -> Vec<String> {
    let replies = socket.dump(GET_TABLE, &GENERIC, |_| {}).expect("tables");
    replies
        .iter()
        .filter_map(|reply| reply.attrs().get(1))
        .map(|attr| attr.text())
        .collect()
}

#[test]
fn a_transaction_is_all_or_nothing_and_names_the_culprit() {
    let scene = Scene::new();
    let mut socket = NetfilterSocket::open_in(&scene.host).expect("a socket");
    track(&mut socket);
    assert_eq!(names(&mut socket), ["t"]);

    let mut culprit = 0;
    let mut frames = transaction(|frames| {
        table(frames, "u");
        culprit = frames.push(NEW_CHAIN, NLM_F_CREATE, &GENERIC, |chain| {
            chain.cstr(1, "missing");
            chain.cstr(3, "c");
        });
        table(frames, "v");
    });
    let error = socket.send_batch(&mut frames).expect_err("no such table");
    let [failure] = error.failures() else {
        panic!("{error:?}")
    };
    assert_eq!((failure.errno, failure.sequence), (Errno::ENOENT, culprit));
    assert_eq!(
        (frames.position(culprit), failure.offset),
        (Some(2), Some(20)),
        "the first attribute"
    );
    assert_eq!(names(&mut socket), ["t"], "nothing of it was done");

    let unknown = socket
        .request(GET_TABLE, &GENERIC, |attrs| attrs.cstr(1, "nope"))
        .expect_err("no such table");
    assert_eq!(unknown.errno(), Some(Errno::ENOENT));
    let known = socket
        .request(GET_TABLE, &GENERIC, |attrs| attrs.cstr(1, "t"))
        .expect("the table");
    assert_eq!(known.len(), 1);
}

#[test]
fn a_large_transaction_fits() {
    let scene = Scene::new();
    let mut socket = NetfilterSocket::open_in(&scene.host).expect("a socket");
    let mut frames = transaction(|frames| {
        for number in 0..8000 {
            table(frames, &format!("table-with-a-long-name-{number}"));
        }
    });
    assert!(
        frames.as_bytes().len() > 300_000,
        "more than the default buffer"
    );
    socket.send_batch(&mut frames).expect("many tables");
    assert_eq!(
        names(&mut socket).len(),
        8000,
        "the dump came in many pieces"
    );
}
