//! The command line.

use std::path::PathBuf;

/// Which process of a resolver this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The first one: privileged, it starts the others.
    Keeper,
    /// It answers questions, without privileges.
    Worker,
    /// It takes the keeper's place when that is gone.
    Standby,
}

/// What the daemon is told at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// The keeper, unless an internal argument says otherwise.
    pub(crate) role: Role,
    /// The state directory of the plugins.
    pub(crate) state: PathBuf,
    /// Do not end with the last record.
    pub(crate) stay: bool,
    /// Started by a plugin: leave everything of its behind.
    pub(crate) detached: bool,
}

/// Whether this program can ask servers over TLS.
pub(crate) const DNS_OVER_TLS: bool = cfg!(feature = "dns-over-tls");

/// The version, and what the plugin has to know of the build.
fn version() -> String {
    let with = if DNS_OVER_TLS { "with" } else { "without" };
    format!(
        "pontoon-dns {}, {with} DNS over TLS",
        env!("CARGO_PKG_VERSION")
    )
}

const USAGE: &str = "pontoon-dns: the embedded resolver of container networks

usage: pontoon-dns [--state DIR] [--stay] [--detached]

  --state DIR   state directory of the plugins (default /run/pontoon)
  --stay        do not end when the last record is gone
  --detached    own session, no inherited descriptors; `ready PORT` on standard output
  --help        this text
  --version     the version";

impl Options {
    /// Reads the arguments; the error is text for standard error.
    pub(crate) fn parse(arguments: Vec<String>) -> Result<Self, String> {
        let mut options = Self {
            role: Role::Keeper,
            state: "/run/pontoon".into(),
            stay: false,
            detached: false,
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--state" => match arguments.next() {
                    // The other processes do not share the working directory.
                    Some(dir) => {
                        options.state = std::path::absolute(&dir).unwrap_or_else(|_| dir.into());
                    }
                    None => return Err(format!("--state needs a directory\n\n{USAGE}")),
                },
                "--stay" => options.stay = true,
                "--worker" => options.role = Role::Worker,
                "--standby" => options.role = Role::Standby,
                "--detached" => options.detached = true,
                "--help" => return Err(USAGE.to_owned()),
                "--version" => return Err(version()),
                other => return Err(format!("unknown argument {other:?}\n\n{USAGE}")),
            }
        }
        Ok(options)
    }
}
