//! The lab: hosts, containers and the outside world as network namespaces, and a runtime that
//! calls CNI plugins the way libcni does.
//!
//! Everything here touches the plugins from outside only: by environment, stdin, exit status, and
//! packets. A [`Host`] is a namespace with an uplink to an outside client; a [`Container`] is an
//! empty namespace with a path; a [`Runtime`] runs a [`Network`]'s plugin chain for an
//! [`Attachment`]; an [`Echo`] server tells every client which address it saw; a [`Snapshot`] is
//! all that an operation could have left on a host, as text to compare.
//!
//! Each object takes away what it made when it is dropped, names are unique in the machine, and
//! hosts share nothing, so that labs run side by side. The machine's own links, rules and sysctls
//! are never touched.
//!
//! What the lab does not do: it decides nothing about what is right. That is said by the tests in
//! `tests/`, by the demo, and by the bench's bars.
#![allow(
    clippy::disallowed_methods,
    reason = "commands and tests run programs, and are told by variables"
)]
#![allow(
    clippy::missing_errors_doc,
    clippy::must_use_candidate,
    reason = "each function of the lab fails with what it tried, in file and line of the test"
)]

mod admin;
mod chained;
mod cluster;
mod container;
mod containerd;
mod daemon;
mod etcd;
mod failure;
mod firewall;
mod fuzz;
mod host;
mod names;
mod nameserver;
mod network;
mod outcome;
mod overlay;
mod podman;
mod probe;
mod programs;
mod router;
mod runtime;
mod sample;
mod schemas;
mod scratch;
mod screen;
mod site;
mod slice;
mod snapshot;
mod station;
mod volley;

pub use chained::{Chained, chained_faults};
pub use cluster::Cluster;
pub use container::Container;
pub use containerd::{Containerd, Pod};
pub use daemon::{Daemon, processes_with};
pub use etcd::{Authority, Etcd, openssl};
pub use failure::{Failure, Outcome};
pub use firewall::Backend;
pub use fuzz::{Dice, fuzz};
pub use host::{HOST_V4, HOST_V6, Host, OUTSIDE_V4, OUTSIDE_V6, SECOND_V4, SECOND_V6, cable};
pub use names::same;
pub use nameserver::{NameServer, WRONG};
pub use network::{Attachment, Network};
pub use outcome::{CniError, Finished};
pub use overlay::{Overlay, Peer, Subnet, Switch};
pub use podman::{IMAGE, Podman};
pub use probe::{Ask, BOTH, Echo, NoReply, Reply, tcp, udp};
pub use programs::{Programs, find, libraries, missing, target_dir};
pub use router::{Advertisement, Router, advertise};
pub use runtime::{Call, Runtime};
pub use sample::{Joined, Sample, samples, samples_of_others};
pub use schemas::shipped_schemas;
pub use scratch::Scratch;
pub use screen::Screen;
pub use site::{Published, Site};
pub use slice::{slice, whole};
pub use snapshot::Snapshot;
pub use station::Protocol;
pub use volley::{Shot, ShotOutcome, Volley};
