//! The reference plugins are exchanged for these, and back, below running containers.

mod containers;
mod leases;
