//! The nftables backend against the kernel: what nft lists, and what packets do.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests run nft and ip to look at the outcome, and end where something fails"
)]

mod lab;
mod packets;
mod policy;
mod reach;
mod ruleset;
mod scale;
mod subnets;
mod wire;
