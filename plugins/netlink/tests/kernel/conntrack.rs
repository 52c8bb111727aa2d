use std::time::Duration;

use pontoon_netlink::{Conntrack, DetachedChild, Error, Filter, NetfilterSocket};

use crate::netfilter::track;
use crate::scene::{Scene, ip, talk};

const UDP: u8 = 17;

/// A host that tracks, with flows from itself to two ports of its own and to the same ports of the container.
fn flowing() -> (Scene, Conntrack) {
    let (scene, ..) = Scene::connected();
    track(&mut NetfilterSocket::open_in(&scene.host).expect("a socket"));
    let conntrack = Conntrack::open_in(&scene.host).expect("a socket");
    for (host, container) in [("10.9.0.1", "10.9.0.2"), ("fd09::1", "fd09::2")] {
        for port in [5300, 5301] {
            assert!(talk(&scene.host, &scene.host, host, port), "{host}:{port}");
            assert!(
                talk(&scene.host, &scene.container, container, port),
                "{container}:{port}"
            );
        }
    }
    (scene, conntrack)
}

/// The flows to an address, whatever the port.
#[track_caller]
fn to(scene: &Scene, address: &str) -> usize {
    let wanted = ip(address);
    listed(scene, "dst=")
        .iter()
        .filter(|dst| dst.parse() == Ok(wanted))
        .count()
}

/// The flows to a port, whatever the address.
#[track_caller]
fn left(scene: &Scene, port: u16) -> usize {
    let wanted = port.to_string();
    listed(scene, "dport=")
        .iter()
        .filter(|dport| **dport == wanted)
        .count()
}

/// A field of all UDP flows, from the kernel's own list; the first of a line is that of the original direction.
#[track_caller]
fn listed(scene: &Scene, key: &str) -> Vec<String> {
    let read = || std::fs::read_to_string("/proc/thread-self/net/nf_conntrack");
    let text = scene
        .host
        .run(read)
        .expect("the namespace")
        .expect("/proc/net/nf_conntrack");
    let udp = text.lines().filter(|line| line.contains(" udp "));
    udp.filter_map(|line| {
        line.split(' ')
            .find_map(|word| word.strip_prefix(key))
            .map(str::to_owned)
    })
    .collect()
}

#[test]
fn only_matching_flows_are_cut() {
    let (scene, mut conntrack) = flowing();
    assert_eq!((left(&scene, 5300), left(&scene, 5301)), (4, 4));

    let by_port = Filter {
        v4: true,
        protocol: Some(UDP),
        original_port: Some(5300),
        ..Filter::default()
    };
    let to_host = Filter {
        original_destination: Some(ip("10.9.0.1")),
        ..by_port
    };
    conntrack
        .cut(&Filter {
            protocol: Some(6),
            ..to_host
        })
        .expect("no such flow");
    conntrack
        .cut(&Filter {
            original_port: Some(5302),
            ..to_host
        })
        .expect("no such flow");
    conntrack
        .cut(&Filter {
            reply_source: Some(ip("10.9.0.2")),
            ..to_host
        })
        .expect("no such flow");
    assert_eq!(
        (left(&scene, 5300), left(&scene, 5301)),
        (4, 4),
        "other flows are left alone"
    );

    conntrack.cut(&to_host).expect("cut");
    assert_eq!((left(&scene, 5300), left(&scene, 5301)), (3, 4));
    conntrack
        .cut(&Filter {
            protocol: None,
            ..by_port
        })
        .expect("cut");
    assert_eq!(
        (left(&scene, 5300), left(&scene, 5301)),
        (2, 4),
        "the IPv6 ones are left"
    );
    let by_container = Filter {
        reply_source: Some(ip("fd09::2")),
        ..Filter::default()
    };
    conntrack.cut(&by_container).expect("cut");
    assert_eq!((left(&scene, 5300), left(&scene, 5301)), (1, 3));
    // By address: those to the container alone are gone.
    assert_eq!((to(&scene, "fd09::1"), to(&scene, "fd09::2")), (2, 0));
    assert_eq!((to(&scene, "10.9.0.1"), to(&scene, "10.9.0.2")), (1, 1));
    let to_host = Filter {
        original_destination: Some(ip("fd09::1")),
        ..Filter::default()
    };
    conntrack.cut(&to_host).expect("cut");
    assert_eq!(
        (
            to(&scene, "fd09::1"),
            to(&scene, "10.9.0.1"),
            to(&scene, "10.9.0.2")
        ),
        (0, 1, 1)
    );
}

#[test]
fn stale_flows_are_those_to_the_machine_itself_and_to_others() {
    let (scene, mut conntrack) = flowing();
    conntrack.cut_stale(&[], true, None).expect("nothing asked");
    assert_eq!(left(&scene, 5300), 4);
    // Too many ports to leave to the kernel, so that who answers can be told apart. The host
    // answers itself: not stale when it is who shall answer.
    let many: Vec<_> = (5269..=5300)
        .map(|port| (UDP, port, None))
        .chain([(6, 5300, None)])
        .collect();
    conntrack
        .cut_stale(&many, true, Some(ip("10.9.0.1")))
        .expect("kept");
    assert_eq!(left(&scene, 5300), 4);
    // The flow through the machine to the container's same port is not meant.
    conntrack
        .cut_stale(&many, true, Some(ip("10.9.0.9")))
        .expect("cut");
    assert_eq!((left(&scene, 5300), left(&scene, 5301)), (3, 4));
    // Several ports, by address.
    let ports = [
        (UDP, 5300, Some(ip("fd09::1"))),
        (UDP, 5301, Some(ip("fd09::1"))),
        (6, 5301, None),
    ];
    conntrack
        .cut_stale(&ports, false, Some(ip("fd09::9")))
        .expect("cut");
    assert_eq!((left(&scene, 5300), left(&scene, 5301)), (2, 3));
}

#[test]
fn few_stale_flows_are_left_to_the_kernel() {
    let (scene, mut conntrack) = flowing();
    // One port, at every address of the machine: not the flow through it to the container.
    conntrack
        .cut_stale(&[(UDP, 5300, None)], true, Some(ip("10.9.0.9")))
        .expect("cut");
    assert_eq!((left(&scene, 5300), left(&scene, 5301)), (3, 4));
    assert_eq!((to(&scene, "10.9.0.1"), to(&scene, "10.9.0.2")), (1, 2));
    // At another address: nothing is meant.
    conntrack
        .cut_stale(&[(UDP, 5301, Some(ip("10.9.0.7")))], true, None)
        .expect("cut");
    assert_eq!(left(&scene, 5301), 4);
    conntrack
        .cut_stale(&[(UDP, 5301, Some(ip("10.9.0.1")))], true, None)
        .expect("cut");
    assert_eq!((left(&scene, 5301), to(&scene, "10.9.0.1")), (3, 0));
    let listed = conntrack.stale_deletions(&[(UDP, 5300, None)], false);
    assert!(
        listed.expect("no refusal").is_none(),
        "IPv6 has to be listed"
    );
    // Another process sends the messages. A kernel that might refuse gets the first at once.
    let orders = conntrack
        .stale_deletions(&[(UDP, 5300, Some(ip("10.9.0.2")))], true)
        .expect("orders")
        .expect("few enough");
    assert_eq!(to(&scene, "10.9.0.2"), 1 + orders.len());
    let child = DetachedChild::send(Vec::new(), conntrack.into_fd(), orders, Duration::ZERO);
    child.expect("a child").wait().expect("its end");
    assert_eq!(to(&scene, "10.9.0.2"), 1);
}

#[test]
fn a_filter_must_filter() {
    let (scene, mut conntrack) = flowing();
    let error = conntrack.cut(&Filter {
        v4: true,
        protocol: Some(UDP),
        ..Filter::default()
    });
    assert!(matches!(error, Err(Error::EmptyFilter)), "{error:?}");
    assert_eq!((left(&scene, 5300), left(&scene, 5301)), (4, 4));
}
