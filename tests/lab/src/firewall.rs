//! The rule backends a chain is tried with.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::fs::symlink;

use super::failure::{Failure, Outcome};
use super::programs;
use super::scratch::Scratch;

/// A backend, with the variant of iptables where there are two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// iptables' words, nf_tables in the kernel.
    IptablesNft,
    /// iptables' words, ip_tables in the kernel.
    IptablesLegacy,
    /// nf_tables without iptables.
    Nftables,
}

impl Backend {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::IptablesNft, Self::IptablesLegacy, Self::Nftables];

    /// The value of `ipMasqBackend` and portmap's `backend`.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::IptablesNft | Self::IptablesLegacy => "iptables",
            Self::Nftables => "nftables",
        }
    }

    /// A PATH for the plugins on which this backend's programs, and no other, are found: the
    /// variant's for iptables, none at all for nftables. It lasts as long as the directory.
    pub fn path(self) -> Outcome<(Scratch, OsString)> {
        let dir = Scratch::new("path")?;
        let multi = match self {
            Self::IptablesNft => Some("xtables-nft-multi"),
            Self::IptablesLegacy => Some("xtables-legacy-multi"),
            Self::Nftables => None,
        };
        if let Some(multi) = multi {
            let program = programs::find(multi).ok_or_else(|| programs::missing(multi))?;
            for name in ["iptables", "ip6tables"].into_iter().flat_map(|name| {
                [
                    name.to_owned(),
                    format!("{name}-save"),
                    format!("{name}-restore"),
                ]
            }) {
                symlink(&program, dir.path().join(&name))
                    .map_err(Failure::act(format!("link {name}")))?;
            }
        }
        let mut path = dir.path().as_os_str().to_owned();
        // Other people's plugins run `nft`; ours need nothing.
        if std::env::var_os("XTASK_PLUGINS").is_some() {
            path.push(":/usr/sbin:/usr/bin:/sbin:/bin");
        }
        Ok((dir, path))
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IptablesNft => "iptables-nft",
            Self::IptablesLegacy => "iptables-legacy",
            Self::Nftables => "nftables",
        })
    }
}
