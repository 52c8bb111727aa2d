//! Random sequences of ADD, DEL, kills, links and flushes of all rules, over twenty containers on
//! three networks: after each, what passes is exactly what a model of the policy says.
//!
//! What is random is drawn anew each time; a sequence that fails is made as short as it can be and
//! printed. `PONTOON_SEQUENCES` is how many are tried per backend: 10 unless told, 34 with
//! `PONTOON_WHOLE`.

mod scenario;

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Instant;

use pontoon_lab::{
    Attachment, Backend, Container, Failure, HOST_V4, HOST_V6, Network, OUTSIDE_V4, OUTSIDE_V6,
    Outcome, Protocol, Shot, Site, Volley, whole,
};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use scenario::{
    CONTAINERS, From, Guest, LINKED, Model, NETWORKS, PolicyCase, Scenario, Step, To, UNLINKED,
};
use serde_json::{Value, json};

const SUBNETS: [[&str; 2]; NETWORKS] = [
    ["10.93.0.0/24", "fd00:93::/64"],
    ["10.94.0.0/24", "fd00:94::/64"],
    ["10.95.0.0/24", "fd00:95::/64"],
];
/// Container n publishes this port plus n.
const PUBLISHED: u16 = 8000;
const OUTSIDE: usize = CONTAINERS;
const HOST: usize = CONTAINERS + 1;

fn keys(stance: PolicyCase) -> Value {
    match stance {
        PolicyCase::Open => json!({}),
        PolicyCase::Docker => json!({ "profile": "docker" }),
        PolicyCase::IccOff => json!({ "profile": "docker", "icc": false }),
        PolicyCase::Internal => json!({ "profile": "docker", "internal": true }),
    }
}

struct World {
    site: Site,
    networks: Vec<Network>,
    model: Model,
    /// The attachments that a DEL has not come for, killed ones too.
    attachments: Vec<Option<(usize, Attachment)>>,
    containers: Vec<Option<Container>>,
    /// Which networks' rules have not been flushed since their last ADD.
    whole: [bool; NETWORKS],
    volley: Volley,
}

impl World {
    fn new(backend: Backend, story: &Scenario) -> Outcome<Self> {
        let site = Site::new(backend)?;
        site.host.bridge_nf_call(story.bridge_nf_call)?;
        site.host.teach_outside(SUBNETS.as_flattened())?;
        let networks = (0..NETWORKS)
            .map(|number| {
                let stance = story.stances[number];
                site.firewalled(&format!("n{number}"), &SUBNETS[number], keys(stance))
                    .with("bridge", "internal", json!(stance == PolicyCase::Internal))
            })
            .collect();
        let mut volley = Volley::default();
        volley.station(HOST, site.host.netns(), &[])?;
        volley.station(OUTSIDE, site.host.outside(), &[LINKED])?;
        Ok(Self {
            site,
            networks,
            model: Model {
                stances: story.stances,
                guests: [None; CONTAINERS],
            },
            attachments: vec![None; CONTAINERS],
            containers: (0..CONTAINERS).map(|_| None).collect(),
            whole: [true; NETWORKS],
            volley,
        })
    }

    fn take(&mut self, step: Step) -> Outcome {
        match step {
            Step::Join {
                who,
                network,
                link,
                publish,
            } => {
                self.leave(who)?;
                let published = publish && self.model.stances[network] != PolicyCase::Internal;
                let guest = Guest {
                    network,
                    link,
                    published,
                };
                self.join(who, guest)
            }
            Step::Leave(who) => self.leave(who),
            Step::Kill(who) => {
                self.model.guests[who] = None;
                self.volley.close(who);
                self.containers[who]
                    .take()
                    .map_or(Ok(()), |container| container.kill().map(drop))
            }
            Step::Flush => {
                self.whole = [false; NETWORKS];
                self.site.flush()
            }
        }
    }

    fn join(&mut self, who: usize, guest: Guest) -> Outcome {
        let name = format!("c{who}");
        let container = Container::new(&name)?;
        let mut attachment = Attachment::new(&container);
        attachment.args = format!("IgnoreUnknown=1;K8S_POD_NAME={name}");
        if guest.published {
            for protocol in ["tcp", "udp"] {
                let port = PUBLISHED + u16::try_from(who).map_err(Failure::act("number"))?;
                attachment = attachment.publish("", port, LINKED, protocol);
            }
        }
        if let Some(target) = guest.link {
            let ports = json!([{ "port": LINKED, "protocol": "tcp" }, { "port": LINKED, "protocol": "udp" }]);
            let links =
                json!([{ "container": format!("c{target}"), "alias": "db", "ports": ports }]);
            attachment.capabilities.insert("links".to_owned(), links);
        }
        let network = &self.networks[guest.network];
        self.site.runtime().add(network, &mut attachment)?;
        self.volley
            .station(who, container.netns(), &[LINKED, UNLINKED])?;
        self.whole[guest.network] = true;
        self.attachments[who] = Some((guest.network, attachment));
        self.containers[who] = Some(container);
        self.model.guests[who] = Some(guest);
        Ok(())
    }

    fn leave(&mut self, who: usize) -> Outcome {
        self.model.guests[who] = None;
        if let Some((network, attachment)) = self.attachments[who].take() {
            self.site
                .runtime()
                .del(&self.networks[network], &attachment)?;
        }
        self.volley.close(who);
        self.containers[who] = None;
        Ok(())
    }

    /// Repairs what is flushed, by one command or by the next ADD of each network.
    fn mend(&mut self, by_command: bool) -> Outcome {
        if self.whole == [true; NETWORKS] {
            return Ok(());
        }
        if by_command {
            self.site.pontoon_json(&["repair"])?;
            return Ok(());
        }
        for network in 0..NETWORKS {
            let attached = self.model.guests.iter().flatten();
            let peopled = attached.clone().any(|guest| guest.network == network);
            let free = self.attachments.iter().position(Option::is_none);
            if !self.whole[network] && peopled {
                let who = free.ok_or_else(|| Failure::new("no container is free"))?;
                let guest = Guest {
                    network,
                    link: None,
                    published: false,
                };
                self.join(who, guest)?;
            }
        }
        Ok(())
    }

    /// Each sender sends a packet to each target: how many packets that were, and what is wrong.
    fn try_all(&mut self) -> Outcome<(usize, Vec<String>)> {
        let attached: Vec<usize> = (0..CONTAINERS)
            .filter(|&who| self.model.guests[who].is_some())
            .collect();
        let mut senders = vec![(From::Outside, OUTSIDE), (From::Host, HOST)];
        senders.extend(attached.iter().map(|&who| (From::Container(who), who)));
        let (mut tried, mut shots) = (Vec::new(), Vec::new());
        for &(from, station) in &senders {
            for v6 in [false, true] {
                for protocol in Protocol::ALL {
                    for (to, at, address) in self.targets(&attached, v6, protocol)? {
                        if to == To::World && from == From::Outside {
                            continue;
                        }
                        tried.push((from, to, v6));
                        shots.push(Shot {
                            from: station,
                            to: address,
                            protocol,
                            at,
                            source_port: None,
                            arrives: self.model.arrives(from, to, protocol),
                        });
                    }
                }
            }
        }
        let fates = self.volley.fire(&shots)?;
        let wrong = tried
            .iter()
            .zip(&shots)
            .zip(&fates)
            .filter(|((_, shot), fate)| !fate.fits(shot.arrives))
            .map(|(((from, to, _), shot), fate)| {
                let must = if shot.arrives { "must" } else { "must not" };
                format!(
                    "{from:?} to {to:?} ({}) by {:?} {must} arrive: {fate:?}",
                    shot.to, shot.protocol
                )
            })
            .collect();
        Ok((shots.len(), wrong))
    }

    fn targets(
        &self,
        attached: &[usize],
        v6: bool,
        protocol: Protocol,
    ) -> Outcome<Vec<(To, usize, SocketAddr)>> {
        let mut targets = Vec::new();
        let host = if v6 { HOST_V6 } else { HOST_V4 };
        let outside = if v6 { OUTSIDE_V6 } else { OUTSIDE_V4 };
        targets.push((To::World, OUTSIDE, SocketAddr::new(outside, LINKED)));
        for &who in attached {
            let attachment = self.attachments[who].as_ref();
            let own = attachment
                .and_then(|(_, attachment)| attachment.address(v6))
                .unwrap_or_default()
                .parse()
                .map_err(Failure::act("parse an address"))?;
            // An echo request has no port.
            let ports: &[u16] = match protocol {
                Protocol::Icmp => &[LINKED],
                _ => &[LINKED, UNLINKED],
            };
            for &port in ports {
                targets.push((To::Container(who, port), who, SocketAddr::new(own, port)));
            }
            if protocol != Protocol::Icmp {
                let port = PUBLISHED + u16::try_from(who).map_err(Failure::act("number"))?;
                targets.push((To::Published(who), who, SocketAddr::new(host, port)));
            }
        }
        Ok(targets)
    }
}

fn play(backend: Backend, story: &Scenario) -> Outcome<usize> {
    let mut world = World::new(backend, story)?;
    let before = world.site.snapshot()?;
    for step in &story.steps {
        world
            .take(*step)
            .map_err(Failure::act(format!("{step:?}")))?;
    }
    world.mend(story.repair)?;
    let (packets, wrong) = world.try_all()?;
    if !wrong.is_empty() {
        return Err(Failure::new(format!(
            "{backend}, attached: {:?}\n  {}\n{:#?}",
            world.model.guests,
            wrong.join("\n  "),
            world.site.snapshot()?.lines("rules"),
        )));
    }
    for who in 0..CONTAINERS {
        world.leave(who)?;
    }
    let networks: Vec<&Network> = world.networks.iter().collect();
    world.site.nothing_left(&before, &networks, "DEL")?;
    Ok(packets)
}

fn sequences(backend: Backend) {
    let wanted = std::env::var("PONTOON_SEQUENCES").ok();
    let cases = wanted
        .and_then(|text| text.parse().ok())
        .unwrap_or(if whole() { 34 } else { 10 });
    let config = Config {
        cases,
        max_shrink_iters: 40,
        failure_persistence: None,
        ..Config::default()
    };
    let (started, packets) = (Instant::now(), Cell::new(0));
    let result = TestRunner::new(config).run(&scenario::scenarios(), |story| {
        let count =
            play(backend, &story).map_err(|failure| TestCaseError::fail(failure.to_string()))?;
        packets.set(packets.get() + count);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    eprintln!(
        "{backend}: {cases} sequences, {} packets in {:.1} s",
        packets.get(),
        started.elapsed().as_secs_f64()
    );
}

#[test]
fn iptables_nft() {
    sequences(Backend::IptablesNft);
}

#[test]
fn iptables_legacy() {
    sequences(Backend::IptablesLegacy);
}

#[test]
fn nftables() {
    sequences(Backend::Nftables);
}
