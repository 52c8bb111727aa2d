use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use pontoon_netlink::{Netns, NetnsError, NetnsMount, RouteSocket};

use crate::scene::Scene;

#[test]
fn only_network_namespaces_open() {
    let name = |error: NetnsError| format!("{error:?}").split(' ').next().map(str::to_owned);
    let check = |path: &str, expected: &str| {
        let error = Netns::open(Path::new(path)).map(drop).expect_err(path);
        assert!(error.to_string().contains(path), "{error}");
        assert_eq!(name(error).as_deref(), Some(expected), "{path}");
    };
    check("/run/netns/never-was", "NotFound");
    check("/proc/version/x", "NotFound");
    check("/proc/version", "NotNamespace");
    check("/proc/self/ns/uts", "NotNamespace");
    check("/dev/null", "NotNamespace");
    check("/", "NotNamespace");
    assert!(Netns::open(Path::new("/proc/thread-self/ns/net")).is_ok());
}

#[test]
fn namespaces_are_told_apart() {
    let scene = Scene::new();
    let here = Netns::current().expect("the current namespace");
    assert!(!scene.host.same_as(&scene.container) && !scene.host.same_as(&here));
    let inside = scene
        .host
        .run(|| Netns::current().map(|netns| netns.id()))
        .expect("the namespace");
    assert_eq!(inside.expect("the current namespace"), scene.host.id());
    assert!(
        Netns::current()
            .expect("the current namespace")
            .same_as(&here),
        "the thread stayed"
    );
    assert_eq!(scene.host.id().to_string().parse(), Ok(scene.host.id()));
    assert!("12".parse::<pontoon_netlink::NetnsId>().is_err());

    let cookie = |netns: &Netns| {
        netns
            .run(Netns::cookie)
            .expect("the namespace")
            .expect("a cookie")
    };
    assert_ne!(cookie(&scene.host), cookie(&scene.container));
    assert_eq!(cookie(&scene.host), cookie(&scene.host));
}

#[test]
fn a_socket_stays_where_it_was_opened() {
    let mut scene = Scene::new();
    scene.bridge("br0");
    let mut again = RouteSocket::open_in(&scene.host).expect("a socket");
    assert!(again.link_by_name("br0").expect("an answer").is_some());
    let mut here = RouteSocket::open().expect("a socket");
    assert!(here.link_by_name("br0").expect("an answer").is_none());
}

/// Runs in a mount namespace of its own, so that nothing shows outside.
fn named(work: impl FnOnce(PathBuf) + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace (these tests need root)");
            let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("private mounts");
            mount(
                Some("none"),
                "/mnt",
                Some("tmpfs"),
                MsFlags::empty(),
                None::<&str>,
            )
            .expect("a tmpfs");
            work(PathBuf::from("/mnt/netns"));
        });
        thread.join().expect("the test's thread");
    });
}

#[test]
fn a_namespace_gets_and_loses_a_name() {
    named(|directory| {
        let path = directory.join("one");
        let made = Netns::create_at(&path).expect("a named namespace");
        let found = Netns::open(&path).expect("the named namespace");
        assert!(
            found.same_as(&made) && !found.same_as(&Netns::current().expect("the current one"))
        );
        let error = Netns::create_at(&path).expect_err("there already");
        assert!(matches!(error, NetnsError::Exists { .. }), "{error:?}");
        assert!(
            Netns::open(&path).is_ok_and(|netns| netns.same_as(&made)),
            "the first one is untouched"
        );

        Netns::create_at(&directory.join("two")).expect("a second one in the same directory");
        Netns::remove_at(&path).expect("removed");
        assert!(!path.exists());
        Netns::remove_at(&path).expect("gone already");
        assert!(matches!(
            Netns::open(&path),
            Err(NetnsError::NotFound { .. })
        ));

        std::fs::write(&path, "").expect("a leftover file");
        assert!(matches!(
            Netns::open(&path),
            Err(NetnsError::NotNamespace { .. })
        ));
        Netns::remove_at(&path).expect("a leftover file");
        assert!(!path.exists());
    });
}

#[test]
fn a_path_leads_elsewhere_for_a_while() {
    named(|directory| {
        let path = directory.join("one");
        let own = Netns::create_at(&path).expect("a named namespace");
        let other = Netns::create_unnamed().expect("another");
        let mount = || NetnsMount::at(&path).expect("a look at the mounts");
        let before = mount().expect("mounted");
        assert_eq!((before.ino, before.covers), (own.id().ino, None));

        other.mount_over(&path).expect("mounted over");
        let over = mount().expect("mounted");
        assert_eq!(
            (over.ino, over.covers),
            (other.id().ino, Some(own.id().ino))
        );
        assert_eq!(over.point, path);
        assert!(Netns::open(&path).is_ok_and(|seen| seen.same_as(&other)));
        // Private mounts: no other process sees it.
        assert_eq!(over.is_seen_by_init(), Some(false));

        over.detach().expect("detached");
        assert_eq!(mount(), Some(before));
        assert!(Netns::open(&path).is_ok_and(|seen| seen.same_as(&own)));
        Netns::remove_at(&path).expect("removed");

        let at = |path: &str| NetnsMount::at(Path::new(path)).expect("a look at the mounts");
        assert_eq!(at("/proc/self/ns/net"), None, "mounted nowhere");
        assert_eq!(at("/proc/version"), None);
        assert_eq!(at("/never/was"), None);
    });
}
