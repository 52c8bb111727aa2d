//! Records for tests.

use crate::record::{Record, VERSION};

pub(crate) fn record(network: &str, container: &str, address: &str) -> Record {
    Record {
        version: VERSION,
        network: network.into(),
        container: container.into(),
        interface: "eth0".into(),
        names: vec![container.into()],
        aliases: Vec::new(),
        links: Vec::new(),
        addresses: vec![address.parse().unwrap()],
        gateways: Vec::new(),
        domain: "dns.pontoon".into(),
        ttl: 5,
        servers: Vec::new(),
        upstreams: Vec::new(),
        domains: Vec::new(),
        upstreams_ca: None,
        resolv_conf: "/etc/resolv.conf".into(),
        netns: None,
        internal: false,
        subnets: Vec::new(),
        service: None,
    }
}
