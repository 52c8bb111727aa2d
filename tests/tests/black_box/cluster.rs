//! Networks over several hosts: three hosts on one switch, a member of etcd on each, and the agent.
#![allow(
    clippy::print_stdout,
    reason = "times are a part of what these tests tell"
)]

mod agents;
mod commands;
mod demo;
mod doctor;
mod doctor_etcd;
mod failures;
mod guests;
mod names;
mod packets;
mod readme;
mod scene;
mod service_flows;
mod services;
mod tasks;
mod tls;
