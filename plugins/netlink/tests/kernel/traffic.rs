//! Traffic control: what is made is there, read back, and gone again.

use pontoon_netlink::{Errno, TokenBucket};

use crate::scene::Scene;

const BUCKET: TokenBucket = TokenBucket {
    rate: 125_000,
    burst: 32_000,
    limit: 35_125,
};

#[test]
fn a_bucket_is_made_read_and_removed() {
    let mut scene = Scene::new();
    let veth = scene.plug(None);
    let before = scene
        .outer
        .root_qdisc(veth.index)
        .expect("an answer")
        .expect("a qdisc");
    assert_eq!(before.kind, "noqueue");
    scene
        .outer
        .add_token_bucket(veth.index, &BUCKET)
        .expect("a bucket");
    let made = scene
        .outer
        .root_qdisc(veth.index)
        .expect("an answer")
        .expect("a qdisc");
    assert_eq!(
        (made.kind.as_str(), made.rate, made.limit),
        ("tbf", Some(125_000), Some(35_125))
    );
    // 32,000 bytes at 125,000 bytes a second are 256 ms.
    assert_eq!(
        made.buffer.expect("a buffer") / 1000,
        256_000_000 / 64 / 1000
    );
    let twice = scene
        .outer
        .add_token_bucket(veth.index, &BUCKET)
        .expect_err("a second one");
    assert_eq!(twice.errno(), Some(Errno::EEXIST));
    assert!(
        scene
            .outer
            .remove_token_bucket(veth.index)
            .expect("removed")
    );
    assert!(
        !scene
            .outer
            .remove_token_bucket(veth.index)
            .expect("gone already")
    );
    assert_eq!(
        scene.outer.root_qdisc(veth.index).expect("an answer"),
        Some(before)
    );
    assert!(!scene.outer.remove_token_bucket(4_000_000).expect("no link"));
}

#[test]
fn large_rates_and_buckets() {
    let mut scene = Scene::new();
    let veth = scene.plug(None);
    let large = TokenBucket {
        rate: 5_000_000_000,
        burst: u32::MAX - 1,
        limit: u32::MAX,
    };
    scene
        .outer
        .add_token_bucket(veth.index, &large)
        .expect("a bucket");
    let made = scene
        .outer
        .root_qdisc(veth.index)
        .expect("an answer")
        .expect("a qdisc");
    assert_eq!(
        (made.rate, made.limit),
        (Some(5_000_000_000), Some(u32::MAX))
    );
}

#[test]
fn a_redirection_is_made_read_and_removed() {
    let mut scene = Scene::new();
    let veth = scene.plug(None);
    let ifb = scene
        .outer
        .create_ifb("ifb9", 1400, 77, "note")
        .expect("an ifb");
    assert_eq!(
        (ifb.kind.as_deref(), ifb.mtu, ifb.up),
        (Some("ifb"), 1400, true)
    );
    let seen = scene
        .outer
        .link_by_name("ifb9")
        .expect("an answer")
        .expect("the ifb");
    assert_eq!(
        (seen.tx_queue_length, seen.alias.as_deref()),
        (77, Some("note"))
    );
    let taken = scene
        .outer
        .create_ifb("ifb9", 1400, 77, "note")
        .expect_err("a second one");
    assert!(taken.is_exists());
    assert_eq!(
        scene
            .outer
            .ingress_redirection(veth.index)
            .expect("an answer"),
        None
    );
    scene
        .outer
        .redirect_ingress(veth.index, ifb.index)
        .expect("a redirection");
    assert_eq!(
        scene
            .outer
            .ingress_redirection(veth.index)
            .expect("an answer"),
        Some(ifb.index)
    );
    assert!(scene.outer.remove_ingress(veth.index).expect("removed"));
    assert!(
        !scene
            .outer
            .remove_ingress(veth.index)
            .expect("gone already")
    );
    assert_eq!(
        scene
            .outer
            .ingress_redirection(veth.index)
            .expect("an answer"),
        None
    );
}
