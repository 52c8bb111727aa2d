//! Against the real kernel, in namespaces of the tests' own. Needs root.

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
