//! `pontoon doctor` about etcd's data and about certificates.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use pontoon_lab::{Cluster, Failure, Outcome};

use super::doctor::{examine, found, silent};
use super::scene::{PATIENCE, Scene, wait_for};

/// How many clients write at the same time.
const WRITERS: usize = 24;

/// Writes values of so many bytes below `/lab/`, by the JSON of the first host's member; how many were taken.
fn write(scene: &Scene, count: usize, bytes: usize) -> Outcome<usize> {
    let target = SocketAddr::new(Cluster::address(1), 2379);
    let writer = |number: usize| -> std::io::Result<usize> {
        let mut taken = 0;
        for _ in (number..count).step_by(WRITERS) {
            // `/lab/N`, and as many zeros, in base64.
            let key = ["L2xhYi8w", "L2xhYi8x", "L2xhYi8y"][number % 3];
            let body = format!(
                "{{\"key\":\"{key}\",\"value\":\"{}\"}}",
                "A".repeat(bytes / 3 * 4)
            );
            let mut stream = TcpStream::connect(target)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            write!(
                stream,
                "POST /v3/kv/put HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            taken += usize::from(answer.starts_with(b"HTTP/1.1 200"));
        }
        Ok(taken)
    };
    let host = &scene.cluster.hosts[0];
    let act = "write to etcd";
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| scope.spawn(move || host.run(|| writer(number))))
            .collect();
        let mut taken = 0;
        for one in writers {
            let one = one.join().map_err(|_| Failure::new("a writer panicked"))?;
            taken += one?.map_err(Failure::act(act))?;
        }
        Ok(taken)
    })
}

/// Throws away what is old, on every member.
fn compact(scene: &Scene) -> Outcome {
    let text = scene.etcdctl("endpoint status -w json")?;
    let status: serde_json::Value =
        serde_json::from_str(&text).map_err(Failure::act("read a status"))?;
    let revision = &status[0]["Status"]["header"]["revision"];
    scene.etcdctl(&format!("compact {revision}")).map(drop)
}

#[test]
fn etcd_has_compacted_nothing() -> Outcome {
    let scene = Scene::new(false)?;
    scene.join(&["--mode", "vxlan"])?;
    silent(&scene, 1)?;
    let taken = write(&scene, 10_000, 3)?;
    if taken != 10_000 {
        return Err(Failure::new(format!("etcd took {taken} writes")));
    }
    let report = found(&scene, 1, &["etcd-not-compacted"])?;
    report.has(
        "etcd-not-compacted",
        "etcd",
        "still answers for the first one",
    )?;
    compact(&scene)?;
    silent(&scene, 1)
}

#[test]
fn etcd_is_nearly_full_and_full() -> Outcome {
    const QUOTA: &str = "16000000";
    let scene = Scene::with_members(false, &["--quota-backend-bytes", QUOTA])?;
    scene.set_more_of_etcd(&format!("quota = {QUOTA}"));
    scene.join(&["--mode", "vxlan"])?;
    silent(&scene, 1)?;
    // The file of a member grows by steps.
    wait_for("the quota is nearly full", PATIENCE, || {
        write(&scene, 3, 300_000)?;
        let report = examine(&scene, 1)?;
        // The members' files do not grow at the same time.
        let told = report.has("etcd-nearly-full", "198.18.60.1", " of 16 MB");
        Ok(told.ok())
    })?;
    wait_for("the quota is full", PATIENCE, || {
        let taken = write(&scene, WRITERS, 300_000)?;
        Ok((taken < WRITERS).then_some(()))
    })?;
    let (report, _) = wait_for("the finding", PATIENCE, || {
        let report = examine(&scene, 1)?;
        Ok(report
            .findings
            .iter()
            .any(|one| one["id"] == "etcd-full")
            .then_some(report))
    })?;
    report.has("etcd-full", "198.18.60.1", "")?;
    // As the advice says.
    compact(&scene)?;
    for number in 1..=3 {
        scene.etcdctl(&format!(
            "defrag --endpoints http://{}:2379",
            Cluster::address(number)
        ))?;
    }
    scene.etcdctl("alarm disarm")?;
    silent(&scene, 1)
}

#[test]
fn a_certificate_that_ends_soon_and_one_that_cannot_be_read() -> Outcome {
    let scene = Scene::new(true)?;
    scene.join(&["--mode", "vxlan"])?;
    silent(&scene, 1)?;
    let etcd = scene.etcd.borrow();
    let authority = etcd.authority().ok_or_else(|| Failure::new("no TLS"))?;
    authority.give_for("h1", &[], 20)?;
    found(&scene, 1, &["certificate-ends"])?.has("certificate-ends", "h1.pem", "it ends in ")?;
    let file = authority.file("h1.pem");
    std::fs::write(&file, "").map_err(Failure::act("empty a certificate"))?;
    // Members are asked with it, too.
    let report = examine(&scene, 1)?;
    report.has("certificate-unreadable", "h1.pem", "no certificate")?;
    authority.give("h1", &[])?;
    silent(&scene, 1)
}
