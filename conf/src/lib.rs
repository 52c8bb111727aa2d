//! # The CNI protocol as values
//!
//! A runtime talks to a plugin by environment variables and one JSON document on standard input,
//! and hears one JSON document on standard output. This crate turns the former into Rust values
//! that are already validated, and the latter from values into text, for every version of the
//! specification from 0.1.0 to 1.1.0.
//!
//! | value | from | for |
//! | --- | --- | --- |
//! | [`Invocation`] | the `CNI_*` variables | which verb, for whom, with which arguments |
//! | [`NetworkConfig`] | standard input | the network's name, version, keys, previous result |
//! | [`AddResult`] | a previous result, or a plugin's work | what ADD answers, in any version's shape |
//! | [`VersionInfo`] | standard input of VERSION | what VERSION answers |
//! | [`Error`] | anything that went wrong | the error object, with the code of the specification |
//!
//! Runtimes are mostly written in Go, and lean on what Go's JSON decoder forgives: keys in any
//! case, `null` for "absent". [`decode()`] forgives the same, for the structs of this crate and for
//! those of every plugin; what a plugin's own keys mean is the plugin's business.
//!
//! What this crate does not do: it reads no environment, no file, no socket and no clock, and it
//! prints nothing. Variables come in through a function, standard input as bytes, and output leaves
//! as a `String`. Reading them, printing them and choosing the exit status is the work of
//! `pontoon-plugin`; addresses are handed out by `pontoon-ipam`; the kernel belongs to
//! `pontoon-netlink` and `pontoon-netfilter`.
//!
//! Names that end up as file names, rule comments or interface names ([`ContainerId`], [`KnownAs`],
//! [`NetworkName`], [`IfName`], [`PluginType`]) exist only validated: code that holds one may use it
//! in a path without looking again.

mod args;
mod cidr;
mod config;
mod decode;
mod error;
mod invocation;
pub mod keys;
mod known_as;
mod mac;
mod names;
mod result;
mod version;

pub use args::Args;
pub use cidr::{Cidr, CidrError, address};
pub use config::{Attachment, ConfigError, NetworkConfig, excerpt};
pub use decode::{DecodeError, decode, field};
pub use error::{Error, OperationError, code};
pub use invocation::{Invocation, Verb};
pub use known_as::KnownAs;
pub use mac::{Mac, MacError};
pub use names::{ContainerId, IfName, NameError, NetworkName, PluginType};
pub use result::{AddResult, Dns, Interface, IpConfig, Route, address_or_none, blank_is_none};
pub use version::{UnknownVersion, Version, VersionInfo, banner};
