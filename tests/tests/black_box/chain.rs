//! Plugins of a chain and their keys, one file each.

mod bandwidth;
mod devices;
mod devices_names;
mod ptp;
mod sbr;
mod sbr_keys;
mod static_addresses;
mod tuning;
