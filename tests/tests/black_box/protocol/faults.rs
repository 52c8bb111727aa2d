//! ADD that fails half-way: after any of its steps the host is as before, and a plugin that is
//! killed there leaves nothing that the runtime's DEL does not take away.
//!
//! Debug builds of the plugins write the name of each step they pass to `PONTOON_FAULT_TRACE`, and
//! fail after the step that `PONTOON_FAULT` names; `kill:` before the name ends the process there.

use std::collections::BTreeSet;
use std::fs;

use pontoon_lab::{Attachment, Backend, Container, Failure, Network, Outcome, Site, slice};

/// The steps of an ADD of the chain, as its plugins report them.
fn steps(backend: Backend, occupied: bool) -> Outcome<BTreeSet<String>> {
    let scene = Scene::new(backend, occupied)?;
    let trace = scene.site.leases.path().join("trace");
    let runtime = scene
        .site
        .runtime()
        .with_env("PONTOON_FAULT_TRACE", &trace.display().to_string());
    let mut attachment = scene.attachment();
    runtime.add(&scene.network, &mut attachment)?;
    let text = fs::read_to_string(&trace).map_err(Failure::act("read the trace of steps"))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// A host before the ADD in question.
struct Scene {
    site: Site,
    network: Network,
    container: Container,
    // Holds the network in use, so that an undo must leave the bridge alone.
    neighbour: Option<Container>,
}

impl Scene {
    fn new(backend: Backend, occupied: bool) -> Outcome<Self> {
        let site = Site::new(backend)?;
        let network = site.network("faults", "faults0", &["10.65.0.0/24", "fd00:65::/64"]);
        let neighbour = if occupied {
            Some(Container::new("neighbour")?)
        } else {
            None
        };
        if let Some(neighbour) = &neighbour {
            let mut attachment = Attachment::new(neighbour).publish("", 8081, 80, "tcp");
            site.runtime().add(&network, &mut attachment)?;
        }
        let container = Container::new("victim")?;
        Ok(Self {
            site,
            network,
            container,
            neighbour,
        })
    }

    fn occupied(&self) -> bool {
        self.neighbour.is_some()
    }

    fn attachment(&self) -> Attachment {
        Attachment::new(&self.container)
            .publish("", 8080, 80, "tcp")
            .publish("", 8080, 80, "udp")
    }

    /// ADD with a fault, and DEL when the runtime would have to clean up.
    fn fail_at(&self, fault: &str) -> Outcome {
        let before = self.site.snapshot()?;
        let mut attachment = self.attachment();
        let kill = fault.starts_with("kill:");
        let error = self
            .site
            .runtime()
            .with_env("PONTOON_FAULT", fault)
            .add(&self.network, &mut attachment)
            .err();
        // A kill ends the process; some steps are a service only, without which ADD goes on.
        let by_fault = error.as_ref().is_none_or(|error| kill == (error.code == 0));
        if !by_fault || (kill && error.is_none()) {
            return Err(Failure::new(format!(
                "{fault}: not the failure that was asked for: {error:?}"
            )));
        }
        // A fault in the second plugin leaves the first one's work to the runtime, as any error.
        let cleans_up = kill || error.is_none_or(|error| error.place != "bridge ADD");
        if cleans_up {
            self.site.runtime().del(&self.network, &attachment)?;
        }
        let inside = self
            .container
            .run(|| fs::read_to_string("/proc/thread-self/net/dev"))?;
        let inside = inside.map_err(Failure::act("list the container's links"))?;
        if inside.contains("eth0") {
            return Err(Failure::new(format!(
                "{fault}: eth0 is still in the container"
            )));
        }
        if cleans_up && !self.occupied() {
            self.site.nothing_left(&before, &[&self.network], fault)?;
        } else {
            // Forwarding is a setting of the whole host that others may rely on by now.
            let after = self.site.snapshot()?.without("sysctls");
            before.without("sysctls").same_as(&after, fault)?;
        }
        // And with no fault it works, on the same host.
        self.site
            .runtime()
            .add(&self.network, &mut self.attachment())?;
        Ok(())
    }
}

/// Faults that are tried in a run, of each kind of ADD.
const TRIED: usize = 12;

fn faults(backend: Backend, occupied: bool) -> Outcome {
    let steps = steps(backend, occupied)?;
    if steps.len() < 8 || !steps.iter().any(|step| step.starts_with("bridge")) {
        return Err(Failure::new(format!(
            "an ADD of bridge and portmap has more steps than {steps:?}"
        )));
    }
    let mut wrong = Vec::new();
    let faults = steps
        .iter()
        .flat_map(|step| [step.clone(), format!("kill:{step}")]);
    let name = format!("faults, {backend}, occupied {occupied}");
    for fault in slice(&name, faults, TRIED) {
        // A fresh host each: some steps are taken once on each host.
        let told = Scene::new(backend, occupied)?.fail_at(&fault).err();
        wrong.extend(told.map(|error| error.to_string()));
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!("{backend}:\n{}", wrong.join("\n"))))
    }
}

#[test]
fn first_container_with_nftables() -> Outcome {
    faults(Backend::Nftables, false)
}

#[test]
fn second_container_with_nftables() -> Outcome {
    faults(Backend::Nftables, true)
}

#[test]
fn first_container_with_iptables() -> Outcome {
    faults(Backend::IptablesNft, false)
}

#[test]
fn second_container_with_iptables_legacy() -> Outcome {
    faults(Backend::IptablesLegacy, true)
}

#[test]
fn a_fault_of_the_plugin_itself_is_an_error_object_that_names_the_place() -> Outcome {
    let scene = Scene::new(Backend::Nftables, false)?;
    let before = scene.site.snapshot()?;
    let mut attachment = scene.attachment();
    let refused = scene
        .site
        .runtime()
        .with_env("PONTOON_FAULT", "panic:portmap.recorded")
        .add(&scene.network, &mut attachment)
        .err();
    let told = refused.as_ref().is_some_and(|error| {
        let text = error.text();
        error.code == 109
            && ["fault.rs:", "injected panic", "DEL"]
                .iter()
                .all(|word| text.contains(word))
    });
    if !told {
        return Err(Failure::new(format!("a panic was told as {refused:?}")));
    }
    scene.site.runtime().del(&scene.network, &attachment)?;
    scene
        .site
        .nothing_left(&before, &[&scene.network], "a panic")
}
