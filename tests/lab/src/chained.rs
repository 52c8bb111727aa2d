//! One plugin of a chain, the plugins before it done: what an ADD that fails leaves, what a kill
//! leaves to DEL, and what DEL leaves however often it comes.

use std::collections::BTreeSet;
use std::fs;

use pontoon_netlink::{LinkChange, RouteSocket};
use serde_json::Value;

use super::container::Container;
use super::failure::{Failure, Outcome};
use super::network::{Attachment, Network};
use super::outcome::CniError;
use super::runtime::Runtime;
use super::site::Site;
use super::snapshot::Snapshot;

/// A container on a host, and the plugin of its network that a test is about.
pub struct Chained {
    /// The host.
    pub site: Site,
    /// The container.
    pub container: Container,
    /// The container's attachment; its result is that of the plugins so far.
    pub attachment: Attachment,
    network: Network,
    position: usize,
}

impl Chained {
    /// Runs ADD of the plugins before the one at `position`.
    pub fn new(site: Site, network: Network, position: usize) -> Outcome<Self> {
        let container = Container::new("chained")?;
        // Runtimes bring it up first.
        let up = || -> Result<(), pontoon_netlink::Error> {
            let up = LinkChange {
                up: Some(true),
                ..LinkChange::default()
            };
            RouteSocket::open()?.set_link(1, &up)
        };
        container.run(up)?.map_err(Failure::act("bring lo up"))?;
        let attachment = Attachment::new(&container);
        let mut all = Self {
            site,
            container,
            attachment,
            network,
            position,
        };
        for before in 0..position {
            let result = all.call(&all.site.runtime(), before, "ADD")?;
            all.attachment.result = result;
        }
        Ok(all)
    }

    fn call(
        &self,
        runtime: &Runtime<'_>,
        position: usize,
        verb: &str,
    ) -> Result<Option<Value>, CniError> {
        let plugin = &self.network.plugins()[position];
        let kind = plugin["type"].as_str().unwrap_or_default();
        let previous = self.attachment.result.as_ref();
        let stdin = self
            .network
            .stdin(plugin, &self.attachment.capabilities, previous);
        let finished = runtime.call(
            kind,
            &runtime.attachment_call(verb, &stdin, &self.attachment),
        )?;
        finished.verdict(&format!("{kind} {verb}"))?;
        Ok(serde_json::from_str(&finished.stdout).ok())
    }

    /// Runs a verb of the plugin in question.
    pub fn verb(&self, verb: &str) -> Result<Option<Value>, CniError> {
        self.call(&self.site.runtime(), self.position, verb)
    }

    /// Runs ADD of the plugin in question, and keeps its result for CHECK and DEL.
    pub fn add(&mut self) -> Result<Value, CniError> {
        let result = self.verb("ADD")?.unwrap_or_default();
        self.attachment.result = Some(result.clone());
        Ok(result)
    }

    /// CHECK must find a difference, and name it.
    pub fn check_fails(&self, words: &str) -> Outcome {
        match self.verb("CHECK") {
            Err(error) if error.code == 104 && error.text().contains(words) => Ok(()),
            other => Err(Failure::new(format!(
                "CHECK did not find {words:?}: {other:?}"
            ))),
        }
    }

    /// All that there is: on the host, and in the container with its links' settings.
    pub fn state(&self) -> Outcome<Snapshot> {
        let host = self.site.snapshot()?.without("sysctls");
        Ok(host.with("inside", self.container.details()?))
    }
}

/// The fault points of the plugin at `position`, each with a failure and with a kill: after a
/// failing ADD, and after DEL of a killed one, everything is as before; after that ADD works, and
/// DEL takes all away, even with neither namespace nor result. `least` is how many points there are
/// at least.
pub fn chained_faults(
    make: impl Fn() -> Outcome<(Site, Network)>,
    position: usize,
    least: usize,
) -> Outcome {
    let fresh = || make().and_then(|(site, network)| Chained::new(site, network, position));
    let probe = fresh()?;
    let trace = probe.site.leases.path().join("trace");
    let runtime = probe.site.runtime();
    let runtime = runtime.with_env("PONTOON_FAULT_TRACE", &trace.display().to_string());
    probe.call(&runtime, position, "ADD")?;
    let text = fs::read_to_string(&trace).map_err(Failure::act("read the trace of steps"))?;
    // Those of an address plugin that is called in process have tests of their own.
    let kind = probe.network.plugins()[position]["type"]
        .as_str()
        .unwrap_or_default();
    let steps: BTreeSet<&str> = text
        .lines()
        .filter(|step| step.starts_with(&format!("{kind}.")))
        .collect();
    if steps.len() < least {
        return Err(Failure::new(format!("only {steps:?}")));
    }
    let mut wrong = Vec::new();
    for step in steps {
        for fault in [step.to_owned(), format!("kill:{step}")] {
            let outcome = fresh().and_then(|scene| scene.fail_at(&fault));
            wrong.extend(outcome.err().map(|error| format!("{fault}: {error}")));
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(wrong.join("\n")))
    }
}

impl Chained {
    fn fail_at(mut self, fault: &str) -> Outcome {
        let before = self.state()?;
        let runtime = self.site.runtime().with_env("PONTOON_FAULT", fault);
        let kill = fault.starts_with("kill:");
        match self.call(&runtime, self.position, "ADD") {
            Err(error) if (error.code == 0) == kill => {}
            other => return Err(Failure::new(format!("not the asked failure: {other:?}"))),
        }
        if kill {
            self.verb("DEL")?;
        }
        self.settles(&before, "the failed ADD")?;
        self.add()?;
        self.verb("CHECK")?;
        self.verb("DEL")?;
        self.settles(&before, "DEL")?;
        self.verb("DEL")?;
        self.attachment.result = None;
        self.verb("DEL")?;
        self.attachment.netns.clear();
        self.verb("DEL")?;
        self.settles(&before, "DEL again")
    }

    /// Everything is soon as `before`.
    fn settles(&self, before: &Snapshot, after: &str) -> Outcome {
        before.settles(|| self.state(), after)
    }
}
