//! One side of the comparison on a host of its own.

use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use serde_json::json;

use pontoon_lab::{
    Attachment, Backend, CniError, Container, Failure, HOST_V4, Host, Network, Outcome, Overlay,
    Peer, Programs, Runtime, Scratch, find, missing,
};

/// What the kernel still does after a verb (RCU, udev) is no part of the time of the next verb.
const SETTLE: Duration = Duration::from_millis(25);

/// Waits as a host with work to do waits: a processor that sleeps takes its time to wake up, and
/// would add it to whatever comes next.
pub(crate) fn settle() {
    let started = Instant::now();
    while started.elapsed() < SETTLE {
        std::hint::spin_loop();
    }
}

/// A set of plugins, a host for them, and a network on it.
pub(crate) struct Contestant {
    // Before the host: containers leave first.
    crowd: Vec<Container>,
    host: Host,
    network: Network,
    programs: Programs,
    path: OsString,
    firewall_path: OsString,
    _tools: Scratch,
    _firewall_tools: Scratch,
    leases: Scratch,
}

impl Contestant {
    /// Both sides get the same: tools, network, kernel.
    pub(crate) fn new(programs: &Programs, backend: Backend) -> Outcome<Self> {
        let (tools, mut path) = backend.path()?;
        if backend == Backend::Nftables {
            // The host of this backend has no iptables: where it has, the reference's DEL asks that
            // too, and fails on rules that were never there. `nft` is for the reference only.
            let nft = find("nft").ok_or_else(|| missing("nft"))?;
            symlink(nft, tools.path().join("nft")).map_err(Failure::act("link nft"))?;
        } else {
            path.push(":/usr/sbin:/usr/bin:/sbin:/bin");
        }
        // The reference's `firewall` knows iptables and firewalld, also where the rest uses nftables.
        let (firewall_tools, mut firewall_path) = Backend::IptablesNft.path()?;
        firewall_path.push(":/usr/sbin:/usr/bin:/sbin:/bin");
        // Pontoon's folder alone has the admin's command.
        let is_reference = !programs.program("pontoon").is_file();
        let firewall_backend = if is_reference {
            "iptables"
        } else {
            backend.key()
        };
        let leases = Scratch::new("bench")?;
        let network = Network::docker("bench", "bench0", &["10.75.0.0/16"], backend, leases.path())
            .followed_by(json!({
                "type": "firewall", "backend": firewall_backend, "ingressPolicy": "same-bridge",
            }));
        Ok(Self {
            crowd: Vec::new(),
            host: Host::new()?,
            network,
            programs: programs.clone(),
            firewall_path: if is_reference {
                firewall_path
            } else {
                path.clone()
            },
            path,
            _tools: tools,
            _firewall_tools: firewall_tools,
            leases,
        })
    }

    /// The same with a network whose containers do not reach each other.
    pub(crate) fn without_icc(mut self) -> Self {
        let network = self.network.clone().with("firewall", "icc", json!(false));
        self.network = network.with("firewall", "ingressPolicy", json!("open"));
        self
    }

    /// Bridge and portmap with a block of addresses of each family; `overlay` makes the bridge one of a network of
    /// three hosts.
    pub(crate) fn on_blocks(programs: &Programs, overlay: bool) -> Outcome<Self> {
        let mut own = Self::new(programs, Backend::Nftables)?;
        let mut files = Overlay::alone("bench", HOST_V4);
        let blocks: Vec<&str> = files.own.blocks.iter().map(String::as_str).collect();
        let leases = own.leases.path();
        own.network = Network::docker("bench", "bench0", &blocks, Backend::Nftables, leases);
        if !overlay {
            return Ok(own);
        }
        own.network = own
            .network
            .with(
                "bridge",
                "ipam",
                json!({ "type": "host-local", "dataDir": leases }),
            )
            .with("bridge", "type", json!("overlay"));
        for number in 2..4_u8 {
            files.peers.push(Peer {
                host: format!("h{number}"),
                underlay: vec![[198, 18, 7, 100 + number].into()],
                blocks: vec![
                    format!("10.5.{number}.0/24"),
                    format!("fd05:0:0:{number}::/64"),
                ],
                mac: [2, 0x70, 0, 0, 0, number],
            });
        }
        files.write(&own.host)?;
        Ok(own)
    }

    /// Puts so many containers on the network, each with a published port.
    pub(crate) fn fill(&mut self, count: usize) -> Outcome {
        for port in (10_000..).take(count) {
            let container = Container::new("crowd")?;
            let mut attachment = Attachment::new(&container).publish("", port, 80, "tcp");
            self.runtime().add(&self.network, &mut attachment)?;
            self.crowd.push(container);
        }
        Ok(())
    }

    /// Lets its containers come to rest: for their first twelve seconds they ask for IPv6 routers
    /// (RFC 4861, three times, 4 s apart), and a bridge carries each question to all of its ports.
    pub(crate) fn rest() {
        std::thread::sleep(Duration::from_secs(15));
    }

    /// Publishes so many ports, `each` by a container of its own.
    pub(crate) fn publish(&mut self, count: u16, each: u16) -> Outcome {
        for first in (0..count).step_by(usize::from(each)) {
            let container = Container::new("crowd")?;
            let ports = (first..count).take(usize::from(each));
            let mut attachment = ports.fold(Attachment::new(&container), |attachment, port| {
                attachment.publish("", 10_000 + port, 80, "tcp")
            });
            self.runtime().add(&self.network, &mut attachment)?;
            self.crowd.push(container);
        }
        Ok(())
    }

    /// Its host.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// Its plugins.
    pub(crate) fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The time of an ADD.
    pub(crate) fn add(&self, attachment: &mut Attachment) -> Outcome<Duration> {
        self.time(|runtime| runtime.add(&self.network, attachment).map(drop))
    }

    /// The time of a DEL.
    pub(crate) fn del(&self, attachment: &Attachment) -> Outcome<Duration> {
        self.time(|runtime| runtime.del(&self.network, attachment))
    }

    /// For how long the plugins run that `work` calls on the host, which it finds itself in.
    pub(crate) fn time(
        &self,
        work: impl FnOnce(&Runtime<'_>) -> Result<(), CniError> + Send,
    ) -> Outcome<Duration> {
        let took = self.host.run(|| {
            let runtime = self.runtime().here();
            settle();
            work(&runtime).map(|()| runtime.spent())
        })??;
        Ok(took)
    }

    fn runtime(&self) -> Runtime<'_> {
        Runtime::new(&self.host, &self.programs, &self.path)
            .with_path_of("firewall", &self.firewall_path)
    }
}
