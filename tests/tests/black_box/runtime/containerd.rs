//! A real containerd 1.6: pods by the Container Runtime Interface, as a kubelet makes them, and
//! containers by `ctr run --cni`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pontoon_lab::{
    BOTH, Backend, Containerd, Failure, HOST_V4, NoReply, Outcome, Site, Snapshot, same,
};
use serde_json::{Value, json};

const WAIT: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_millis(500);

/// A kubelet's usual chain.
fn network(backend: Backend) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
                "hairpinMode": true, "ipMasqBackend": backend.key(),
                "ipam": {
                    "type": "host-local", "ranges": [[{ "subnet": "10.96.1.0/24" }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            },
            { "type": "portmap", "backend": backend.key(), "capabilities": { "portMappings": true } },
            { "type": "bandwidth", "capabilities": { "bandwidth": true } },
            { "type": "firewall", "backend": backend.key() },
        ],
    })
}

fn each(test: fn(&Site, &Containerd<'_>) -> Outcome) -> Outcome {
    Backend::ALL.into_iter().try_for_each(|backend| {
        let tried = || {
            let site = Site::new(backend)?;
            let containerd = Containerd::start(&site, &network(backend))?;
            let before = containerd.snapshot()?;
            test(&site, &containerd)?;
            gone(&containerd, &before)
        };
        tried().map_err(|error| Failure::new(format!("{backend}: {error}")))
    })
}

/// Nothing is left a second after the last pod, but the bridge, as docker0 stays.
fn gone(containerd: &Containerd<'_>, before: &Snapshot) -> Outcome {
    let before = before.clone().without("sysctls");
    let look = || {
        let now = containerd.snapshot()?.without("sysctls");
        Ok(now.without_link("cni0"))
    };
    before.settles(look, "containerd")
}

fn pods(site: &Site, containerd: &Containerd<'_>) -> Outcome {
    containerd.call(&["ready"])?;
    let web = containerd.pod(&json!({
        "name": "web",
        "ports": [["tcp", 8095, 80, ""], ["udp", 8095, 80, ""], ["udp", 5353, 80, "198.18.7.1"]],
        "annotations": {
            "kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "20M",
        },
    }))?;
    let client = containerd.pod(&json!({ "name": "client" }))?;
    let server = web.serve("web", 80)?;
    for (protocol, ask) in BOTH {
        let target = SocketAddr::new(HOST_V4, 8095);
        let what = format!("{protocol} to {target}");
        let answer = site.host.run_outside(|| ask(target, WAIT))?;
        let answer = answer.map_err(|none| Failure::new(format!("{what}: {none}")))?;
        same(&what, &answer.server, "web")?;
        // Pod to pod, by address and by the published port.
        let address: IpAddr = web
            .address
            .parse()
            .map_err(Failure::act("read an address"))?;
        for target in [SocketAddr::new(address, 80), target] {
            let answer = client.netns.run(|| ask(target, WAIT));
            let answer = answer.map_err(Failure::act("enter a pod"))?;
            answer.map_err(|none| {
                Failure::new(format!("{protocol} from a pod to {target}: {none}"))
            })?;
        }
    }
    let (_, udp) = BOTH[1];
    let target = SocketAddr::new(HOST_V4, 5353);
    let answer = site.host.run_outside(|| udp(target, WAIT))?;
    answer.map_err(|none| Failure::new(format!("UDP to {target}: {none}")))?;
    let limited = containerd.snapshot()?;
    if !limited
        .lines("links")
        .iter()
        .any(|line| line.starts_with("bwp"))
    {
        return Err(Failure::new("no limit was set"));
    }
    drop(server);
    // A kubelet stops a pod, which is a DEL, and removes it later: one without a namespace.
    containerd.call(&["stop", &web.id])?;
    let (_, tcp) = BOTH[0];
    let target = SocketAddr::new(HOST_V4, 8095);
    let answer = site.host.run_outside(|| tcp(target, SOON))?;
    if !matches!(answer, Err(NoReply::Refused | NoReply::Timeout)) {
        return Err(Failure::new(format!("a stopped pod's port: {answer:?}")));
    }
    containerd.call(&["stop", &client.id])?;
    containerd.call(&["remove", &web.id])?;
    containerd.call(&["remove", &client.id])?;
    if !containerd.call(&["list"])?.is_empty() {
        return Err(Failure::new("a removed pod is there"));
    }
    Ok(())
}

fn by_ctr(_: &Site, containerd: &Containerd<'_>) -> Outcome {
    let image = "localhost/box:1";
    for name in ["one", "two"] {
        let told = containerd.ctr(&[
            "run", "--rm", "--cni", image, name, "/bin/ip", "-o", "addr", "show", "eth0",
        ])?;
        if !told.contains("10.96.1.") {
            return Err(Failure::new(format!("ctr run --cni: {told}")));
        }
    }
    Ok(())
}

#[test]
fn pods_of_a_kubelet() -> Outcome {
    each(pods)
}

#[test]
fn containers_of_ctr() -> Outcome {
    each(by_ctr)
}
