//! `pontoon ls`: the attached containers.

use crate::cli::Shape;
use crate::facts::{Attachment, Host};
use crate::report::{Outcome, Style, Table, age, print, short};

pub(crate) fn run(options: &Shape) -> Outcome {
    let attachments = Host::look()?.attachments();
    print(options.json, &*attachments, || table(&attachments))?;
    Ok(true)
}

fn table(attachments: &[Attachment]) -> String {
    let mut table = Table::new(&[
        "NAME",
        "ID",
        "NETWORK",
        "MODE",
        "INTERFACE",
        "ADDRESSES",
        "PORTS",
        "AGE",
    ]);
    for one in attachments {
        let ports: Vec<String> = one.ports.iter().map(crate::facts::Port::text).collect();
        let addresses = match (&one.shares, one.alive) {
            (_, false) => "gone".to_owned(),
            (Some(other), true) => {
                format!("{} (of {})", one.addresses.join(" "), short(other))
            }
            (None, true) => one.addresses.join(" "),
        };
        table.row(vec![
            one.names.first().cloned().unwrap_or_default(),
            short(&one.id),
            one.network.clone(),
            one.mode.to_owned(),
            one.interface.clone(),
            addresses,
            ports.join(" "),
            age(one.age_seconds),
        ]);
    }
    table.text(Style::of_stdout())
}
