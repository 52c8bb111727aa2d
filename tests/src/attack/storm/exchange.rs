//! The reference plugins beside ours: on one network either set of binaries runs any verb.

use std::ffi::OsString;
use std::os::unix::fs::symlink;

use pontoon_lab::{
    Backend, Failure, Network, Outcome, Programs, Runtime, Scratch, Site, find, missing,
};
use serde_json::json;

/// The network of which the binaries are exchanged.
pub(super) const EXCHANGED: usize = super::NETWORKS - 1;
/// Its published ports, one a container: the reference looks at no other's.
pub(super) const FIRST_PORT: usize = 20_000;
const VERSION: &str = "1.9.1";

/// What containers of the reference share, and it leaves itself.
const SHARED: [&str; 5] = [
    "CNI-HOSTPORT-",
    "CNI-FORWARD",
    "CNI-ADMIN",
    "CNI-ISOLATION",
    " cni_",
];

/// The reference's binaries with the tools that they run.
pub(super) struct Exchange {
    programs: Programs,
    path: OsString,
    // Only held: PATH points into it.
    _tools: Scratch,
}

impl Exchange {
    pub(super) fn new(site: &Site) -> Outcome<Self> {
        let tools = Scratch::new("nft")?;
        let mut path = site.runtime().path().to_owned();
        if site.backend == Backend::Nftables {
            // Where there is iptables too, the reference wants rules of both gone.
            let nft = find("nft").ok_or_else(|| missing("nft"))?;
            symlink(nft, tools.path().join("nft")).map_err(Failure::act("link nft"))?;
            path = tools.path().into();
        }
        Ok(Self {
            programs: Programs::reference(VERSION)?,
            path,
            _tools: tools,
        })
    }

    pub(super) fn runtime<'s>(&self, site: &'s Site) -> Runtime<'s> {
        Runtime::new(&site.host, &self.programs, &self.path)
    }
}

/// A network in the keys that both know.
pub(super) fn network(site: &Site, name: &str, bridge: &str, subnets: &[&str]) -> Network {
    let mut list = site.network(name, bridge, subnets).list().clone();
    list["cniVersion"] = json!("1.0.0");
    // The reference's firewall knows no nftables.
    if let Some(plugins) = list["plugins"].as_array_mut()
        && site.backend != Backend::Nftables
    {
        plugins.push(json!({ "type": "firewall", "backend": "iptables" }));
    }
    Network::from_list(list)
}

/// Whether a rule or chain is the reference's for all of its containers, and names none.
pub(super) fn is_shared(line: &str) -> bool {
    let own = ["storm", "10.70.", "fd00:70:"];
    SHARED.iter().any(|part| line.contains(part)) && !own.iter().any(|part| line.contains(part))
}
