//! Who reaches whom, by what, over which tunnel.

use std::net::SocketAddr;

use pontoon_lab::{
    BOTH, Backend, Failure, HOST_V4, HOST_V6, OUTSIDE_V4, OUTSIDE_V6, Outcome, whole,
};

use super::scene::{Below, DIRECT, Member, Scene, VXLAN};

/// Asks by TCP and UDP, IPv4 and IPv6; each server must see the container's own address.
fn reaches(from: &Member, to: &Member, what: &str, wrong: &mut Vec<String>) -> Outcome {
    for v6 in [false, true] {
        let target = SocketAddr::new(to.address(v6)?, 80);
        for (name, ask) in BOTH {
            let reply = from.ask(ask, target)?;
            let own = from.address(v6)?;
            match reply {
                Ok(reply) if reply.server == to.container.id && reply.peer == own => {}
                other => wrong.push(format!(
                    "{what}, {name} to {target}: {other:?}, not from {own}"
                )),
            }
        }
    }
    Ok(())
}

fn matrix(backend: Backend, below: Below) -> Outcome<Vec<String>> {
    let scene = Scene::new(backend, below, 2)?;
    scene.write()?;
    let networks = [scene.plain(0), scene.plain(1)];
    let a1 = scene.join(0, &networks[0])?;
    let a2 = scene.join(0, &networks[0])?;
    let b1 = scene.join(1, &networks[1])?;
    let mut wrong = Vec::new();
    reaches(&a1, &a2, "same host", &mut wrong)?;
    reaches(&a1, &b1, "other host", &mut wrong)?;
    reaches(&b1, &a2, "and back", &mut wrong)?;
    // The outside sees the host, as with bridge.
    let outside = scene.sites[0].host.serve_outside(90)?;
    for (target, expected) in [(OUTSIDE_V4, HOST_V4), (OUTSIDE_V6, HOST_V6)] {
        for (name, ask) in BOTH {
            let reply = a1.ask(ask, SocketAddr::new(target, 90))?;
            if reply.as_ref().ok().map(|reply| reply.peer) != Some(expected) {
                wrong.push(format!("outside, {name} to {target}: {reply:?}"));
            }
        }
    }
    drop(outside);
    // Each host reaches the containers of the others.
    for v6 in [false, true] {
        let target = SocketAddr::new(b1.address(v6)?, 80);
        for (name, ask) in BOTH {
            let reply = scene.sites[0]
                .host
                .run(|| ask(target, super::scene::PATIENCE))?;
            if reply.as_ref().ok().map(|reply| reply.server.as_str()) != Some(&b1.container.id) {
                wrong.push(format!("host itself, {name} to {target}: {reply:?}"));
            }
        }
    }
    for (host, member) in [(0, &a1), (1, &b1)] {
        scene.sites[host]
            .runtime()
            .check(&networks[host], &member.attachment)?;
        scene.sites[host].runtime().status(&networks[host])?;
    }
    Ok(wrong)
}

#[test]
fn containers_reach_each_other_on_the_same_and_on_the_other_host() -> Outcome {
    let below_v6 = Below { v6: true, ..VXLAN };
    let auto = Below {
        mode: "auto",
        ..VXLAN
    };
    let mut cases = vec![
        (Backend::Nftables, VXLAN),
        (Backend::IptablesNft, DIRECT),
        (Backend::Nftables, below_v6),
    ];
    if whole() {
        cases.extend([
            (Backend::IptablesNft, VXLAN),
            (Backend::Nftables, DIRECT),
            (Backend::IptablesLegacy, VXLAN),
            (Backend::Nftables, auto),
            (Backend::IptablesNft, below_v6),
        ]);
    }
    let mut wrong = Vec::new();
    for (backend, below) in cases {
        let told = matrix(backend, below)?;
        wrong.extend(
            told.into_iter()
                .map(|line| format!("{backend} {below:?}: {line}")),
        );
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(wrong.join("\n"))),
    }
}
