//! TLS with a certificate a host, and roles by which a host writes only what is its own.

use pontoon_lab::{Failure, Outcome};
use serde_json::json;

use super::scene::{NETWORK, SUBNET, Scene, same};
use super::tasks::{Task, addresses};

#[test]
fn a_host_cannot_write_what_is_another_s() -> Outcome {
    let scene = Scene::new(true)?;
    scene.create(NETWORK, &["--subnet", SUBNET])?;
    for number in 1..=3 {
        scene.configure(number, NETWORK)?;
        scene.start(number)?;
    }
    for number in 1..=3 {
        scene.block_of(number)?;
        scene.wait_for_peers(number, 2)?;
    }
    let block = scene.block_of(2)?.replace('/', "-");
    let etcd = scene.etcd.borrow();
    let as_host = |arguments: &[&str]| etcd.control_as(&scene.cluster, "h1", arguments);
    for key in [
        "/pontoon/v1/host/h2/info".to_owned(),
        "/pontoon/v1/host/h2/alive".to_owned(),
        format!("/pontoon/v1/host/h2/block/lan/{block}"),
        "/pontoon/v1/net/lan".to_owned(),
        "/pontoon/v1/vni/9".to_owned(),
        "/pontoon/v1/drain/h2".to_owned(),
        "/other".to_owned(),
    ] {
        for arguments in [&["put", &key, "{}"][..], &["del", &key]] {
            match as_host(arguments) {
                Err(error) if error.to_string().contains("permission denied") => {}
                other => return Err(Failure::new(format!("h1: {arguments:?}: {other:?}"))),
            }
        }
    }
    // A claim it can write over; the block stays the other's, who writes its claim again.
    let claim = format!("/pontoon/v1/block/lan/{block}");
    as_host(&["put", &claim, r#"{"host":"h1"}"#])?;
    as_host(&[
        "put",
        &format!("/pontoon/v1/host/h1/block/lan/{block}"),
        "{}",
    ])?;
    scene.wait_for_status(2, "its claim is mended", |_| {
        let text = etcd.control(&scene.cluster, &format!("get {claim}"));
        text.is_ok_and(|text| text.contains("h2"))
    })?;
    same(
        "blocks of h2",
        scene.blocks(2, NETWORK)?,
        vec![block.replace('-', "/")],
    )?;
    same("blocks of h1", scene.blocks(1, NETWORK)?.len(), 1)?;
    scene.wait_for_peers(3, 2).map(drop)
}

#[test]
fn a_host_whose_role_is_older_than_services_tells_it_and_goes_on() -> Outcome {
    let scene = Scene::new(true)?;
    scene.create(NETWORK, &["--subnet", SUBNET])?;
    let role = "--prefix=true h1";
    let services = "/pontoon/v1/service/";
    scene.etcdctl(&format!("role revoke-permission {role} {services}"))?;
    scene.configure(1, NETWORK)?;
    scene.start(1)?;
    scene.block_of(1)?;
    let _task = Task::add(&scene, 1, "web", json!("web"))?;
    scene.wait_for_status(1, "the role is told", |status| {
        let warning = status["warnings"]["addresses of services"].as_str();
        warning.is_some_and(|text| text.contains(services))
    })?;
    same(
        "connected",
        scene.status(1)?["etcd"]["connected"].as_bool(),
        Some(true),
    )?;
    let ended = scene.status(1)?["counts"]["etcd_sessions_ended"].as_u64();
    same("conversations that ended", ended, Some(0))?;
    scene.etcdctl(&format!(
        "role grant-permission {role} readwrite {services}"
    ))?;
    addresses(&scene, 1, "web", 1)?;
    scene
        .wait_for_status(1, "all is well", |status| status["warnings"] == json!({}))
        .map(drop)
}

#[test]
fn without_the_right_certificate_nothing_is_told() -> Outcome {
    let scene = Scene::new(true)?;
    scene.create(NETWORK, &["--subnet", SUBNET])?;
    // A certificate that no user of etcd has.
    let etcd = scene.etcd.borrow();
    let authority = etcd.authority().ok_or_else(|| Failure::new("no TLS"))?;
    authority.give("stranger", &[])?;
    let settings = scene.settings(1, "stranger")?.display().to_string();
    let output = scene.admin(1, &["nodes", "--config", &settings])?;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() || !words.contains("permission denied") && !words.contains("user") {
        return Err(Failure::new(format!("{}: {words}", output.status)));
    }
    Ok(())
}
