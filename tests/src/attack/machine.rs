//! All that a verb could leave on a machine: on the host, in the container, in files, mounts and
//! processes. What concerns the container is written with a fixed name for it, so that what is seen
//! before and after can be compared although the container is another one.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use pontoon_lab::{Container, Failure, Outcome, Snapshot, find, missing};
use pontoon_netlink::{Netns, RouteSocket};

use super::scene::{Neighbour, Scene};

/// What the container is called in what is seen.
const VICTIM: &str = "VICTIM";

type Lines = Vec<(&'static str, String)>;

/// Looks at the machine of a scene.
pub(crate) fn look(scene: &Scene) -> Outcome<Snapshot> {
    let mut lines: Lines = Vec::new();
    let host = &scene.site.host;
    let inside = scene.container();
    lines.extend(
        host.run(|| network("host"))?
            .map_err(Failure::act("look at the host"))?,
    );
    if let Some(container) = inside {
        lines.extend(
            container
                .run(|| network("container"))?
                .map_err(Failure::act("look into the container"))?,
        );
    }
    rules(scene, &mut lines)?;
    files("state", &host.state_dir(), true, &mut lines)?;
    if scene.kind.neighbour != Neighbour::None {
        // There as long as anything is.
        lines.retain(|(heading, line)| {
            *heading != "state"
                || !["draft/", "lock/"].contains(&line.split(' ').next().unwrap_or_default())
        });
    }
    files("leases", scene.site.leases.path(), false, &mut lines)?;
    mounts(scene, &mut lines)?;
    processes(host.netns(), inside, &mut lines);
    let mut by_heading: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (heading, line) in lines {
        let line = match inside {
            Some(container) => line.replace(&container.id, VICTIM),
            None => line,
        };
        by_heading.entry(heading).or_default().push(line);
    }
    Ok(by_heading
        .into_iter()
        .fold(Snapshot::default(), |all, (heading, lines)| {
            all.with(heading, lines)
        }))
}

/// Links, addresses, routes, rules, queueing and sysctls of the namespace of this thread.
fn network(place: &str) -> Result<Lines, pontoon_netlink::Error> {
    let mut lines: Lines = Vec::new();
    let mut socket = RouteSocket::open()?;
    let links = socket.links()?;
    let names: BTreeMap<u32, &str> = links
        .iter()
        .map(|link| (link.index, link.name.as_str()))
        .collect();
    let name = |index: Option<u32>| index.and_then(|index| names.get(&index)).unwrap_or(&"-");
    for link in &links {
        // The hardware address of a veth is drawn by lot.
        lines.push((
            "links",
            format!(
                "{} {place} {:?} mtu {} up {} promisc {} allmulti {} queue {} master {} group {} alias {:?} rp {} localnet {}",
                link.name, link.kind, link.mtu, link.up, link.promisc, link.allmulti,
                link.tx_queue_length, name(link.master), link.group, link.alias, link.rp_filter,
                link.route_localnet
            ),
        ));
        if let Some(root) = socket.root_qdisc(link.index)? {
            lines.push(("tc", format!("{} {place} {root:?}", link.name)));
        }
        if let Some(to) = socket.ingress_redirection(link.index)? {
            lines.push((
                "tc",
                format!("{} {place} ingress to {}", link.name, name(Some(to))),
            ));
        }
    }
    for v4 in [true, false] {
        for address in socket.all_addresses(v4)? {
            // fe80::/10 comes by itself, a second after its link.
            if address.scope != 253 {
                lines.push((
                    "addresses",
                    format!("{} {place} {}", name(Some(address.index)), address.cidr),
                ));
            }
        }
        for route in socket.all_routes(v4)? {
            let own = route.destination.ip().to_string();
            if own.starts_with("fe80") || own.starts_with("ff00") {
                continue;
            }
            lines.push((
                "routes",
                format!(
                    "{} {place} {} via {:?} source {:?} metric {:?} table {} scope {} kind {}",
                    name(route.interface),
                    route.destination,
                    route.gateway,
                    route.prefsrc,
                    route.priority,
                    route.table,
                    route.scope,
                    route.kind
                ),
            ));
        }
        for rule in socket.source_rules(v4)? {
            lines.push(("routing rules", format!("{place} {rule:?}")));
        }
    }
    for tree in ["net/ipv4", "net/ipv6", "net/core", "net/bridge"] {
        sysctls(place, Path::new("/proc/sys"), tree, &mut lines);
    }
    Ok(lines)
}

/// Values under a directory of /proc/sys. What cannot be read, as secrets that have no value yet, says
/// nothing.
fn sysctls(place: &str, root: &Path, below: &str, lines: &mut Lines) {
    for entry in fs::read_dir(root.join(below))
        .into_iter()
        .flatten()
        .flatten()
    {
        let path = format!("{below}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            // Neighbours have settings that nothing of ours changes, many of them.
            if !path.contains("/neigh") {
                sysctls(place, root, &path, lines);
            }
        } else if let Ok(value) = fs::read_to_string(entry.path()) {
            let mut parts = path.splitn(5, '/').skip(2);
            let (kind, link) = (parts.next(), parts.next().unwrap_or("-"));
            // The link first, so that a bridge which stays can be left out.
            let link = if kind == Some("conf") { link } else { "-" };
            lines.push((
                "sysctls",
                format!("{link} {place} {path} = {}", value.trim()),
            ));
        }
    }
}

/// The rule sets as their own tools show them, without counters.
fn rules(scene: &Scene, lines: &mut Lines) -> Outcome {
    let host = &scene.site.host;
    let nft = find("nft").ok_or_else(|| missing("nft"))?;
    let text = host.command(Command::new(nft).args(["-s", "list", "ruleset"]))?;
    let mut table = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("table ") {
            table = name.trim_end_matches(['{', ' ']);
        }
        // Elements of a set stand in no order.
        for part in line.trim().split(", ") {
            let part = part.trim_matches([' ', '{', '}']);
            let empty = part.is_empty() || table_of_iptables(table);
            if !empty {
                let part = part.strip_prefix("elements = { ").unwrap_or(part);
                lines.push(("nftables", format!("{table}: {part}")));
            }
        }
    }
    if scene.site.backend == pontoon_lab::Backend::Nftables {
        return Ok(());
    }
    let multi = find("xtables-nft-multi").ok_or_else(|| missing("xtables-nft-multi"))?;
    for save in ["iptables-save", "ip6tables-save"] {
        let text = host.command(Command::new(&multi).arg(save))?;
        let mut table = "";
        for line in text.lines() {
            match line.split_at_checked(1) {
                Some(("*", name)) => table = name,
                // The kernel makes its built-in chains as soon as a program lists the table.
                Some((":", chain)) if chain.contains(" - ") => {
                    let name = chain.split(' ').next().unwrap_or(chain);
                    lines.push(("iptables", format!("{save} {table}: chain {name}")));
                }
                Some(("-", _)) => lines.push(("iptables", format!("{save} {table}: {line}"))),
                _ => {}
            }
        }
    }
    Ok(())
}

/// These are shown by iptables-save.
fn table_of_iptables(table: &str) -> bool {
    let (family, name) = table.split_once(' ').unwrap_or((table, ""));
    ["ip", "ip6"].contains(&family) && ["nat", "filter", "mangle", "raw"].contains(&name)
}

/// All below a directory, with modes; contents where they matter.
fn files(heading: &'static str, root: &Path, contents: bool, lines: &mut Lines) -> Outcome {
    let mut rest = vec![root.to_path_buf()];
    while let Some(path) = rest.pop() {
        let Ok(found) = fs::symlink_metadata(&path) else {
            continue;
        };
        let name = path.strip_prefix(root).unwrap_or(&path).display();
        // Files that wait to become leases, a few of them, lie ready in any number.
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(".pontoon-spare"))
        {
            continue;
        }
        let mode = found.permissions().mode();
        if found.is_dir() {
            lines.push((heading, format!("{name}/ {mode:o}")));
            for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
                rest.push(entry.path());
            }
            continue;
        }
        // Binary files are indexes, which may change.
        let text = if contents && found.is_file() && found.len() < 100_000 {
            fs::read(&path)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
        } else {
            None
        };
        let target = fs::read_link(&path).ok();
        lines.push((
            heading,
            format!(
                "{name} {mode:o} {} {}",
                text.map_or_else(String::new, |text| format!("{text:?}")),
                target.map_or_else(String::new, |target| target.display().to_string())
            ),
        ));
    }
    Ok(())
}

/// Mounts that concern the container or the host's state.
fn mounts(scene: &Scene, lines: &mut Lines) -> Outcome {
    let text = fs::read_to_string("/proc/thread-self/mountinfo")
        .map_err(Failure::act("read the mounts"))?;
    let state = scene.site.host.state_dir().display().to_string();
    let id = scene.container().map(|container| container.id.as_str());
    for line in text.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let Some(place) = fields.get(4) else { continue };
        if place.starts_with(&state) || id.is_some_and(|id| place.contains(id)) {
            // The namespace's own mount shows its number, which differs from container to container.
            lines.push(("mounts", (*place).to_owned()));
        }
    }
    Ok(())
}

/// Processes in the host's and the container's namespace.
fn processes(host: &Netns, container: Option<&Container>, lines: &mut Lines) {
    let mut places = vec![("host", host.id())];
    places.extend(container.map(|container| ("container", container.netns().id())));
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(netns) = Netns::open(&path.join("ns/net")) else {
            continue;
        };
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        for (place, id) in &places {
            if netns.id() == *id {
                lines.push(("processes", format!("{place} {}", name.trim())));
            }
        }
    }
}
