//! A host with everything a test of one backend needs.

use std::ffi::OsString;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::container::Container;
use super::failure::{Failure, Outcome};
use super::firewall::Backend;
use super::host::Host;
use super::network::{Attachment, Network};
use super::outcome::CniError;
use super::probe::Echo;
use super::programs::Programs;
use super::runtime::Runtime;
use super::scratch::Scratch;
use super::snapshot::Snapshot;

/// A host, the plugins under test, a rule backend, and a directory for leases.
pub struct Site {
    /// The host.
    pub host: Host,
    /// The host's leases.
    pub leases: Scratch,
    /// The rule backend that its networks are configured for.
    pub backend: Backend,
    programs: Programs,
    path: OsString,
    // Only held: PATH points into it.
    _tools: Scratch,
}

/// A container that is reached by a port of the host.
pub struct Published {
    /// The container.
    pub container: Container,
    /// Its attachment.
    pub attachment: Attachment,
    /// What answers at its port 80.
    pub server: Echo,
}

impl Site {
    /// A fresh host, for the plugins of this workspace.
    pub fn new(backend: Backend) -> Outcome<Self> {
        let (tools, path) = backend.path()?;
        Ok(Self {
            host: Host::new()?,
            leases: Scratch::new("leases")?,
            backend,
            programs: Programs::built()?,
            path,
            _tools: tools,
        })
    }

    /// A runtime on this host.
    #[must_use]
    pub fn runtime(&self) -> Runtime<'_> {
        Runtime::new(&self.host, &self.programs, &self.path)
    }

    /// A docker0-style network of this host, see [`Network::docker`].
    #[must_use]
    pub fn network(&self, name: &str, bridge: &str, subnets: &[&str]) -> Network {
        Network::docker(name, bridge, subnets, self.backend, self.leases.path())
    }

    /// The same on bridge `br-NAME`, with the firewall plugin at the end of its chain.
    #[must_use]
    pub fn firewalled(&self, name: &str, subnets: &[&str], keys: Value) -> Network {
        let network = self.network(name, &format!("br-{name}"), subnets);
        let mut list = network.list().clone();
        let mut firewall = json!({
            "type": "firewall", "backend": self.backend.key(), "capabilities": { "links": true },
        });
        if let (Value::Object(own), Value::Object(keys)) = (&mut firewall, keys) {
            own.extend(keys);
        }
        if let Some(plugins) = list["plugins"].as_array_mut() {
            plugins.push(firewall);
        }
        Network::from_list(list)
    }

    /// A new container and its attachment to `network`, made.
    pub fn join(&self, name: &str, network: &Network) -> Outcome<(Container, Attachment)> {
        let container = Container::new(name)?;
        let mut attachment = Attachment::new(&container);
        self.runtime().add(network, &mut attachment)?;
        Ok((container, attachment))
    }

    /// A new container `web` on `network`: its port 80, which answers by TCP and UDP, is the host's
    /// `port`.
    pub fn publish(&self, network: &Network, port: u16) -> Outcome<Published> {
        let container = Container::new("web")?;
        let mut attachment = Attachment::new(&container)
            .publish("", port, 80, "tcp")
            .publish("", port, 80, "udp");
        self.runtime().add(network, &mut attachment)?;
        let server = container.serve(80)?;
        Ok(Published {
            container,
            attachment,
            server,
        })
    }

    /// An ADD that a runtime cleans up after when it fails: the error, if any.
    pub fn try_add(
        &self,
        network: &Network,
        attachment: &mut Attachment,
    ) -> Outcome<Option<CniError>> {
        match self.runtime().add(network, attachment) {
            Ok(_) => Ok(None),
            Err(error) => {
                self.runtime().del(network, attachment)?;
                Ok(Some(error))
            }
        }
    }

    /// After the last DEL of these networks: fails unless everything is soon as `before`, see
    /// [`Snapshot::settles`]. A bridge may stay as docker0 does, bare, until GC of its network finds no attachment; then it is gone too.
    /// Forwarding is a setting of the whole host, and is left alone.
    pub fn nothing_left(&self, before: &Snapshot, networks: &[&Network], after: &str) -> Outcome {
        let before = before.clone().without("sysctls");
        let bare = || {
            let now = self.snapshot()?.without("sysctls");
            Ok(networks
                .iter()
                .fold(now, |now, network| now.without_link(network.bridge())))
        };
        before.settles(bare, after)?;
        for network in networks {
            // GC came with 1.1.0, whatever the network itself is written in.
            self.runtime()
                .gc(&(*network).clone().in_version("1.1.0"), &[])?;
        }
        before.same_as(
            &self.snapshot()?.without("sysctls"),
            &format!("{after}, then GC,"),
        )?;
        match before.lines("state").is_empty() {
            true => self.state_is_gone(&format!("{after}, then GC,")),
            false => Ok(()),
        }
    }

    /// After the last DEL or GC of the host: fails unless the state directory is soon gone, with its locks. The
    /// resolver and the wait for the next container of a network end within a second or two.
    pub fn state_is_gone(&self, after: &str) -> Outcome {
        let state = self.host.state_dir();
        let deadline = Instant::now() + Duration::from_secs(5);
        while state.exists() {
            if Instant::now() > deadline {
                let mut find = Command::new("find");
                let left = find.arg(&state).output();
                let left = left.map_err(Failure::act("list what is left of the state"))?;
                return Err(Failure::new(format!(
                    "{after} the state directory is not gone:\n{}",
                    String::from_utf8_lossy(&left.stdout)
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Clears every table of every backend, as an admin does who wants a fresh start.
    pub fn flush(&self) -> Outcome {
        const FLUSH: &str = "nft flush ruleset; for tool in iptables-legacy ip6tables-legacy; do \
                             $tool -F; $tool -X; $tool -t nat -F; $tool -t nat -X; done";
        let mut shell = Command::new("sh");
        self.host.command(shell.args(["-c", FLUSH])).map(drop)
    }

    /// Everything on this host.
    pub fn snapshot(&self) -> Outcome<Snapshot> {
        Snapshot::take(&self.host, self.leases.path())
    }
}
