//! What ADD needs of the agent's files, and what it says without them.

use std::fs;

use pontoon_lab::{Attachment, Backend, Container, Failure, Outcome};
use serde_json::{Value, json};

use super::scene::{DIRECT, Scene, VXLAN};

#[track_caller]
fn refused(scene: &Scene, keys: Value, code: u64, part: &str) -> Outcome {
    let network = scene.network(0, "lan", keys, Value::Null);
    let container = Container::new("box")?;
    let mut attachment = Attachment::new(&container);
    let error = scene.sites[0].try_add(&network, &mut attachment)?;
    let Some(error) = error else {
        return Err(Failure::new(format!("no error {code}: {part}")));
    };
    let told = error.to_string();
    assert!(
        error.code == code && told.contains(part),
        "code {code} and {part:?} in {told}"
    );
    Ok(())
}

#[test]
fn without_a_file_or_a_block_add_says_try_again_and_why() -> Outcome {
    let scene = Scene::new(Backend::Nftables, VXLAN, 1)?;
    let before = scene.sites[0].snapshot()?;
    refused(
        &scene,
        Value::Null,
        11,
        "this host knows no overlay network \"lan\"",
    )?;
    let mut files = scene.files("lan", 5, 1);
    files.own.blocks.clear();
    files.write(&scene.sites[0].host)?;
    refused(
        &scene,
        Value::Null,
        11,
        "has no block of overlay network \"lan\" yet",
    )?;
    let status = scene.sites[0]
        .runtime()
        .status(&scene.plain(0))
        .unwrap_err();
    assert_eq!(status.code, 50, "{status}");
    scene.write()?;
    refused(&scene, json!({ "vni": 6 }), 7, "has the VNI 5")?;
    refused(
        &scene,
        json!({ "mode": "direct" }),
        7,
        "is of mode \"vxlan\"",
    )?;
    refused(
        &scene,
        json!({ "ipam": { "subnet": "10.5.0.0/16" } }),
        7,
        "ipam.subnet",
    )?;
    let path = scene.sites[0].host.overlay_dir().join("lan.json");
    fs::write(&path, "{").map_err(Failure::act("write"))?;
    refused(
        &scene,
        Value::Null,
        6,
        "lan.json is no record of an overlay network",
    )?;
    scene.sites[0].nothing_left(&before, &[], "refused ADDs")
}

#[test]
fn without_an_agent_the_first_add_after_a_boot_makes_the_tunnel() -> Outcome {
    for below in [VXLAN, DIRECT] {
        let scene = Scene::new(Backend::Nftables, below, 2)?;
        scene.write()?;
        scene.join(
            0,
            &scene.network(
                0,
                "lan",
                json!({ "vni": 5, "mode": below.mode }),
                Value::Null,
            ),
        )?;
        let routes = scene.shell(0, "ip route show proto 112")?;
        let expected = match below.mode {
            "direct" => "10.5.2.0/24 via 198.18.60.2 dev under0",
            _ => "10.5.2.0/24 via 10.5.2.0 dev vx-lan onlink",
        };
        assert!(routes.contains(expected), "{routes}");
        assert!(routes.contains("unreachable 10.5.0.0/16"), "{routes}");
    }
    Ok(())
}

#[test]
fn addresses_come_from_the_blocks_in_their_order() -> Outcome {
    let scene = Scene::new(Backend::Nftables, VXLAN, 1)?;
    let mut files = scene.files("lan", 5, 1);
    // Two addresses for containers each.
    files.own.blocks = ["10.5.1.0/30", "10.5.9.0/29"].map(str::to_owned).to_vec();
    files.write(&scene.sites[0].host)?;
    let network = scene.plain(0);
    let mut members = Vec::new();
    for expected in ["10.5.1.2", "10.5.9.2", "10.5.9.3"] {
        let member = scene.join(0, &network)?;
        assert_eq!(member.attachment.address(false).as_deref(), Some(expected));
        members.push(member);
    }
    // Containers of two blocks reach each other by the bridge's two addresses.
    let target = std::net::SocketAddr::new(members[1].address(false)?, 80);
    for (from, to) in [(0, 1), (2, 1)] {
        let reply = members[from].ask(pontoon_lab::tcp, target)?;
        let reply = reply.map_err(|silence| Failure::new(format!("{from} to {to}: {silence}")))?;
        assert_eq!(reply.peer, members[from].address(false)?);
    }
    Ok(())
}
