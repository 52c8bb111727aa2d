//! Finding the programs, and telling what is wrong with them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use pontoon_netfilter::iptables::{Error, Iptables, Variant};
use tempfile::TempDir;

use crate::bed::{Host, network, published, tcp};

/// A directory of programs: name and what it is, a link's target or a script.
fn directory(programs: &[(&str, &str)]) -> TempDir {
    let directory = TempDir::new().expect("a directory");
    for (name, content) in programs {
        let path = directory.path().join(name);
        if content.starts_with("#!") {
            fs::write(&path, content).expect("a script");
            fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("executable");
        } else {
            symlink(Path::new("/usr/sbin").join(content), &path).expect("a link");
        }
    }
    directory
}

#[track_caller]
fn check(programs: &[(&str, &str)], wanted: Option<Variant>, expected: Option<(Variant, bool)>) {
    let directory = directory(programs);
    let path = [PathBuf::from("/nonexistent"), directory.path().to_owned()];
    let found = Iptables::detect(&path, wanted).expect("no program had to be asked");
    assert_eq!(
        found.map(|found| (found.variant, found.v6.is_some())),
        expected
    );
}

#[test]
fn the_links_target_tells_the_variant() {
    let nft = [
        ("iptables", "xtables-nft-multi"),
        ("iptables-restore", "xtables-nft-multi"),
    ];
    let legacy = [
        ("iptables", "xtables-legacy-multi"),
        ("iptables-restore", "xtables-legacy-multi"),
    ];
    check(&nft, None, Some((Variant::Nft, false)));
    check(&legacy, None, Some((Variant::Legacy, false)));
    check(
        &legacy,
        Some(Variant::Legacy),
        Some((Variant::Legacy, false)),
    );
    check(&legacy, Some(Variant::Nft), None);
    check(&[], None, None);
    check(&[("iptables", "xtables-nft-multi")], None, None);
}

#[test]
fn the_wanted_variant_is_found_beside_another_default() {
    let both = [
        ("iptables", "xtables-nft-multi"),
        ("iptables-restore", "xtables-nft-multi"),
        ("iptables-legacy", "xtables-legacy-multi"),
        ("iptables-legacy-restore", "xtables-legacy-multi"),
        ("ip6tables-legacy", "xtables-legacy-multi"),
        ("ip6tables-legacy-restore", "xtables-legacy-multi"),
    ];
    check(&both, None, Some((Variant::Nft, false)));
    check(&both, Some(Variant::Legacy), Some((Variant::Legacy, true)));
}

/// The two families' defaults are alternatives of their own; one network stays in one variant.
#[test]
fn families_do_not_mix_variants() {
    check(
        &[
            ("iptables", "xtables-nft-multi"),
            ("iptables-restore", "xtables-nft-multi"),
            ("ip6tables", "xtables-legacy-multi"),
            ("ip6tables-restore", "xtables-legacy-multi"),
        ],
        None,
        Some((Variant::Nft, false)),
    );
}

#[test]
fn other_names_are_asked() {
    let asked = |words: &str, expected| {
        let script = format!("#!/bin/sh\necho '{words}'\n");
        check(
            &[("iptables", &script), ("iptables-restore", &script)],
            None,
            Some((expected, false)),
        );
    };
    asked("iptables-restore v1.8.9 (nf_tables)", Variant::Nft);
    asked("iptables-restore v1.8.9 (legacy)", Variant::Legacy);
    asked("iptables-restore v1.6.1", Variant::Legacy);
}

#[test]
fn a_broken_program_is_quoted() {
    let broken = "#!/bin/sh\necho 'libxtables.so.12: cannot open' >&2\nexit 127\n";
    let directory = directory(&[("iptables", broken), ("iptables-restore", broken)]);
    let error = Iptables::detect(&[directory.path().to_owned()], None).expect_err("broken");
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
    assert!(
        error.to_string().contains("libxtables.so.12: cannot open"),
        "{error}"
    );
}

#[test]
fn a_missing_family_is_named() {
    let v4_only = directory(&[
        ("iptables", "xtables-nft-multi"),
        ("iptables-restore", "xtables-nft-multi"),
    ]);
    let detected = Iptables::detect(&[v4_only.path().to_owned()], None).expect("found");
    let lock = v4_only.path().join("lock");
    let mut backend = Iptables::new(detected.expect("found"), lock);
    let host = Host::new(Variant::Nft);
    let error = host
        .node
        .run(move || backend.apply(&network("web", "br0", 88)));
    let error = error.expect_err("no ip6tables");
    assert!(
        matches!(error, Error::Missing { family: "IPv6" }),
        "{error:?}"
    );
}

/// A busy xtables lock is waited for, not for ever, and is told apart from a refusal.
#[test]
fn a_busy_lock_means_try_again() {
    let host = Host::new(Variant::Legacy);
    let waiting = "#!/bin/sh\ncat >/dev/null\ncase \"$*\" in *--wait=5*) \
                   echo 'Another app is currently holding the xtables lock' >&2; exit 4;; esac\n";
    let programs = directory(&[
        ("iptables-legacy", waiting),
        ("iptables-legacy-restore", waiting),
    ]);
    let found = Iptables::detect(&[programs.path().to_owned()], Some(Variant::Legacy));
    let lock = programs.path().join("lock");
    let mut backend = Iptables::new(found.expect("found").expect("found"), lock);
    let mut web = published("lan", "c1", (88, 2), &[tcp(8080, 80)]);
    web.published.as_mut().expect("ports").v6 = None;
    let error = host
        .node
        .run(move || backend.apply(&web))
        .expect_err("busy");
    assert!(matches!(error, Error::Busy { seconds: 5, .. }), "{error:?}");
    assert!(error.try_again());
}

/// The `iptables` crate, another reader, finds what the backend has written.
#[test]
fn another_reader_finds_the_rules() {
    let default = Iptables::detect(&[PathBuf::from("/usr/sbin")], None).expect("detection");
    let host = Host::new(default.expect("iptables is installed").variant);
    let mut backend = host.backend();
    let rules = host.node.run(move || {
        backend.apply(&network("web", "br0", 88)).expect("applied");
        let reader = iptables::new(false).expect("a reader");
        reader.list_table("nat").expect("the table nat")
    });
    let rules = rules.join("\n");
    assert!(rules.contains("--comment \"pontoon web"), "{rules}");
    assert!(rules.contains("-s 10.88.0.0/24"), "{rules}");
}
