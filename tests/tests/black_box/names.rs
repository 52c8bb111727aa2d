//! Names of containers: the plugin dns and the resolver.

mod abilities;
mod alone;
mod basic;
mod churn;
mod dnsmasq;
mod forward;
mod internal;
mod limits;
mod privileges;
mod tls;
mod words;
