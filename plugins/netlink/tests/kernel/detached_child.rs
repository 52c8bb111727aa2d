use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pontoon_netlink::{DetachedChild, Error, VethSpec};

use crate::scene::Scene;

const SOON: Duration = Duration::from_secs(5);
/// Set for the run of this test within itself.
const INNER: &str = "PONTOON_TEST_LINGER";

#[test]
fn links_go_without_the_wait() {
    let mut scene = Scene::new();
    let mut made = Vec::new();
    for number in 0..4 {
        let (name, peer) = (format!("v{number}"), format!("e{number}"));
        let spec = VethSpec::new(&name, &peer, &scene.container);
        made.push(scene.outer.create_veth(&spec).expect("a veth pair").index);
    }
    let [one, others @ ..] = &made[..] else {
        panic!("no links")
    };
    let spawn = |links: &[u32]| {
        scene
            .host
            .run(|| DetachedChild::spawn(Vec::new(), links, Duration::ZERO))
    };
    let first = spawn(&[*one]).expect("the namespace").expect("a child");
    scene.outer.wait_gone(*one, SOON).expect("the link is gone");
    assert_eq!(scene.outer.links().expect("links").len(), 1 + others.len());
    let second = spawn(others).expect("the namespace").expect("a child");
    for index in others {
        scene
            .outer
            .wait_gone(*index, SOON)
            .expect("the link is gone");
    }
    assert_eq!(scene.outer.links().expect("links").len(), 1, "loopback");
    first.wait().expect("the first child");
    second.wait().expect("the second child");
}

#[test]
fn a_link_that_stays_is_told() {
    let mut scene = Scene::new();
    let error = scene
        .outer
        .wait_gone(1, Duration::from_millis(1))
        .expect_err("loopback stays");
    assert!(
        matches!(error, Error::StillThere { index: 1, .. }),
        "{error:?}"
    );
}

#[test]
fn the_child_keeps_what_it_is_given_and_nothing_else() {
    let pipe = || {
        let (read, write) = nix::unistd::pipe().expect("a pipe");
        (std::fs::File::from(read), write)
    };
    let ((mut given, gift), (mut other, rest)) = (pipe(), pipe());
    let child = DetachedChild::spawn(vec![gift], &[], Duration::from_millis(300)).expect("a child");
    drop(rest);
    let start = Instant::now();
    // End of file comes when the last holder of the other end is gone.
    assert_eq!(other.read(&mut [0]).expect("end of file"), 0);
    assert_eq!(given.read(&mut [0]).expect("end of file"), 0);
    assert!(
        start.elapsed() >= Duration::from_millis(150),
        "the socket was held: {:?}",
        start.elapsed()
    );
    child.wait().expect("the child");
}

#[test]
fn a_reader_of_our_output_sees_its_end() {
    let hold = Duration::from_secs(8);
    if std::env::var_os(INNER).is_some() {
        // SAFETY: a fresh duplicate without another owner.
        let spare = unsafe { OwnedFd::from_raw_fd(libc::dup(0)) };
        DetachedChild::spawn(vec![spare], &[], hold).expect("a child");
        return;
    }
    let program = std::env::current_exe().expect("this program");
    let start = Instant::now();
    let output = Command::new(program)
        .args([
            "--exact",
            "detached_child::a_reader_of_our_output_sees_its_end",
        ])
        .env(INNER, "1")
        .stdin(Stdio::null())
        .output()
        .expect("a run of this program");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert!(
        start.elapsed() < hold / 2,
        "the child held the pipe for {:?}",
        start.elapsed()
    );
}
