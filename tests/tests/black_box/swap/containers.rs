//! Binaries exchanged under running containers: what the reference plugins have made, ours take
//! away, and the other way round, by the same conflist.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::thread;
use std::time::Duration;

use pontoon_lab::{
    Attachment, BOTH, Backend, Call, Container, Failure, HOST_V4, HOST_V6, Network, Outcome,
    Programs, Runtime, Scratch, Site, Snapshot, find, missing, same, slice,
};
use serde_json::json;

const WAIT: Duration = Duration::from_secs(3);

/// Containers of each set of binaries.
const EACH: usize = 50;
/// Containers that come and go at a time.
const HANDS: usize = 5;

/// One container and its attachment.
struct Guest {
    container: Container,
    attachment: Attachment,
}

struct Swap<'s> {
    site: &'s Site,
    network: Network,
    reference: Programs,
    path: OsString,
    // Only held: PATH points into it.
    _tools: Scratch,
}

impl<'s> Swap<'s> {
    fn new(site: &'s Site, version: &str) -> Outcome<Self> {
        let backend = site.backend;
        let subnets = ["10.78.0.0/24", "fd00:78::/64"];
        let mut list = site.network("swap", "swap0", &subnets).list().clone();
        list["cniVersion"] = json!("1.0.0");
        let mut more = vec![
            json!({ "type": "tuning", "sysctl": { "net.ipv4.conf.IFNAME.arp_filter": "1" } }),
            json!({
                "type": "bandwidth", "ingressRate": 80_000_000, "ingressBurst": 8_000_000,
                "egressRate": 80_000_000, "egressBurst": 8_000_000,
            }),
        ];
        // The reference's portmap and bridge know nftables, its firewall does not.
        if backend != Backend::Nftables {
            more.push(json!({ "type": "firewall", "backend": "iptables" }));
        }
        if let Some(plugins) = list["plugins"].as_array_mut() {
            plugins.extend(more);
        }
        if version == "1.1.1" {
            for plugin in list["plugins"].as_array_mut().into_iter().flatten() {
                for key in ["backend", "ipMasqBackend"] {
                    if plugin["type"] != "firewall"
                        && let Some(plugin) = plugin.as_object_mut()
                    {
                        plugin.remove(key);
                    }
                }
            }
        }
        // The reference runs nft; where there is iptables too, its DEL wants rules of both.
        let tools = Scratch::new("nft")?;
        let mut path = site.runtime().path().to_owned();
        if backend == Backend::Nftables {
            let nft = find("nft").ok_or_else(|| missing("nft"))?;
            symlink(nft, tools.path().join("nft")).map_err(Failure::act("link nft"))?;
            path = tools.path().into();
        }
        Ok(Self {
            site,
            network: Network::from_list(list),
            reference: Programs::reference(version)?,
            path,
            _tools: tools,
        })
    }

    fn runtime(&self, ours: bool) -> Runtime<'_> {
        if ours {
            self.site.runtime()
        } else {
            Runtime::new(&self.site.host, &self.reference, &self.path)
        }
    }

    /// So many containers more, several at a time.
    fn join(&self, ours: bool, first: usize, count: usize) -> Outcome<Vec<Guest>> {
        let one = |number: usize| -> Outcome<Guest> {
            let container = Container::new("swap")?;
            let port = u16::try_from(20000 + number).map_err(Failure::act("number a port"))?;
            let mut attachment = Attachment::new(&container)
                .publish("", port, 80, "tcp")
                .publish("", port, 80, "udp");
            self.runtime(ours).add(&self.network, &mut attachment)?;
            Ok(Guest {
                container,
                attachment,
            })
        };
        let hands = |hand: usize| -> Outcome<Vec<Guest>> {
            (first..first + count)
                .filter(|number| number % HANDS == hand)
                .map(&one)
                .collect()
        };
        thread::scope(|scope| {
            let all: Vec<_> = (0..HANDS)
                .map(|hand| scope.spawn(move || hands(hand)))
                .collect();
            let mut guests = Vec::new();
            for hand in all {
                let done = hand.join().map_err(|_| Failure::new("a hand panicked"))?;
                guests.extend(done?);
            }
            Ok(guests)
        })
    }

    /// DEL of these, several at a time.
    fn leave(&self, ours: bool, guests: &[Guest]) -> Outcome {
        let runtime = self.runtime(ours);
        thread::scope(|scope| {
            let all: Vec<_> = (0..HANDS)
                .map(|hand| {
                    let (runtime, network) = (&runtime, &self.network);
                    scope.spawn(move || {
                        let own = guests.iter().skip(hand).step_by(HANDS);
                        own.map(|guest| {
                            let done = runtime.del(network, &guest.attachment);
                            done.map_err(Failure::from)
                        })
                        .collect::<Outcome<Vec<()>>>()
                    })
                })
                .collect();
            for hand in all {
                hand.join().map_err(|_| Failure::new("a hand panicked"))??;
            }
            Ok(())
        })
    }
}

/// The addresses of all, of both families, none twice.
fn distinct(guests: &[Guest]) -> Outcome {
    let given = guests.iter().flat_map(|guest| {
        let families = [false, true].into_iter();
        families.filter_map(|v6| guest.attachment.address(v6))
    });
    let distinct: BTreeSet<String> = given.collect();
    if distinct.len() == 2 * guests.len() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{} containers have {} addresses of two families",
        guests.len(),
        distinct.len()
    )))
}

/// Nothing names a container or an address of one, no chain of one is there, no device, no lease.
/// What the reference's containers share stays, as it leaves it itself.
fn only_shared(swap: &Swap<'_>, before: &Snapshot) -> Outcome {
    let after = swap.site.snapshot()?;
    let theirs = ["swap-", "10.78.0.", "fd00:78::", "CNI-DN-"];
    let masquerades = |line: &str| {
        let chain = line.split(&[' ', '"'][..]);
        let mut hashes = chain.filter_map(|word| word.strip_prefix("CNI-"));
        hashes.any(|rest| rest.len() == 24 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let mut left: Vec<String> = after
        .lines("rules")
        .into_iter()
        .filter(|line| theirs.iter().any(|word| line.contains(word)) || masquerades(line))
        .map(str::to_owned)
        .collect();
    for heading in ["links", "leases", "state"] {
        let known = before.lines(heading);
        let now = after.lines(heading).into_iter();
        left.extend(
            now.filter(|line| !known.contains(line) && !line.starts_with("swap0 "))
                .map(|line| format!("{heading}: {line}")),
        );
    }
    if left.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!("left behind:\n{}", left.join("\n"))))
    }
}

/// These containers are reached at their published ports from outside.
fn reached(site: &Site, guests: &[&Guest]) -> Outcome {
    for guest in guests {
        let port = guest.attachment.capabilities["portMappings"][0]["hostPort"].as_u64();
        let port = port
            .and_then(|port| u16::try_from(port).ok())
            .unwrap_or_default();
        let _server = guest.container.serve(80)?;
        for (protocol, ask) in BOTH {
            for host in [HOST_V4, HOST_V6] {
                let target = SocketAddr::new(host, port);
                let answer = site.host.run_outside(|| ask(target, WAIT))?;
                let answer = answer
                    .map_err(|none| Failure::new(format!("{protocol} to {target}: {none}")))?;
                same("who answers", &answer.server, &guest.container.id)?;
            }
        }
    }
    Ok(())
}

/// Fifty by one, fifty by the other, half of each half deleted by either, at the same time.
fn exchanged(version: &str, backend: Backend, ours_first: bool) -> Outcome {
    let site = Site::new(backend)?;
    let swap = Swap::new(&site, version)?;
    let before = site.snapshot()?;
    // The reference makes shared chains without caring for others who do: one goes first.
    let mut guests = swap.join(ours_first, 0, 1)?;
    guests.extend(swap.join(ours_first, 1, EACH - 1)?);
    guests.extend(swap.join(!ours_first, EACH, 1)?);
    guests.extend(swap.join(!ours_first, EACH + 1, EACH - 1)?);
    distinct(&guests)?;
    let (first, second) = (&guests[..EACH], &guests[EACH..]);
    reached(
        &site,
        &[&first[0], &first[EACH - 1], &second[0], &second[EACH - 1]],
    )?;
    let (one, other) = (first.split_at(EACH / 2), second.split_at(EACH / 2));
    thread::scope(|scope| {
        let theirs = scope.spawn(|| swap.leave(false, one.0).and(swap.leave(false, other.0)));
        let ours = swap
            .leave(true, &one.1[1..])
            .and(swap.leave(true, &other.1[1..]));
        ours.and(theirs.join().map_err(|_| Failure::new("a hand panicked"))?)
    })?;
    // Of each kind one is there, and works as before.
    reached(&site, &[&one.1[0], &other.1[0]])?;
    swap.leave(true, &one.1[..1])?;
    swap.leave(true, &other.1[..1])?;
    let gc = swap.network.clone().in_version("1.1.0");
    site.runtime().gc(&gc, &[])?;
    only_shared(&swap, &before)
}

fn each(version: &str, backend: Backend) -> Outcome {
    let name = format!("swap, {version}, {backend}");
    for ours_first in slice(&name, [true, false], 1) {
        exchanged(version, backend, ours_first).map_err(|error| {
            let order = if ours_first {
                "there first"
            } else {
                "there later"
            };
            Failure::new(format!("{version}, {backend}, ours {order}: {error}"))
        })?;
    }
    Ok(())
}

/// GC with a list takes what the reference made for a container that is lost, and nothing of one that is
/// not; without a list nothing.
fn collected(version: &str, backend: Backend) -> Outcome {
    let site = Site::new(backend)?;
    let swap = Swap::new(&site, version)?;
    let before = site.snapshot()?;
    let mut guests = swap.join(false, 0, 1)?;
    guests.extend(swap.join(false, 1, 1)?);
    let gc = swap.network.clone().in_version("1.1.0");
    let whole = site.snapshot()?;
    let bare = Call::new(
        "GC",
        site.runtime().programs().dir(),
        gc.stdin(&gc.plugins()[0], &serde_json::Map::new(), None)
            .to_string(),
    );
    site.runtime().call("bridge", &bare)?.verdict("bridge GC")?;
    // An index of the leases is made, and nothing else.
    let after = site.snapshot()?.without("state");
    whole
        .without("state")
        .same_as(&after, "GC without a list")?;
    let lost = guests.pop().ok_or_else(|| Failure::new("no guest"))?;
    let (id, address) = (lost.container.id.clone(), lost.attachment.address(false));
    lost.container.kill()?;
    site.runtime().gc(&gc, &[&guests[0].attachment])?;
    let rules = site.snapshot()?;
    let address = format!("{}/", address.unwrap_or_default());
    let named = |line: &&str| line.contains(&id) || line.contains(&address);
    let left: Vec<&str> = rules.lines("rules").into_iter().filter(named).collect();
    if !left.is_empty() {
        return Err(Failure::new(format!("left behind:\n{}", left.join("\n"))));
    }
    reached(&site, &[&guests[0]])?;
    guests
        .pop()
        .map_or(Ok(()), |last| last.container.kill().map(drop))?;
    site.runtime().gc(&gc, &[])?;
    only_shared(&swap, &before)
}

/// CHECK passes of what the reference has attached and works: its rules are not called missing because ours
/// would look otherwise. What it lost of that which can be judged is told still.
fn judged(version: &str, backend: Backend) -> Outcome {
    let site = Site::new(backend)?;
    let swap = Swap::new(&site, version)?;
    let bridged = swap.network.list().clone();
    let portmap = bridged["plugins"][1].clone();
    let ipam = bridged["plugins"][0]["ipam"].clone();
    let mut first = json!({ "type": "ptp", "ipMasq": true, "ipam": ipam });
    if version != "1.1.1" {
        first["ipMasqBackend"] = json!(backend.key());
    }
    let mut routed = bridged.clone();
    routed["name"] = json!("routed");
    routed["plugins"] = json!([first, portmap]);
    for list in [bridged, routed] {
        let network = Network::from_list(list);
        let container = Container::new("theirs")?;
        let mut attachment = Attachment::new(&container).publish("", 20000, 80, "tcp");
        swap.runtime(false).add(&network, &mut attachment)?;
        site.runtime()
            .check(&network, &attachment)
            .map_err(|error| {
                Failure::new(format!("{version}, {backend}, {}: {error}", network.name()))
            })?;
        let mut other = attachment.clone();
        if let Some(result) = &mut other.result {
            result["ips"][0]["address"] = json!("10.78.0.99/24");
        }
        if site.runtime().check(&network, &other).is_ok() {
            return Err(Failure::new("CHECK of another address passes"));
        }
        site.runtime().del(&network, &attachment)?;
    }
    Ok(())
}

#[test]
fn check_of_what_the_reference_has_attached() -> Outcome {
    judged("1.9.1", Backend::IptablesNft)?;
    judged("1.1.1", Backend::IptablesLegacy)?;
    judged("1.9.1", Backend::Nftables)
}

#[test]
fn gc_of_what_the_reference_has_made() -> Outcome {
    for (version, backend) in [
        ("1.9.1", Backend::IptablesNft),
        ("1.1.1", Backend::IptablesLegacy),
        ("1.9.1", Backend::Nftables),
    ] {
        collected(version, backend)
            .map_err(|error| Failure::new(format!("{version}, {backend}: {error}")))?;
    }
    Ok(())
}

#[test]
fn under_load_with_iptables() -> Outcome {
    each("1.9.1", Backend::IptablesNft)
}

#[test]
fn under_load_with_legacy_iptables_and_the_older_reference() -> Outcome {
    each("1.1.1", Backend::IptablesLegacy)
}

#[test]
fn under_load_with_nftables() -> Outcome {
    each("1.9.1", Backend::Nftables)
}
