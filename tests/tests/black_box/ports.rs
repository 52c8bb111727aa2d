//! Published ports.

mod doors;
mod host_addresses;
mod matrix;
mod port_limit;
mod port_taken;
mod stale_flows;
mod two_networks;
mod wide_range;
