//! Answers about sets, rules and traces of a kernel that is broken: nothing panics, and what is read
//! lies within what came.

use pontoon_lab::fuzz;
use pontoon_netlink::Reply;
use pontoon_netlink::attr::Attrs;

use super::chain_lookup::summary;
use super::element::{self, read};
use super::list::uses;
use super::uapi::*;

fn answers() -> Vec<Vec<u8>> {
    let answer = |fill: &dyn Fn(&mut Attrs)| {
        let mut attrs = Attrs::default();
        fill(&mut attrs);
        [&[1, 0, 0, 0][..], attrs.as_bytes()].concat()
    };
    let elements = answer(&|out| {
        out.nested(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
            for number in 1..4 {
                list.nested(1, |element| {
                    element.nested(NFTA_SET_ELEM_KEY, |key| {
                        key.bytes(
                            NFTA_DATA_VALUE,
                            &[10, 0, 0, number, 6, 0, 0, 0, 0, 80, 0, 0],
                        );
                    });
                    element.nested(NFTA_SET_ELEM_DATA, |data| match number {
                        1 => data.bytes(NFTA_DATA_VALUE, &[10, 0, 0, 2, 0, 80, 0, 0]),
                        2 => data.nested(NFTA_DATA_VERDICT, |verdict| {
                            verdict.u32be(NFTA_VERDICT_CODE, NFT_JUMP.cast_unsigned());
                            verdict.cstr(NFTA_VERDICT_CHAIN, "out-front");
                        }),
                        _ => data.nested(NFTA_DATA_VERDICT, |verdict| {
                            verdict.u32be(NFTA_VERDICT_CODE, NF_DROP.cast_unsigned());
                        }),
                    });
                    element.u32be(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
                    // An owner's tag, as a comment of libnftnl.
                    element.bytes(NFTA_SET_ELEM_USERDATA, b"\x00\x0bfront c1 e\0");
                });
            }
        });
    });
    let rule = answer(&|out| {
        out.cstr(NFTA_RULE_TABLE, "pontoon");
        out.cstr(NFTA_RULE_CHAIN, "forward");
        out.nested(NFTA_RULE_EXPRESSIONS, |list| {
            for name in ["meta", "cmp", "immediate", "match", "target"] {
                list.nested(1, |expression| {
                    expression.cstr(1, name);
                    expression.nested(2, |data| {
                        data.cstr(1, "comment");
                        data.u32be(2, 1);
                        data.bytes(3, b"a comment\0");
                    });
                });
            }
        });
        out.bytes(NFTA_RULE_USERDATA, b"\x00\x02a\0");
    });
    let chain = answer(&|out| out.u32be(NFTA_CHAIN_USE, 7));
    vec![elements, rule, chain]
}

#[test]
fn answers_are_read_or_not() {
    let good = answers();
    let whole = Reply {
        kind: 0,
        payload: good[0].clone(),
    };
    assert_eq!(read(&whole).len(), 3, "the corpus is what the reader reads");
    fuzz("nf_tables answers", &good, |bytes, _| {
        let reply = Reply {
            kind: 0,
            payload: bytes.to_vec(),
        };
        let mut length = 0;
        for found in read(&reply) {
            length += found.key.len();
            if let element::Data::Value(value) = &found.data {
                length += value.len();
            }
            // A byte that is not UTF-8 becomes three.
            assert!(found.tag.len() <= 3 * bytes.len());
        }
        assert!(length <= bytes.len());
        let _ = summary(&reply);
        let _ = uses(&reply);
    });
}
