//! A host and a container, both fresh namespaces that go with the test.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pontoon_lab::{Echo, udp};
use pontoon_netlink::{BridgeSpec, IpNetwork, Link, Netns, RouteSocket, Setup, Veth, VethSpec};

pub(crate) const MAC: [u8; 6] = [2, 0x42, 0, 0, 0, 2];

pub(crate) struct Scene {
    pub(crate) host: Netns,
    pub(crate) container: Netns,
    pub(crate) outer: RouteSocket,
    pub(crate) inner: RouteSocket,
}

impl Scene {
    #[track_caller]
    pub(crate) fn new() -> Scene {
        let host = Netns::create_unnamed().expect("a namespace (these tests need root)");
        let container = Netns::create_unnamed().expect("a namespace");
        let outer = RouteSocket::open_in(&host).expect("a socket in the host");
        let inner = RouteSocket::open_in(&container).expect("a socket in the container");
        Scene {
            host,
            container,
            outer,
            inner,
        }
    }

    #[track_caller]
    pub(crate) fn bridge(&mut self, name: &str) -> Link {
        let spec = BridgeSpec {
            name,
            mac: [2, 0x42, 0, 0, 0, 1],
            ..BridgeSpec::default()
        };
        self.outer.create_bridge(&spec).expect("a bridge")
    }

    #[track_caller]
    pub(crate) fn plug(&mut self, master: Option<u32>) -> Veth {
        let spec = VethSpec {
            master,
            peer_mac: Some(MAC),
            ..VethSpec::new("veth0", "eth0", &self.container)
        };
        self.outer.create_veth(&spec).expect("a veth pair")
    }

    /// A container on a bridge, both with an address of either family.
    #[track_caller]
    pub(crate) fn connected() -> (Scene, Link, Veth) {
        let mut scene = Scene::new();
        let bridge = scene.bridge("br0");
        let veth = scene.plug(Some(bridge.index));
        for address in ["10.9.0.1/24", "fd09::1/64"] {
            assert!(
                scene
                    .outer
                    .add_address(bridge.index, net(address), true)
                    .expect("a gateway address")
            );
        }
        let lo = Setup {
            lo_up: true,
            index: bridge.index,
            ..Setup::default()
        };
        scene.outer.configure(&lo).expect("the host's loopback");
        let addresses = [net("10.9.0.2/24"), net("fd09::2/64")];
        let setup = Setup {
            lo_up: true,
            index: veth.peer_index,
            addresses: &addresses,
            up: true,
            ..Setup::default()
        };
        scene.inner.configure(&setup).expect("the container's side");
        (scene, bridge, veth)
    }
}

pub(crate) fn net(text: &str) -> IpNetwork {
    text.parse().expect("a prefix")
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Sends a word by UDP from one namespace to a server in another and back: true when it came round.
#[track_caller]
pub(crate) fn talk(from: &Netns, to: &Netns, address: &str, port: u16) -> bool {
    let _server = Echo::start(to, "server", port).expect("a server");
    let target = SocketAddr::new(ip(address), port);
    from.run(|| udp(target, Duration::from_secs(5)))
        .expect("the namespace")
        .is_ok()
}
