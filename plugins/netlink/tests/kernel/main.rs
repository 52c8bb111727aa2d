//! Against the real kernel, in namespaces of the tests' own. Needs root.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test runs programs, and ends where something fails"
)]

mod bridge;
mod conntrack;
mod detached_child;
mod lints;
mod netfilter;
mod netns;
mod routing;
mod scene;
mod setup;
mod traffic;
mod veth;
mod vxlan;
