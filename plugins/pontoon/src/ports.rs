//! `pontoon ports`: the published ports, by host port.

use serde::Serialize;

use crate::cli::Shape;
use crate::facts::{Host, Port};
use crate::report::{Outcome, Style, Table, print, short};

#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    port: Port,
    container: String,
    name: Option<String>,
    network: String,
    addresses: Vec<String>,
}

pub(crate) fn run(options: &Shape) -> Outcome {
    let attachments = Host::look()?.attachments();
    let mut rows: Vec<Row> = attachments
        .iter()
        .flat_map(|one| {
            one.ports.iter().map(|port| Row {
                port: port.clone(),
                container: one.id.clone(),
                name: one.names.first().cloned(),
                network: one.network.clone(),
                addresses: one.addresses.clone(),
            })
        })
        .collect();
    rows.sort_by_key(|row| (row.port.host_port, row.port.protocol.clone()));
    print(options.json, &rows, || table(&rows))?;
    Ok(true)
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new(&[
        "HOST",
        "PROTOCOL",
        "CONTAINER",
        "PORT",
        "ADDRESSES",
        "NETWORK",
        "BACKEND",
    ]);
    for row in rows {
        let at = row.port.host_ip.map_or("*".to_owned(), |ip| match ip {
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
            ip => ip.to_string(),
        });
        table.row(vec![
            format!("{at}:{}", row.port.host_port),
            row.port.protocol.clone(),
            row.name.clone().unwrap_or_else(|| short(&row.container)),
            row.port.container_port.to_string(),
            row.addresses.join(" "),
            row.network.clone(),
            row.port.backend.clone(),
        ]);
    }
    table.text(Style::of_stdout())
}
