//! `pontoon inspect ID`: all that is known of one container.

use clap::Args;
use pontoon_ledger::attachments::{self, find};

use crate::facts::{Attachment, Host};
use crate::report::{Failure, Outcome, Style, age, print};

#[derive(Args)]
pub(crate) struct Options {
    /// Id of the container, the beginning of it, or a name
    container: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &Options) -> Outcome {
    let host = Host::look()?;
    let found = attachments_of(&host, &options.container)?;
    print(options.json, &found, || text(&found))?;
    Ok(true)
}

/// The attachments of the container that is called so.
pub(crate) fn attachments_of(host: &Host, wanted: &str) -> Result<Vec<Attachment>, Failure> {
    let names = |recorded: &attachments::Attachment| {
        let about = host.about(recorded);
        about.map(|about| about.names).unwrap_or_default()
    };
    let id = match find(&host.recorded, wanted, names) {
        Ok(found) => found.first().map(|one| one.key.container.clone()),
        Err(ids) if ids.is_empty() => {
            return Err(Failure::NotFound(format!(
                "no container is called {wanted}\nhint: pontoon ls lists who is there"
            )));
        }
        Err(ids) => {
            return Err(Failure::NotFound(format!(
                "\"{wanted}\" may mean any of {}\nhint: give more of the id",
                ids.join(", ")
            )));
        }
    };
    let mut attachments = host.attachments().to_vec();
    attachments.retain(|one| Some(&one.id) == id.as_ref());
    Ok(attachments)
}

fn text(found: &[Attachment]) -> String {
    let style = Style::of_stdout();
    let mut text = String::new();
    for one in found {
        let mut line = |key: &str, value: String| {
            if !value.is_empty() {
                text += &format!("{}  {value}\n", style.bold(&format!("{key:10}")));
            }
        };
        line("container", one.id.clone());
        line("names", one.names.join(" "));
        line("network", format!("{} ({})", one.network, one.mode));
        line("interface", one.interface.clone());
        line("addresses", one.addresses.join(" "));
        for port in &one.ports {
            line("port", format!("{} ({})", port.text(), port.backend));
        }
        let state = if one.alive {
            style.good("alive")
        } else {
            style.bad("gone")
        };
        line("namespace", format!("{} ({state})", one.netns));
        line("bridge", one.bridge.clone().unwrap_or_default());
        line("host end", one.host_interface.clone().unwrap_or_default());
        line("shares", one.shares.clone().unwrap_or_default());
        for link in &one.links {
            line("link", link.text());
        }
        if let Some(dns) = one.about.as_ref().and_then(|about| about.dns.as_ref()) {
            line("dns", dns.nameservers.join(" "));
        }
        line("age", age(one.age_seconds));
        text.push('\n');
    }
    text.pop();
    text
}
