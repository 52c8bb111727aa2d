//! A host port belongs to one container. The second is told who has it; a dead owner's port is
//! taken over, and the owner's late DEL takes nothing from its successor.

use std::net::SocketAddr;
use std::time::Duration;

use pontoon_lab::{Attachment, Backend, Container, Failure, HOST_V4, Network, Outcome, Site, tcp};

struct Scene {
    site: Site,
    network: Network,
}

impl Scene {
    fn new(backend: Backend) -> Outcome<Self> {
        let site = Site::new(backend)?;
        let network = site.network("taken", "taken0", &["10.72.0.0/24", "fd00:72::/64"]);
        Ok(Self { site, network })
    }

    fn publish(&self, container: &Container) -> Attachment {
        Attachment::new(container).publish("", 8080, 80, "tcp")
    }

    /// Who answers on the published port, for a client outside.
    fn answers(&self) -> Outcome<String> {
        let target = SocketAddr::new(HOST_V4, 8080);
        let reply = self
            .site
            .host
            .run_outside(|| tcp(target, Duration::from_secs(3)))?;
        Ok(reply.map_or_else(|silence| silence.to_string(), |reply| reply.server))
    }
}

fn taken(backend: Backend) -> Outcome {
    let scene = Scene::new(backend)?;
    let (first, second) = (Container::new("owner")?, Container::new("rival")?);
    let mut owned = scene.publish(&first);
    scene.site.runtime().add(&scene.network, &mut owned)?;
    let _server = first.serve(80)?;

    let before = scene.site.snapshot()?;
    let mut wanted = scene.publish(&second);
    let refusal = scene
        .site
        .try_add(&scene.network, &mut wanted)?
        .ok_or_else(|| Failure::new("ADD succeeded"))?;
    if refusal.code != 102
        || !refusal.text().contains(&first.id)
        || !refusal.text().contains("8080")
    {
        return Err(Failure::new(format!(
            "not a refusal that names port and owner: {refusal}"
        )));
    }
    before.same_as(&scene.site.snapshot()?, "a refused port")?;
    let answering = scene.answers()?;
    if answering != first.id {
        return Err(Failure::new(format!(
            "after the refusal, instead of the owner: {answering}"
        )));
    }
    // Another address of the host is another port; so is another protocol.
    let mut beside = Attachment::new(&second)
        .publish("", 8080, 80, "udp")
        .publish("", 8081, 80, "tcp");
    Ok(scene
        .site
        .runtime()
        .add(&scene.network, &mut beside)
        .map(drop)?)
}

fn taken_over(backend: Backend) -> Outcome {
    let scene = Scene::new(backend)?;
    let before = scene.site.snapshot()?;
    let (first, second) = (Container::new("owner")?, Container::new("heir")?);
    let mut late = scene.publish(&first);
    scene.site.runtime().add(&scene.network, &mut late)?;
    first.kill()?;

    let mut heir = scene.publish(&second);
    scene.site.runtime().add(&scene.network, &mut heir)?;
    let server = second.serve(80)?;
    let inherited = scene.answers()?;
    scene.site.runtime().del(&scene.network, &late)?;
    late.netns.clear();
    scene.site.runtime().del(&scene.network, &late)?;
    let kept = scene.answers()?;
    if inherited != second.id || kept != second.id {
        return Err(Failure::new(format!(
            "the port was answered by: {inherited}; after the late DEL: {kept}"
        )));
    }
    scene.site.runtime().check(&scene.network, &heir)?;
    drop(server);
    scene.site.runtime().del(&scene.network, &heir)?;
    scene
        .site
        .nothing_left(&before, &[&scene.network], "both DELs")
}

#[test]
fn the_owner_is_named() -> Outcome {
    Backend::ALL.into_iter().try_for_each(|backend| {
        taken(backend).map_err(|error| Failure::new(format!("{backend}: {error}")))
    })
}

#[test]
fn a_dead_owners_port_is_inherited() -> Outcome {
    Backend::ALL.into_iter().try_for_each(|backend| {
        taken_over(backend).map_err(|error| Failure::new(format!("{backend}: {error}")))
    })
}
