//! Containers of services, and their clients.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pontoon_lab::{
    Ask, Attachment, BOTH, Backend, Container, Echo, Failure, Network, NoReply, Outcome, Programs,
    Reply, Runtime, Scratch,
};
use serde_json::{Value, json};

use super::scene::{NETWORK, PATIENCE, Scene, wait_for};

/// The port that every container answers at.
pub(super) const INNER: u16 = 8080;
/// For how long an answer is waited for.
pub(super) const WAIT: Duration = Duration::from_secs(3);
/// Questions until all of three have been asked: the chance that one is left out is 3 in a million.
const QUESTIONS: usize = 36;

/// A container on a host, and what answers in it.
pub(super) struct Task<'s> {
    scene: &'s Scene,
    number: u8,
    network: Network,
    pub(super) container: Container,
    attachment: Attachment,
    path: (Scratch, OsString),
    _server: Echo,
}

impl<'s> Task<'s> {
    /// One that says what service it is of; null for none.
    pub(super) fn add(scene: &'s Scene, number: u8, name: &str, service: Value) -> Outcome<Self> {
        let service = match service {
            Value::Null => json!({}),
            service => json!({ "cni": { "service": service } }),
        };
        let list = json!({
            "cniVersion": "1.1.0", "name": NETWORK,
            "plugins": [
                {
                    "type": "overlay", "bridge": "br-lan", "isGateway": true, "ipMasq": true,
                    "ipMasqBackend": "nftables",
                    "ipam": { "type": "host-local", "dataDir": scene.at(number, "leases") },
                },
                { "type": "portmap", "backend": "nftables", "capabilities": { "portMappings": true } },
                { "type": "firewall", "backend": "nftables" },
                {
                    "type": "dns", "backend": "nftables", "resolvConf": scene.at(number, "resolv.conf"),
                    "args": service,
                },
            ],
        });
        let container = Container::new(name)?;
        let server = container.serve(INNER)?;
        let mut task = Self {
            scene,
            number,
            network: Network::from_list(list),
            attachment: Attachment::new(&container).named(name),
            container,
            path: Backend::Nftables.path()?,
            _server: server,
        };
        let (network, mut attachment) = (task.network.clone(), task.attachment.clone());
        task.runtime()?.add(&network, &mut attachment)?;
        task.attachment = attachment;
        Ok(task)
    }

    fn runtime(&self) -> Outcome<Runtime<'s>> {
        let host = &self.scene.cluster.hosts[usize::from(self.number) - 1];
        Ok(Runtime::new(host, &Programs::built()?, &self.path.1))
    }

    pub(super) fn del(&self) -> Outcome {
        Ok(self.runtime()?.del(&self.network, &self.attachment)?)
    }

    pub(super) fn address(&self, v6: bool) -> Outcome<IpAddr> {
        let text = self.attachment.address(v6);
        text.and_then(|text| text.parse().ok())
            .ok_or_else(|| Failure::new("the container has no such address"))
    }

    pub(super) fn gateway(&self, v6: bool) -> Outcome<IpAddr> {
        let text = self.attachment.gateway(v6);
        text.and_then(|text| text.parse().ok())
            .ok_or_else(|| Failure::new("the container has no such gateway"))
    }

    pub(super) fn ask(&self, ask: Ask, to: SocketAddr) -> Outcome<Result<Reply, NoReply>> {
        self.container.run(|| ask(to, WAIT))
    }

    /// What its resolver answers.
    pub(super) fn resolve(&self, words: &[&str]) -> Outcome<String> {
        let at = format!("@{}", self.gateway(false)?);
        self.container.dig(&[&[at.as_str()], words].concat())
    }

    /// Waits until the resolver of its host answers so.
    pub(super) fn wait_for_answer(&self, name: &str, expected: &str) -> Outcome<Duration> {
        let what = format!("{name} is {expected}");
        let found = wait_for(&what, PATIENCE, || {
            Ok((self.resolve(&[name])? == expected).then_some(()))
        });
        found.map(|((), took)| took).map_err(|error| {
            let now = self.resolve(&[name]).unwrap_or_default();
            Failure::new(format!("{error}; it is {now}"))
        })
    }
}

/// What is asked in a namespace.
pub(super) type Asking<'a> = &'a dyn Fn(Ask, SocketAddr) -> Outcome<Result<Reply, NoReply>>;

/// Asks so often that every container of a service is asked; which ones answered, and from whom they saw the question.
pub(super) fn all_answers(
    asking: Asking<'_>,
    ask: Ask,
    to: SocketAddr,
) -> Outcome<BTreeSet<(String, IpAddr)>> {
    let mut seen = BTreeSet::new();
    for _ in 0..QUESTIONS {
        match asking(ask, to)? {
            Ok(reply) => drop(seen.insert((reply.server, reply.peer))),
            Err(error) => return Err(Failure::new(format!("{to}: {error}, after {seen:?}"))),
        }
    }
    Ok(seen)
}

/// The addresses of a service, as the agent of a host says; waits until it has so many containers.
pub(super) fn addresses(
    scene: &Scene,
    number: u8,
    service: &str,
    backends: usize,
) -> Outcome<Vec<IpAddr>> {
    let what = format!("service {service} with {backends} containers on h{number}");
    let found = wait_for(&what, PATIENCE, || {
        let status = scene.status(number)?;
        let of = &status["networks"][NETWORK]["services"][service];
        let count = of["backends"].as_array().map_or(0, Vec::len);
        let addresses = of["addresses"].as_array().into_iter().flatten();
        let addresses: Vec<IpAddr> = addresses
            .filter_map(|it| it.as_str()?.parse().ok())
            .collect();
        Ok((count == backends && !addresses.is_empty()).then_some(addresses))
    });
    found
        .map(|(addresses, _)| addresses)
        .map_err(|error| Failure::new(format!("{error}\n{}", scene.words(number))))
}

/// Both protocols with both families.
pub(super) fn each_way() -> Vec<(String, Ask, bool)> {
    let ways = BOTH.into_iter().flat_map(|(name, ask)| {
        [false, true].map(|v6| {
            let family = if v6 { "IPv6" } else { "IPv4" };
            (format!("{name} over {family}"), ask, v6)
        })
    });
    ways.collect()
}
