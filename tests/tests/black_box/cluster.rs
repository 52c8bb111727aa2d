//! Networks over several hosts: three hosts on one switch, a member of etcd on each, and the agent.

mod agents;
mod commands;
mod failures;
mod guests;
mod names;
mod packets;
mod scene;
mod tls;
