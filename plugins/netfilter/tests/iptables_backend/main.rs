//! The iptables backend against the kernel: both variants, real packets, in network namespaces
//! that live and die with the test's threads.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests call ip and iptables as an administrator does"
)]

mod bed;
mod coexistence;
mod concurrency;
mod detection;
mod foreign;
mod host_scene;
mod network;
mod packets;
mod policy;
mod published;
mod upkeep;
