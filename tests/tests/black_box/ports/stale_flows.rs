//! What is cut when a port is published: flows that go where the port no longer leads, and never one
//! to the container that has it now, however late the order comes.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use pontoon_lab::{Attachment, Backend, Container, Echo, Failure, HOST_V4, Outcome, Site, udp};
use pontoon_netlink::conntrack::Conntrack;

const UDP: u8 = 17;
const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn a_flow_to_the_container_stays() -> Outcome {
    for backend in Backend::ALL {
        let site = Site::new(backend)?;
        let network = site.network("flows", "flows0", &["10.71.0.0/24"]);
        let container = Container::new("flows")?;
        let mut attachment = Attachment::new(&container).publish("", 8080, 80, "udp");
        site.runtime().add(&network, &mut attachment)?;
        let servers = (
            container.serve(80)?,
            Echo::start(site.host.netns(), "host", 8081)?,
        );
        for port in [8080, 8081] {
            let target = SocketAddr::new(HOST_V4, port);
            site.host
                .run_outside(|| udp(target, PATIENCE))?
                .map_err(|silence| Failure::new(format!("{backend}: port {port}: {silence}")))?;
        }
        // The second port leads to the host itself: its flow is one that a new rule would not reach.
        let left = site.host.run(|| -> Outcome<Vec<u16>> {
            let mut conntrack = Conntrack::open().map_err(Failure::act("open conntrack"))?;
            for port in [8080, 8081] {
                conntrack
                    .cut_stale(&[(UDP, port, None)], true, None)
                    .map_err(Failure::act("cut flows"))?;
            }
            let flows = fs::read_to_string("/proc/thread-self/net/nf_conntrack")
                .map_err(Failure::act("list flows"))?;
            let to = |port: &u16| flows.contains(&format!("dport={port} "));
            Ok([8080, 8081].into_iter().filter(to).collect())
        })??;
        if left != [8080] {
            return Err(Failure::new(format!(
                "{backend}: flows are left to ports {left:?} instead of the container's alone"
            )));
        }
        drop(servers);
    }
    Ok(())
}
