//! The matrix of policies: every backend, family and protocol, bridged packets passing netfilter or
//! not, from everywhere to everything, under every policy. Whether a packet must arrive is decided
//! by `policy/table.rs` alone; each is sent, and looked for where it would arrive.

use std::time::Instant;

use super::scene::Scene;
use super::table::{ALL, POLICY_CASES};
use pontoon_lab::{Backend, Failure, Outcome, slice};

/// Policies that are tried with each setting in a run.
const TRIED: usize = 3;

fn matrix(backend: Backend, bridge_nf_call: bool) -> Outcome {
    let started = Instant::now();
    let setting = format!("{backend}, bridge-nf-call {}", u8::from(bridge_nf_call));
    let (mut cells, mut wrong) = (0, Vec::new());
    let stances = slice(&format!("policies, {setting}"), POLICY_CASES, TRIED);
    for &stance in &stances {
        let mut scene = Scene::new(backend, bridge_nf_call, stance)?;
        let tried = scene.cells()?;
        let fates = scene.fire(&tried)?;
        let errors: Vec<String> = tried
            .iter()
            .zip(fates)
            .filter(|(cell, fate)| !fate.fits(cell.shot.arrives))
            .map(|(cell, fate)| {
                let must = if cell.shot.arrives { "" } else { "not " };
                format!("{cell}: must {must}arrive, {fate:?}")
            })
            .collect();
        cells += tried.len();
        if !errors.is_empty() {
            wrong.push(format!("{stance:?}:\n  {}", errors.join("\n  ")));
        }
    }
    eprintln!(
        "{setting}: {cells} cells in {:.1} s",
        started.elapsed().as_secs_f64()
    );
    // Of the stances that were drawn: seven places, three protocols, two families.
    assert_eq!(
        cells,
        stances.len() * ALL.len() * 7 * 3 * 2,
        "no cell is left out"
    );
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!("{setting}: {}", wrong.join("\n"))))
    }
}

#[test]
fn iptables_nft_without_bridge_nf_call() -> Outcome {
    matrix(Backend::IptablesNft, false)
}

#[test]
fn iptables_nft_with_bridge_nf_call() -> Outcome {
    matrix(Backend::IptablesNft, true)
}

#[test]
fn iptables_legacy_without_bridge_nf_call() -> Outcome {
    matrix(Backend::IptablesLegacy, false)
}

#[test]
fn iptables_legacy_with_bridge_nf_call() -> Outcome {
    matrix(Backend::IptablesLegacy, true)
}

#[test]
fn nftables_without_bridge_nf_call() -> Outcome {
    matrix(Backend::Nftables, false)
}

#[test]
fn nftables_with_bridge_nf_call() -> Outcome {
    matrix(Backend::Nftables, true)
}
