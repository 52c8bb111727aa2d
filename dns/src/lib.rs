//! The embedded resolver: names of the containers of a network, answered on its gateway addresses.
//!
//! Nothing is here yet but the crate itself. It will hold the zone, the answer as a pure function of
//! (zone snapshot, source, question), forwarding to the container's or the host's own servers, and
//! the resolv.conf that works inside a container. Registering names is the business of a plugin.
