//! The life of a container: ADD, CHECK, DEL, kills, and a namespace that vanishes.

use std::fs;

use pontoon_lab::{Attachment, CniError, Container, Failure, Outcome};
use serde_json::{Value, json};

use super::exchange::{EXCHANGED, FIRST_PORT};
use super::{CONTAINERS, Ended, Guest, NETWORKS, PORTS, Place, Random, Storm};
use crate::attack::tracer::{Act, Tracer};

impl Storm<'_> {
    /// Whether the reference plugins run verbs on this network.
    fn exchanges(&self, network: usize) -> bool {
        self.exchange.is_some() && network == EXCHANGED
    }

    pub(super) fn add(&self, at: usize, random: &mut Random) -> Outcome<Place> {
        let network = random.below(NETWORKS);
        let container = Container::new(&format!("s{at}"))?;
        let attachment = wishes(&container, network, at, random);
        let mut guest = Guest {
            network,
            attachment: Box::new(attachment),
            of_reference: self.exchanges(network) && random.below(2) == 0,
        };
        let kill = (random.below(6) == 0).then(|| (random.below(4), 1 + random.below(300)));
        let by_reference = guest.of_reference;
        match self.chain("ADD", &mut guest, kill, by_reference)? {
            Ended::Well => {
                self.count(if by_reference {
                    "ADD by the reference"
                } else {
                    "ADD"
                });
                Ok(Place::Attached(guest, container))
            }
            Ended::Killed => {
                self.count("ADD killed");
                guest.attachment.result = None;
                Ok(Place::Due(guest, Some(container)))
            }
            Ended::Refused(error) => {
                self.count(if by_reference {
                    "ADD refused by the reference"
                } else {
                    "ADD refused"
                });
                // Ports and addresses are few; one that a kill has left is freed by DEL.
                let text = error.text();
                let few = [
                    "already published",
                    "no IP addresses",
                    "no free address",
                    "in use",
                    "full",
                    "already",
                ];
                if !by_reference && !few.iter().any(|word| text.contains(word)) {
                    self.wrong(format!("ADD: {error}"));
                }
                guest.attachment.result = None;
                Ok(Place::Due(guest, Some(container)))
            }
        }
    }

    pub(super) fn change(
        &self,
        mut guest: Guest,
        container: Container,
        random: &mut Random,
    ) -> Outcome<Place> {
        match random.below(10) {
            0..3 => {
                if let Some(error) = self.check(&mut guest)? {
                    self.wrong(format!("CHECK: {error}"));
                }
                self.count("CHECK");
                Ok(Place::Attached(guest, container))
            }
            3..5 => {
                drop(container);
                self.count("vanished");
                Ok(Place::Due(guest, None))
            }
            _ => self.del(guest, Some(container), random),
        }
    }

    /// CHECK of what is ours. After a flush the reference's rules are lost for good.
    pub(super) fn check(&self, guest: &mut Guest) -> Outcome<Option<CniError>> {
        if guest.of_reference {
            return Ok(None);
        }
        match self.chain("CHECK", guest, None, false)? {
            Ended::Refused(error) => Ok(Some(error)),
            Ended::Well | Ended::Killed => Ok(None),
        }
    }

    pub(super) fn del(
        &self,
        mut guest: Guest,
        container: Option<Container>,
        random: &mut Random,
    ) -> Outcome<Place> {
        let by_reference = self.exchanges(guest.network) && random.below(2) == 0;
        let kill = (random.below(6) == 0).then(|| (random.below(4), 1 + random.below(200)));
        match self.chain("DEL", &mut guest, kill, by_reference)? {
            // The reference leaves what it does not know of, and without a namespace or a result its own
            // masquerade as well: DEL of ours, which comes later, takes that away.
            Ended::Well if by_reference => {
                self.count("DEL by the reference");
                Ok(Place::Due(guest, container))
            }
            Ended::Well => {
                self.count("DEL");
                Ok(Place::Free)
            }
            Ended::Killed => {
                self.count("DEL killed");
                Ok(Place::Due(guest, container))
            }
            Ended::Refused(error) => {
                if by_reference {
                    self.count("DEL refused by the reference");
                } else {
                    self.wrong(format!("DEL: {error}"));
                }
                Ok(Place::Due(guest, container))
            }
        }
    }

    /// The verb of every plugin of the chain; with `kill`, the plugin at that place dies at that call.
    /// The reference's plugins are not killed: what they leave then is theirs.
    pub(super) fn chain(
        &self,
        verb: &str,
        guest: &mut Guest,
        kill: Option<(usize, usize)>,
        by_reference: bool,
    ) -> Outcome<Ended> {
        let network = &self.networks[guest.network];
        let attachment = &mut guest.attachment;
        let runtime = match self.exchange.as_ref().filter(|_| by_reference) {
            Some(exchange) => exchange.runtime(self.site),
            None => self.site.runtime(),
        };
        let mut places: Vec<usize> = (0..network.plugins().len()).collect();
        if verb == "DEL" {
            places.reverse();
        }
        for place in places {
            let plugin = &network.plugins()[place];
            let program = plugin["type"].as_str().unwrap_or_default();
            let stdin = network.stdin(plugin, &attachment.capabilities, attachment.result.as_ref());
            let call = runtime.attachment_call(verb, &stdin, attachment);
            let mut hit = false;
            let finished = match kill.filter(|(where_, _)| *where_ == place && !by_reference) {
                Some((_, number)) => {
                    let dir = self.traces.path().join(&attachment.container_id);
                    fs::create_dir_all(&dir).map_err(Failure::act("make a directory"))?;
                    let traced = self.site.host.run(|| {
                        Tracer::new(&runtime, &dir).run(
                            program,
                            &call,
                            Some((number, Act::Kill)),
                            None,
                        )
                    })??;
                    fs::remove_dir_all(&dir).map_err(Failure::act("remove a directory"))?;
                    if traced.hung {
                        self.wrong(format!("{program} {verb} hangs"));
                    }
                    hit = !traced.points.is_empty();
                    traced.finished
                }
                None => runtime.call(program, &call)?,
            };
            if finished.status.is_none() {
                return Ok(Ended::Killed);
            }
            if let Err(error) = finished.verdict(&format!("{program} {verb}")) {
                // A child was killed, and the plugin says so.
                if hit && error.code != 0 {
                    return Ok(Ended::Killed);
                }
                return Ok(Ended::Refused(error));
            }
            if verb == "ADD" {
                let result: Value = serde_json::from_str(&finished.stdout)
                    .map_err(Failure::act("read a result"))?;
                attachment.result = Some(result);
            }
        }
        Ok(Ended::Well)
    }
}

/// An attachment with a name, and perhaps a port, an alias and a link.
fn wishes(container: &Container, network: usize, at: usize, random: &mut Random) -> Attachment {
    let mut attachment = Attachment::new(container).named(&format!("name{at}"));
    if random.below(2) == 0 {
        let port = match network {
            EXCHANGED => FIRST_PORT + at,
            _ => 9000 + random.below(PORTS),
        };
        attachment = attachment.publish("", u16::try_from(port).unwrap_or(9000), 80, "tcp");
    }
    if random.below(4) == 0 {
        let other = format!("name{}", random.below(CONTAINERS));
        let aliases = json!([format!("alias{other}")]);
        attachment.capabilities.insert("aliases".into(), aliases);
    }
    if random.below(3) == 0 {
        let links: Vec<Value> = (0..=random.below(3))
            .map(|number| {
                json!({
                    "container": format!("name{}", random.below(CONTAINERS)),
                    "alias": format!("link{number}"), "ports": [{ "port": 80 }],
                })
            })
            .collect();
        attachment.capabilities.insert("links".into(), json!(links));
    }
    attachment
}
