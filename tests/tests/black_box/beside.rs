//! Beside the rules of others: Docker, firewalld, filters, and both backends at once.

mod docker;
mod filters;
mod firewalld;
mod mixed_backends;
