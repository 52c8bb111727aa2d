//! Others on the same host: the reference plugins, an administrator, and values made to break out.

use pontoon_netfilter::iptables::Error;
use pontoon_netfilter::reference::{ReferenceAttachment, ReferencePlugin};
use pontoon_netfilter::{Mark, Owner, Ruleset, Snat};

use crate::bed::{Host, VARIANTS, network, published, tcp};

/// What the reference's bridge and portmap leave behind for container `c1` of network `lan`;
/// hashes as it makes them.
const REFERENCE: &str = r#"*nat
:CNI-HOSTPORT-DNAT - [0:0]
:CNI-HOSTPORT-SETMARK - [0:0]
:CNI-HOSTPORT-MASQ - [0:0]
:DN - [0:0]
:MASQCHAIN - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ
-A POSTROUTING -s 10.88.0.2/32 -m comment --comment "name: \"lan\" id: \"c1\"" -j MASQCHAIN
-A MASQCHAIN -d 10.88.0.0/24 -m comment --comment "name: \"lan\" id: \"c1\"" -j ACCEPT
-A MASQCHAIN ! -d 224.0.0.0/4 -m comment --comment "name: \"lan\" id: \"c1\"" -j MASQUERADE
-A CNI-HOSTPORT-SETMARK -m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark 0x2000/0x2000
-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"lan\" id: \"c1\"" -m multiport --dports 8080 -j DN
-A DN -s 10.88.0.0/24 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
-A DN -s 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
-A DN -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.88.0.2:80
COMMIT
"#;

/// Rules that look like ours at a glance, in places where ours never stand.
const ADMINISTRATOR: &str = r#"*nat
:MINE - [0:0]
-A POSTROUTING -s 10.0.0.0/8 -m comment --comment "pontoon web (00000000)" -j MINE
-A MINE -m comment --comment "pontoon web" -j RETURN
-A PREROUTING -p tcp -m comment --comment "dnat name: \"lan\" id: \"c1\"" -j MINE
COMMIT
"#;

fn load_reference(host: &Host) {
    let digest = host.node.sh("printf lanc1 | sha512sum");
    let text = REFERENCE
        .replace("MASQCHAIN", &format!("CNI-{}", &digest[..24]))
        .replace(":DN ", &format!(":CNI-DN-{} ", &digest[..21]))
        .replace("-j DN\n", &format!("-j CNI-DN-{}\n", &digest[..21]))
        .replace("-A DN ", &format!("-A CNI-DN-{} ", &digest[..21]));
    host.restore(&text);
}

#[test]
fn takes_over_what_the_reference_made() {
    for variant in VARIANTS {
        let host = Host::new(variant);
        load_reference(&host);
        let theirs = published("lan", "c1", (88, 2), &[tcp(8080, 80)]);
        let ours = published("lan", "c2", (88, 3), &[tcp(8081, 80)]);
        host.apply(&ours);
        assert_eq!(
            host.iptables("-t nat -S").matches("-m addrtype").count(),
            2,
            "{variant:?}"
        );
        host.withdraw(&theirs);
        let mut backend = host.backend();
        host.node
            .run(move || {
                let reference_attachment = ReferenceAttachment {
                    owner: Owner {
                        network: "lan".into(),
                        container: "c1".into(),
                        interface: "eth0".into(),
                    },
                    addresses: Vec::new(),
                };
                backend.remove_reference_rules(ReferencePlugin::BridgeOrPtp, &reference_attachment)
            })
            .expect("forget");
        assert!(
            !host.rules().contains("\\\"c1\\\""),
            "{variant:?}: {}",
            host.rules()
        );
        assert_eq!(host.verify(&ours), Vec::<String>::new(), "{variant:?}");
        host.withdraw(&ours);
        host.remove_all();
        assert_eq!(host.rules(), "", "{variant:?}");
    }
}

#[test]
fn leaves_the_references_shared_chains_while_they_serve() {
    for variant in VARIANTS {
        let host = Host::new(variant);
        load_reference(&host);
        let before = host.iptables("-t nat -S");
        let ours = published("lan", "c2", (88, 3), &[tcp(8081, 80)]);
        host.apply(&ours);
        host.withdraw(&ours);
        host.remove_all();
        assert_eq!(host.iptables("-t nat -S"), before, "{variant:?}");
    }
}

#[test]
fn an_administrators_rules_survive_everything() {
    for variant in VARIANTS {
        let host = Host::new(variant);
        host.restore(ADMINISTRATOR);
        let before = host.rules();
        let mut all = published("lan", "c1", (88, 2), &[tcp(8080, 80)]);
        all.network = network("web", "br0", 88).network;
        host.apply(&all);
        host.withdraw(&all);
        host.withdraw(&all);
        host.remove_all();
        assert_eq!(host.rules(), before, "{variant:?}");
    }
}

/// Puts a value where it does not belong.
type Attack = fn(&mut Ruleset, &str);

/// Values that try to end their own word, line or rule. Each is refused before anything is run.
#[test]
fn hostile_values_change_nothing() {
    let attacks: [(&str, Attack); 8] = [
        ("web\" -j DROP\n-F\n", |set, v| {
            network_of(set).network = v.to_owned()
        }),
        ("web -j DROP", |set, v| {
            network_of(set).network = v.to_owned()
        }),
        ("br0\nCOMMIT", |set, v| {
            network_of(set).bridge = v.to_owned()
        }),
        ("br+", |set, v| network_of(set).bridge = v.to_owned()),
        ("c\\", |set, v| ports_of(set).owner.container = v.to_owned()),
        ("X\n-F", |set, v| {
            ports_of(set).mark = Mark::Chain(v.to_owned())
        }),
        ("a\"\n-F", |set, v| {
            ports_of(set).conditions_v4 = vec![v.to_owned()]
        }),
        ("! eth0", |set, v| {
            network_of(set).egress[0].snat = vec![Snat {
                source: [192, 0, 2, 1].into(),
                out: Some(v.to_owned()),
            }];
        }),
    ];
    for variant in VARIANTS {
        let host = Host::new(variant);
        for (value, attack) in &attacks {
            let mut all = published("lan", "c1", (88, 2), &[tcp(8080, 80)]);
            all.network = network("web", "br0", 88).network;
            attack(&mut all, value);
            let (mut backend, tried) = (host.backend(), all.clone());
            let error = host
                .node
                .run(move || backend.apply(&tried))
                .expect_err(value);
            assert!(
                matches!(error, Error::Text(_)),
                "{variant:?} {value:?}: {error}"
            );
            assert_eq!(host.rules(), "", "{variant:?} {value:?}");
        }
    }
}

/// Conditions are for matching: a word that would be a command, a table or a target is refused.
#[test]
fn conditions_cannot_be_commands() {
    let host = Host::new(VARIANTS[0]);
    for word in [
        "-F",
        "-X",
        "--flush",
        "--flu",
        "-j",
        "-jACCEPT",
        "--jump=ACCEPT",
        "-t",
        "--tab",
    ] {
        let mut all = published("lan", "c1", (88, 2), &[tcp(8080, 80)]);
        ports_of(&mut all).conditions_v4 = vec![word.to_owned()];
        let mut backend = host.backend();
        let error = host.node.run(move || backend.apply(&all)).expect_err(word);
        assert!(matches!(error, Error::Text(_)), "{word}: {error}");
    }
}

fn network_of(set: &mut Ruleset) -> &mut pontoon_netfilter::NetworkRules {
    set.network.as_mut().expect("a network")
}

fn ports_of(set: &mut Ruleset) -> &mut pontoon_netfilter::Published {
    set.published.as_mut().expect("ports")
}
