//! `pontoon doctor`: looks for what keeps containers from working, says what it means and on what
//! evidence, and names the command that mends it. `--fix` runs the safe ones.

mod advertised;
mod bridges;
pub(crate) mod cluster;
mod conflists;
mod filters;
mod finding;
pub(crate) mod flows;
mod forwarding;
mod interiors;
mod kernel;
mod leftovers;
mod neighbours;
mod programs;
mod resolver;
mod rules;
mod shadowed;
pub(crate) mod sockets;
mod source_routes;
pub(crate) mod uplink;
mod variants;

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::rc::Rc;

use clap::Args;
use pontoon_ledger::{InterfaceSettings, Key};
use pontoon_netlink::{IpNetwork, Link, Neighbour, RouteEntry, RouteSocket};
use pontoon_passage::Rules;
use serde::Serialize;

use crate::conflist::Places;
use crate::facts::{Attachment, Host, Network};
use crate::inspect;
use crate::report::{Failure, Outcome, Style, need_root, print};
pub(crate) use finding::Finding;

#[derive(Args)]
pub(crate) struct Options {
    /// Look at one container, and at what it needs of the host
    #[arg(long, value_name = "ID")]
    container: Option<String>,
    /// Run the commands that are safe
    #[arg(long)]
    fix: bool,
    #[command(flatten)]
    places: Places,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One look at the host: the kinds of findings that it may give, and the look.
type Check = (
    &'static [&'static str],
    fn(&mut CheckInput, &mut Vec<Finding>) -> Result<(), Failure>,
);

/// All checks, in the order in which their findings are told. A check sees what those before it found.
const CHECKS: &[Check] = &[
    (&["forwarding-off"], forwarding::check),
    (&["router-advertisements-ignored"], advertised::check),
    (&["rp-filter-strict"], forwarding::reverse_path),
    (
        &[
            "bridge-down",
            "bridge-without-address",
            "bridge-with-wrong-address",
        ],
        bridges::check,
    ),
    (&["no-default-route", "uplink-down"], uplink::check),
    (&["subnet-overlaps-route"], bridges::routes),
    (&["mtu-too-large"], bridges::mtu),
    (&["container-unplugged"], bridges::unplugged),
    (&["hairpin-off", "loopback-closed"], bridges::publishing),
    (
        &[
            "host-end-down",
            "interface-gone",
            "interface-down",
            "address-missing",
            "route-missing",
        ],
        interiors::check,
    ),
    (&["neighbour-wrong"], neighbours::check),
    (
        &[
            "forward-dropped",
            "forward-dropped-by-nftables",
            "bridged-packets-filtered",
        ],
        filters::check,
    ),
    (&["iptables-variants-mixed"], variants::check),
    (
        &["rules-missing", "backend-unusable", "record-unreadable"],
        rules::check,
    ),
    (
        &[
            "container-gone",
            "lease-without-container",
            "pool-nearly-full",
            "veth-without-container",
        ],
        leftovers::check,
    ),
    (&["port-taken-by-process"], sockets::check),
    (
        &[
            "conf-dir-missing",
            "bin-dir-missing",
            "configuration-unreadable",
            "configuration-wrong",
            "plugin-missing",
            "plugin-not-executable",
            "plugin-of-another-vendor",
        ],
        conflists::check,
    ),
    (&["plugin-shadowed"], programs::check),
    (&["kernel-feature-missing"], kernel::check),
    (
        &[
            "resolver-not-running",
            "resolver-privileged",
            "no-usable-server",
            "server-silent",
        ],
        resolver::check,
    ),
    (&["flow-stale"], flows::check),
    (
        &["rules-without-container", "published-port-shadowed"],
        shadowed::check,
    ),
    (&["uplink-by-source"], source_routes::check),
    (cluster::KINDS, cluster::check),
];

/// What the checks look at.
pub(crate) struct CheckInput {
    pub(crate) host: Host,
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) networks: Vec<Network>,
    /// By attachment: what is in a container that is alive and has an interface of its own.
    pub(crate) insides: HashMap<Key, ContainerFacts>,
    /// Where programs are looked for.
    pub(crate) search: Vec<PathBuf>,
    pub(crate) places: Places,
    /// The rules of this host, read once.
    rules: OnceCell<Option<Rc<Rules>>>,
}

/// The inside of a container.
#[derive(Debug, Default)]
pub(crate) struct ContainerFacts {
    /// Its interface; none when that is gone.
    pub(crate) link: Option<Link>,
    /// Of its interface.
    pub(crate) addresses: Vec<IpNetwork>,
    /// Of the main table, and of those that its addresses have by rules (sbr).
    pub(crate) routes: Vec<RouteEntry>,
    /// Known by its interface.
    pub(crate) neighbours: Vec<Neighbour>,
    /// What the ADD gave it.
    pub(crate) settings: Option<InterfaceSettings>,
    /// Gateways of its default routes.
    pub(crate) gateways: Vec<std::net::IpAddr>,
    /// MTU of its interface.
    pub(crate) mtu: u32,
}

impl ContainerFacts {
    /// Whether the host is its gateway, as far as is known.
    pub(crate) fn needs_host(&self) -> bool {
        self.settings
            .as_ref()
            .is_none_or(|settings| settings.by_host)
    }

    /// Whether packets of the container, or to its published ports, are for the host to forward.
    pub(crate) fn is_forwarded(&self, one: &Attachment) -> bool {
        let routed = match &self.settings {
            Some(settings) => !settings.routes.is_empty(),
            None => !self.gateways.is_empty(),
        };
        self.needs_host() && (routed || !one.ports.is_empty())
    }
}

#[derive(Serialize)]
struct Report {
    findings: Vec<Finding>,
    mended: Vec<String>,
    looked_at: CheckCounts,
}

/// What has been looked at, so that no findings does not read like nothing looked at.
#[derive(Serialize)]
struct CheckCounts {
    checks: usize,
    networks: usize,
    containers: usize,
}

pub(crate) fn run(options: &Options) -> Outcome {
    need_root("look into containers, at rules and at leases")?;
    let mut mended = Vec::new();
    let (mut findings, mut looked_at) = examine(options)?;
    if options.fix {
        for finding in findings.iter().filter(|finding| finding.safe) {
            // Several findings may have one command.
            if !finding.mend.is_empty() && !mended.contains(&finding.mend) {
                shell(&finding.mend)?;
                mended.push(finding.mend.clone());
            }
        }
        if !mended.is_empty() {
            (findings, looked_at) = examine(options)?;
        }
    }
    let report = Report {
        findings,
        mended,
        looked_at,
    };
    print(options.json, &report, || text(&report))?;
    Ok(report.findings.is_empty())
}

fn examine(options: &Options) -> Result<(Vec<Finding>, CheckCounts), Failure> {
    let host = Host::look()?;
    let only = match &options.container {
        Some(wanted) => {
            let found = inspect::attachments_of(&host, wanted)?;
            found.first().map(|one| one.id.clone())
        }
        None => None,
    };
    let mut ground = CheckInput::read_host_facts(host, &options.places)?;
    let mut findings = Vec::new();
    for (kinds, look) in CHECKS {
        let before = findings.len();
        look(&mut ground, &mut findings)?;
        debug_assert!(
            findings[before..].iter().all(|one| kinds.contains(&one.id)),
            "each finding is listed with its check"
        );
    }
    let containers: BTreeSet<&str> = match &only {
        Some(id) => BTreeSet::from([id.as_str()]),
        None => ground
            .attachments
            .iter()
            .map(|one| one.id.as_str())
            .collect(),
    };
    let looked_at = CheckCounts {
        checks: CHECKS.iter().map(|(kinds, _)| kinds.len()).sum(),
        networks: ground.networks.len(),
        containers: containers.len(),
    };
    if let Some(id) = only {
        let network = |finding: &Finding| {
            let own = ground.attachments.iter().filter(|one| one.id == id);
            let mut bridges = own.filter_map(|one| one.bridge.as_deref());
            finding
                .bridge
                .as_deref()
                .is_none_or(|bridge| bridges.any(|own| own == bridge))
        };
        findings.retain(|finding| match &finding.container {
            Some(container) => *container == id,
            None => network(finding),
        });
    }
    Ok((findings, looked_at))
}

/// What else decides whether packets are forwarded, beside the switches: for `ip-forward`.
pub(crate) fn of_forwarding() -> Result<Vec<Finding>, Failure> {
    let places = Places {
        conf_dir: None,
        bin_dir: None,
    };
    let mut ground = CheckInput::read_host_facts(Host::look()?, &places)?;
    let mut findings = Vec::new();
    forwarding::reverse_path(&mut ground, &mut findings)?;
    filters::check(&mut ground, &mut findings)?;
    findings.retain(|finding| finding.bridge.is_some() || finding.id == "rp-filter-strict");
    Ok(findings)
}

impl CheckInput {
    #[allow(
        clippy::disallowed_methods,
        reason = "programs are looked for as the admin finds them"
    )]
    fn read_host_facts(mut host: Host, places: &Places) -> Result<Self, Failure> {
        let networks = host.networks()?;
        let attachments = host.attachments().to_vec();
        let mut insides = HashMap::new();
        let own = ["bridge", "overlay", "ptp", "macvlan"];
        for one in attachments.iter().filter(|one| own.contains(&one.mode)) {
            match look_inside(one) {
                Ok(Some(inside)) => drop(insides.insert(one.key(), inside)),
                Ok(None) => {}
                Err(Failure::NotFound(why) | Failure::Failed(why)) => eprintln!(
                    "pontoon: the inside of container {} on network {} is not looked at: {why}",
                    one.id, one.network
                ),
            }
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut search: Vec<PathBuf> = std::env::split_paths(&path).collect();
        search.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
        Ok(Self {
            host,
            attachments,
            networks,
            insides,
            search,
            places: places.clone(),
            rules: OnceCell::new(),
        })
    }

    /// The rules of this host, of all backends; none when they cannot be read, which is said once.
    pub(crate) fn rules(&self) -> Option<Rc<Rules>> {
        let read = || match Rules::read_by(&self.search) {
            Ok(rules) => Some(Rc::new(rules)),
            Err(error) => {
                eprintln!(
                    "pontoon: what the rules of this host let pass is not looked at: {error}"
                );
                None
            }
        };
        self.rules.get_or_init(read).clone()
    }
}

/// What a living container has inside; `None` when it has gone.
fn look_inside(one: &Attachment) -> Result<Option<ContainerFacts>, Failure> {
    let Some(about) = one.about.as_ref() else {
        return Ok(None);
    };
    let Some(netns) = about.sandbox.open()? else {
        return Ok(None);
    };
    let mut socket = RouteSocket::open_in(&netns)?;
    let mut inside = ContainerFacts {
        settings: about.settings.clone(),
        link: socket.link_by_name(&one.interface)?,
        ..ContainerFacts::default()
    };
    let Some(link) = &inside.link else {
        return Ok(Some(inside));
    };
    inside.mtu = link.mtu;
    let index = link.index;
    let addresses = socket.addresses(index)?;
    inside.addresses = addresses.iter().map(|address| address.cidr).collect();
    for v4 in [true, false] {
        inside.routes.extend(socket.routes(v4)?);
    }
    let by_it = |route: &&RouteEntry| route.interface == Some(index);
    let defaults = inside.routes.iter().filter(by_it);
    let defaults = defaults.filter(|route| route.destination.prefix() == 0);
    inside.gateways = defaults.filter_map(|route| route.gateway).collect();
    let settings = inside.settings.iter().flat_map(|settings| &settings.routes);
    for v4 in [true, false] {
        let mut wanted = settings.clone().filter(|route| route.dst.is_ipv4() == v4);
        if wanted.all(|route| inside.routes.iter().any(|got| interiors::is(got, route))) {
            continue;
        }
        // A plugin after this one, as sbr, may have moved them to tables of their own.
        for rule in socket.source_rules(v4)? {
            let own = |source| inside.addresses.iter().any(|own| own.ip() == source);
            if rule.source.is_some_and(own) {
                let moved = socket.routes_of_table(v4, rule.table)?;
                inside.routes.extend(moved);
            }
        }
    }
    let neighbours = socket.neighbours()?;
    inside.neighbours = neighbours
        .into_iter()
        .filter(|entry| entry.interface == index)
        .collect();
    Ok(Some(inside))
}

/// Runs a printed command, finding this program under its name.
#[allow(
    clippy::disallowed_methods,
    reason = "a mend is a command that the admin could type"
)]
fn shell(command: &str) -> Result<(), Failure> {
    let own = std::env::current_exe().ok();
    let mut path: Vec<PathBuf> = own
        .and_then(|own| Some(own.parent()?.to_owned()))
        .into_iter()
        .collect();
    path.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    let path = std::env::join_paths(path).unwrap_or_default();
    let status = Command::new("/bin/sh")
        .args(["-c", command])
        .env("PATH", path)
        .stdout(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::Failed(format!("{command}: {status}"))),
        Err(error) => Err(Failure::Failed(format!("cannot run {command}: {error}"))),
    }
}

/// A program of the host.
pub(crate) fn program(ground: &CheckInput, name: &str) -> Option<PathBuf> {
    let found = ground.search.iter().map(|dir| dir.join(name));
    found.into_iter().find(|path| path.is_file())
}

fn text(report: &Report) -> String {
    let style = Style::of_stdout();
    let mut text = String::new();
    for command in &report.mended {
        text += &format!("ran: {command}\n");
    }
    for finding in &report.findings {
        let safe = if finding.safe { " (safe: --fix)" } else { "" };
        text += &format!(
            "{} {}\n  {}\n  evidence: {}\n",
            style.bad(finding.id),
            style.bold(&finding.object),
            finding.meaning,
            finding.evidence,
        );
        if !finding.mend.is_empty() {
            text += &format!("  mend: {}{safe}\n", finding.mend);
        }
        if !finding.advice.is_empty() {
            text += &format!("  advice: {}\n", finding.advice);
        }
    }
    let count = |number: usize, what: &str| match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    };
    let found = match report.findings.len() {
        0 => style.good("no findings"),
        number => count(number, "finding"),
    };
    let CheckCounts {
        checks,
        networks,
        containers,
    } = report.looked_at;
    text += &format!(
        "{found}: {}, {}, {}\n",
        count(checks, "check"),
        count(networks, "network"),
        count(containers, "container")
    );
    text
}
