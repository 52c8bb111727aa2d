//! The parts of the lab.

mod admin;
pub(crate) mod chained;
pub(crate) mod container;
pub(crate) mod containerd;
pub(crate) mod daemon;
pub(crate) mod failure;
pub(crate) mod firewall;
pub(crate) mod host;
pub(crate) mod names;
pub(crate) mod nameserver;
pub(crate) mod network;
pub(crate) mod outcome;
pub(crate) mod podman;
pub(crate) mod probe;
pub(crate) mod programs;
pub(crate) mod router;
pub(crate) mod runtime;
pub(crate) mod schemas;
pub(crate) mod scratch;
pub(crate) mod screen;
pub(crate) mod site;
pub(crate) mod snapshot;
pub(crate) mod station;
pub(crate) mod volley;
