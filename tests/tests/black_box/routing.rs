//! Addresses and routes of hosts and containers, and the packets that they lead.

mod egress;
mod moved_addresses;
mod reverse_path;
mod routed_host;
mod router_advertisements;
