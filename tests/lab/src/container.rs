//! An empty network namespace with a path, as a runtime makes it for a container.

use std::path::{Path, PathBuf};

use pontoon_netlink::{Netns, RouteSocket};

use super::failure::{Failure, Outcome};
use super::probe::Echo;
use super::scratch::unique;

/// Where runtimes keep namespaces.
const NAMESPACES: &str = "/run/netns";

/// A container: nothing but its network namespace.
pub struct Container {
    /// Its id.
    pub id: String,
    path: PathBuf,
    netns: Netns,
    named: bool,
}

impl Container {
    /// A container whose id starts with `name`.
    pub fn new(name: &str) -> Outcome<Self> {
        let id = format!("{name}-{}", unique());
        let path = Path::new(NAMESPACES).join(format!("pontoon-{id}"));
        let netns =
            Netns::create_at(&path).map_err(Failure::act(format!("make the namespace of {id}")))?;
        Ok(Self {
            id,
            path,
            netns,
            named: true,
        })
    }

    /// The namespace's path, for CNI_NETNS.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same as text.
    #[must_use]
    pub fn path_text(&self) -> String {
        self.path.display().to_string()
    }

    /// The namespace.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Starts an echo server in it, called by the container's id.
    pub fn serve(&self, port: u16) -> Outcome<Echo> {
        Echo::start(&self.netns, &self.id, port)
    }

    /// Runs `f` on a thread inside.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Outcome<T> {
        self.netns
            .run(f)
            .map_err(Failure::act(format!("enter {}", self.id)))
    }

    /// Its links with all their settings, addresses and routes, one a line.
    pub fn details(&self) -> Outcome<Vec<String>> {
        let look = || -> Result<Vec<String>, pontoon_netlink::Error> {
            let mut lines = Vec::new();
            let mut socket = RouteSocket::open()?;
            for link in socket.links()? {
                lines.push(format!(
                    "{} {:?} mac {:x?} mtu {} up {} promisc {} allmulti {} queue {} alias {:?}",
                    link.name,
                    link.kind,
                    link.mac,
                    link.mtu,
                    link.up,
                    link.promisc,
                    link.allmulti,
                    link.tx_queue_length,
                    link.alias
                ));
                for address in socket.addresses(link.index)? {
                    // Link-local ones come by themselves, and change with the MAC address.
                    if address.scope == 0 {
                        lines.push(format!("{} {}", link.name, address.cidr));
                    }
                }
            }
            for v4 in [true, false] {
                let routes = socket.routes(v4)?;
                lines.extend(
                    routes
                        .iter()
                        .map(|route| format!("{} via {:?}", route.destination, route.gateway)),
                );
            }
            Ok(lines)
        };
        self.run(look)?
            .map_err(Failure::act(format!("look into {}", self.id)))
    }

    /// Reads a kernel parameter of it by its path below `/proc/sys`.
    pub fn sysctl(&self, path: &str) -> Outcome<String> {
        self.run(|| pontoon_netlink::sysctl::read(path))?
            .map_err(Failure::act(format!("read {path} of {}", self.id)))
    }

    /// Ends the container as a kill would: the namespace goes away without a DEL. The path is
    /// returned, for a DEL that comes too late.
    pub fn kill(mut self) -> Outcome<PathBuf> {
        self.named = false;
        Netns::remove_at(&self.path)
            .map_err(Failure::act(format!("remove {}", self.path.display())))?;
        Ok(self.path.clone())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // A mode that was not undone has mounted another namespace over it.
        const LAYERS: usize = 4;
        let mut done = if self.named {
            Netns::remove_at(&self.path)
        } else {
            Ok(())
        };
        for _ in 1..LAYERS {
            done = done.or_else(|_| Netns::remove_at(&self.path));
        }
        if let Err(error) = done {
            eprintln!("left behind: {}: {error}", self.path.display());
        }
    }
}
