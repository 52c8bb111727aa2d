//! One face for both backends.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::Ruleset;
use crate::iptables::{self, Iptables, Variant};
use crate::nft::{self, Nft};

mod reference;

pub use reference::ReferenceRules;

/// Which backend has made a rule. Kept in records, so that DEL finds it again even if the default
/// has changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendKind {
    /// nfnetlink, without any program.
    Nftables,
    /// `iptables-nft-restore`.
    IptablesNft,
    /// `iptables-legacy-restore`.
    IptablesLegacy,
}

/// An open backend.
pub enum Backend {
    /// nfnetlink.
    Nftables(Nft),
    /// `iptables-restore`, of either variant.
    Iptables(Iptables),
}

/// Why rules could not be brought into the kernel, or out of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// From the nftables backend.
    #[error("nftables: {0}")]
    Nftables(#[from] nft::Error),
    /// From the iptables backend.
    #[error("iptables: {0}")]
    Iptables(#[from] iptables::Error),
    /// The key asks for a backend that does not exist.
    #[error("there is no firewall backend \"{0}\"")]
    NoSuchBackend(String),
    /// iptables was asked for and is not installed.
    #[error("the iptables backend was asked for, and no iptables-restore was found in {0}")]
    NoIptables(String),
}

impl Error {
    /// Whether the same call may succeed a little later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Nftables(error) => matches!(error, nft::Error::Unstable { .. }),
            Self::Iptables(error) => error.try_again(),
            Self::NoSuchBackend(_) | Self::NoIptables(_) => false,
        }
    }

    /// Whether the kernel cannot do it at all.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(
            self,
            Self::Nftables(nft::Error::NoBridgeFamily { .. } | nft::Error::NoNftables { .. })
        )
    }

    /// Whether there is no such backend here: the kernel has it not, or its programs are not installed. Any
    /// other failure to open one says nothing of what it holds.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        const ABSENT: [Errno; 2] = [Errno::EPROTONOSUPPORT, Errno::EAFNOSUPPORT];
        match self {
            Self::Nftables(nft::Error::OpenSocket { source }) => {
                source.errno().is_some_and(|errno| ABSENT.contains(&errno))
            }
            Self::Nftables(nft::Error::NoNftables { .. })
            | Self::Iptables(iptables::Error::Missing { .. })
            | Self::NoIptables(_) => true,
            _ => false,
        }
    }

    /// Whether the rules of another network stand in the way.
    #[must_use]
    pub fn is_clash(&self) -> bool {
        matches!(
            self,
            Self::Nftables(nft::Error::SubnetTaken { .. } | nft::Error::BridgeTaken { .. })
        )
    }

    /// What the admin can do about it.
    #[must_use]
    pub fn next_step(&self) -> String {
        let text = match self {
            _ if self.is_transient() => "try again",
            Self::Nftables(nft::Error::BridgeTaken { .. }) => {
                "give each network a bridge of its own, or the same policy"
            }
            _ if self.is_clash() => "choose another subnet",
            Self::Nftables(_) => {
                "the kernel needs CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET and CONFIG_NFT_NAT; or install iptables"
            }
            Self::Iptables(_) => {
                "run the named program by hand, or choose the nftables backend, which needs no program"
            }
            Self::NoSuchBackend(_) => "choose iptables or nftables",
            Self::NoIptables(_) => {
                "install iptables, or choose the nftables backend, which needs no program"
            }
        };
        text.to_owned()
    }
}

impl BackendKind {
    /// The backend asked for, else iptables where it is installed, else nftables.
    ///
    /// # Errors
    /// When the name is unknown or iptables is asked for and missing.
    pub fn select(asked: Option<&str>, search: &[PathBuf]) -> Result<Self, Error> {
        match asked {
            None | Some("") => Ok(installed(search)?.unwrap_or(Self::Nftables)),
            Some("nftables") => Ok(Self::Nftables),
            Some("iptables") => installed(search)?.ok_or_else(|| Error::NoIptables(list(search))),
            Some(other) => Err(Error::NoSuchBackend(other.chars().take(80).collect())),
        }
    }
}

impl BackendKind {
    /// Whether every value of the ruleset can be a rule of this backend. Asks neither the kernel nor a
    /// program: for callers that note a ruleset before they apply it.
    ///
    /// # Errors
    /// The first value that cannot.
    pub fn validate(self, ruleset: &Ruleset) -> Result<(), Error> {
        match self {
            Self::Nftables => Ok(Nft::validate(ruleset)?),
            Self::IptablesNft | Self::IptablesLegacy => {
                Ok(Iptables::validate(ruleset).map_err(iptables::Error::from)?)
            }
        }
    }
}

fn installed(search: &[PathBuf]) -> Result<Option<BackendKind>, Error> {
    let detected = Iptables::detect(search, None)?;
    Ok(detected.map(|detected| match detected.variant {
        Variant::Nft => BackendKind::IptablesNft,
        Variant::Legacy => BackendKind::IptablesLegacy,
    }))
}

fn list(search: &[PathBuf]) -> String {
    let dirs: Vec<_> = search.iter().map(|dir| dir.display().to_string()).collect();
    dirs.join(":")
}

impl Backend {
    /// Opens a backend. `lock` is a file that all processes of the host name alike; its directory
    /// exists.
    ///
    /// # Errors
    /// When the kernel or the programs for it are not there.
    pub fn open(kind: BackendKind, search: &[PathBuf], lock: &Path) -> Result<Self, Error> {
        let variant = match kind {
            BackendKind::Nftables => return Ok(Self::Nftables(Nft::open()?)),
            BackendKind::IptablesNft => Variant::Nft,
            BackendKind::IptablesLegacy => Variant::Legacy,
        };
        let detected = Iptables::detect(search, Some(variant))?
            .ok_or_else(|| Error::NoIptables(list(search)))?;
        Ok(Self::Iptables(Iptables::new(detected, lock.to_owned())))
    }

    /// Brings rules into the kernel; what is there already stays. Tells whether anything was missing
    /// that the containers of a network share: where there are others already, the rules were flushed
    /// it.
    ///
    /// # Errors
    /// Whatever the kernel or a program refused; withdraw the same ruleset then.
    pub fn apply(&mut self, ruleset: &Ruleset) -> Result<bool, Error> {
        match self {
            Self::Nftables(nft) => Ok(nft.apply(ruleset)?),
            Self::Iptables(iptables) => Ok(iptables.apply(ruleset)?),
        }
    }

    /// Removes what carries the ruleset's owners; what is missing counts as removed.
    ///
    /// # Errors
    /// Whatever the kernel or a program refused.
    pub fn withdraw(&mut self, ruleset: &Ruleset) -> Result<(), Error> {
        match self {
            Self::Nftables(nft) => Ok(nft.withdraw(ruleset)?),
            Self::Iptables(iptables) => Ok(iptables.withdraw(ruleset)?),
        }
    }

    /// What differs from the ruleset, in words.
    ///
    /// # Errors
    /// Whatever kept the rules from being read.
    pub fn verify(&mut self, ruleset: &Ruleset) -> Result<Vec<String>, Error> {
        match self {
            Self::Nftables(nft) => Ok(nft.verify(ruleset)?),
            Self::Iptables(iptables) => Ok(iptables.verify(ruleset)?),
        }
    }

    /// As [`Self::verify`] of each, in one go: what has to be read for all of them is read once.
    ///
    /// # Errors
    /// Whatever the kernel or a program refused.
    pub fn verify_all(&mut self, rulesets: &[Ruleset]) -> Result<Vec<String>, Error> {
        match self {
            Self::Nftables(nft) => {
                let mut differences = Vec::new();
                for ruleset in rulesets {
                    differences.extend(nft.verify(ruleset)?);
                }
                Ok(differences)
            }
            Self::Iptables(iptables) => Ok(iptables.verify_all(rulesets)?),
        }
    }

    /// Removes what all networks share.
    ///
    /// # Errors
    /// Whatever the kernel or a program refused.
    pub fn remove_all(&mut self) -> Result<(), Error> {
        match self {
            Self::Nftables(nft) => Ok(nft.remove_all()?),
            Self::Iptables(iptables) => Ok(iptables.remove_all()?),
        }
    }

    /// Compatibility with the reference plugins.
    pub fn reference(&mut self) -> ReferenceRules<'_> {
        ReferenceRules(self)
    }

    /// Sockets whose closing may have to wait: to be left to a child.
    #[must_use]
    pub fn into_sockets(self) -> Vec<OwnedFd> {
        match self {
            Self::Nftables(nft) => nft.into_sockets(),
            Self::Iptables(_) => Vec::new(),
        }
    }
}
