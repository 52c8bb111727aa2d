//! `pontoon networks`.

use crate::cli::Shape;
use crate::facts::{Host, Network};
use crate::report::{Outcome, Style, Table, print};

pub(crate) fn run(options: &Shape) -> Outcome {
    let networks = Host::look()?.networks()?;
    print(options.json, &networks, || table(&networks))?;
    Ok(true)
}

fn table(networks: &[Network]) -> String {
    let mut table = Table::new(&[
        "NETWORK",
        "MODE",
        "BRIDGE",
        "GATEWAYS",
        "EGRESS",
        "BACKEND",
        "CONTAINERS",
        "CLOSED",
    ]);
    for network in networks {
        let bridge = network.bridge.clone().unwrap_or_default();
        table.row(vec![
            network.name.clone(),
            network.mode.to_owned(),
            if network.up {
                bridge
            } else {
                format!("{bridge} (down)")
            },
            network.gateways.join(" "),
            network.egress.join(", "),
            network.backend.clone().unwrap_or_default(),
            network.containers.to_string(),
            network.closed.join(", "),
        ]);
    }
    table.text(Style::of_stdout())
}
