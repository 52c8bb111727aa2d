//! Tests of the built binaries from outside, one module for each theme. One program holds all of
//! them, so that linking is paid once.
//!
//! `cargo xtask test` runs each module of a theme as a process of its own, and says how long each
//! took; `cargo test --package xtask --test black_box` runs all of them in one process.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests run programs, are told by variables, and end where something fails"
)]

mod admin;
mod beside;
mod chain;
mod cluster;
mod doctor;
mod house;
mod modes;
mod names;
mod overlay;
mod policy;
mod ports;
mod protocol;
mod routing;
mod runtime;
mod swap;
mod trace;
