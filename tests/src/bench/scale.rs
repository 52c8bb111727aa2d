//! Many containers: what ADD and DEL take as they become more, on one bridge and over eleven networks,
//! and what the admin's commands take there.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pontoon_lab::{
    Attachment, Backend, Container, Failure, Host, Network, Outcome, Programs, Runtime, Scratch,
    target_dir,
};
use serde_json::json;

use super::contestant::Contestant;
use crate::build::root;

/// Containers on one bridge. The kernel gives a bridge 1,023 ports at most (`BR_MAX_PORTS`, net/bridge/br_private.h).
const ON_ONE: usize = 1000;
/// Networks, and containers on each, of the second part.
const NETWORKS: usize = 11;
const ON_EACH: usize = 910;
/// So many verbs make one point of a curve.
const WINDOW: usize = 50;
/// When a side has taken so long for its ADDs, the rest of its curve is left out.
const PATIENCE: Duration = Duration::from_secs(400);

/// The times of a verb, one after the other.
#[derive(Default)]
struct Curve {
    times: Vec<Duration>,
}

/// The middle and the slow end of one window, in milliseconds.
struct Point {
    containers: usize,
    median: f64,
    slow: f64,
}

impl Curve {
    /// One point a window; `most` is how many containers there are at the first verb of a DEL curve.
    fn points(&self, window: usize, most: Option<usize>) -> Vec<Point> {
        let mut points = Vec::new();
        for (number, times) in self.times.chunks(window).enumerate() {
            let mut times = times.to_vec();
            times.sort_unstable();
            let at = |part: usize| {
                let index = (times.len() * part / 100).min(times.len().saturating_sub(1));
                times
                    .get(index)
                    .map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
            };
            let middle = number * window + times.len() / 2;
            points.push(Point {
                containers: most.map_or(middle, |most| most.saturating_sub(middle)),
                median: at(50),
                slow: at(99),
            });
        }
        points
    }
}

/// ADDs until there are so many containers or patience is at its end, then DELs of all.
fn one_bridge(programs: &Programs, who: &str) -> Outcome<(Curve, Curve)> {
    let contestant = Contestant::new(programs, Backend::Nftables)?;
    let (mut adds, mut dels) = (Curve::default(), Curve::default());
    let mut attached = Vec::new();
    let started = Instant::now();
    for port in (10_000..).take(ON_ONE) {
        if started.elapsed() > PATIENCE {
            println!("  {who}: {} containers after {PATIENCE:?}", attached.len());
            break;
        }
        let container = Container::new("scale")?;
        let mut attachment = Attachment::new(&container).publish("", port, 80, "tcp");
        adds.times.push(contestant.add(&mut attachment)?);
        attached.push((container, attachment));
    }
    let started = Instant::now();
    while let Some((container, attachment)) = attached.pop() {
        if started.elapsed() > PATIENCE {
            println!("  {who}: {} containers left out of DEL", attached.len());
            break;
        }
        dels.times.push(contestant.del(&attachment)?);
        drop(container);
    }
    Ok((adds, dels))
}

/// Eleven networks on one host, each container with a published port and a name.
struct Crowd {
    // Before the host: containers leave first.
    attached: Vec<(Container, Attachment)>,
    host: Host,
    networks: Vec<Network>,
    programs: Programs,
    conf: Scratch,
    _leases: Scratch,
}

impl Crowd {
    fn new(programs: &Programs) -> Outcome<Self> {
        let (conf, leases) = (Scratch::new("conf")?, Scratch::new("leases")?);
        let mut networks = Vec::new();
        let servers = conf.path().join("resolv.conf");
        fs::write(&servers, "nameserver 198.18.7.2\n")
            .map_err(Failure::act("write resolv.conf"))?;
        for number in 0..NETWORKS {
            let (name, bridge) = (format!("scale{number}"), format!("sc{number}"));
            let subnet = format!("10.{}.0.0/16", 100 + number);
            let backend = Backend::Nftables;
            let network = Network::docker(&name, &bridge, &[&subnet], backend, leases.path())
                .followed_by(json!({ "type": "firewall", "backend": backend.key() }))
                .followed_by(json!({
                    "type": "dns", "backend": backend.key(), "resolvConf": servers,
                    "capabilities": { "aliases": true },
                }));
            let file = conf.path().join(format!("{name}.conflist"));
            fs::write(&file, network.list().to_string())
                .map_err(Failure::act("write a conflist"))?;
            networks.push(network);
        }
        Ok(Self {
            attached: Vec::new(),
            host: Host::new()?,
            networks,
            programs: programs.clone(),
            conf,
            _leases: leases,
        })
    }

    fn fill(&mut self) -> Outcome<Curve> {
        let mut adds = Curve::default();
        for number in 0..NETWORKS * ON_EACH {
            let container = Container::new("scale")?;
            let port = u16::try_from(10_000 + number).map_err(Failure::act("number a port"))?;
            let network = &self.networks[number % NETWORKS];
            let mut attachment = Attachment::new(&container).publish("", port, 80, "tcp");
            let aliases = json!({ network.name(): [format!("name{number}")] });
            attachment
                .capabilities
                .insert("aliases".to_owned(), aliases);
            let took = self.host.run(|| {
                let runtime = Runtime::new(&self.host, &self.programs, "").here();
                runtime
                    .add(network, &mut attachment)
                    .map(|_| runtime.spent())
            })??;
            adds.times.push(took);
            self.attached.push((container, attachment));
        }
        Ok(adds)
    }

    /// What a command of the admin takes; its output is thrown away.
    fn command(&self, arguments: &[&str]) -> Outcome<Duration> {
        let conf = self.conf.path().display().to_string();
        let mut command = Command::new(self.programs.program("pontoon"));
        command
            .args(arguments)
            .env("NETCONFPATH", conf)
            .env("CNI_PATH", self.programs.dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let started = Instant::now();
        let output = self
            .host
            .run(|| command.output())?
            .map_err(Failure::act("run pontoon"))?;
        let took = started.elapsed();
        let words = String::from_utf8_lossy(&output.stderr);
        // 1: something was found, which is no fault of the command.
        if !matches!(output.status.code(), Some(0 | 1)) {
            return Err(Failure::new(format!(
                "pontoon {}: {words}",
                arguments.join(" ")
            )));
        }
        Ok(took)
    }
}

/// Processes of ours on the machine: how much memory they have (`Pss` of proc(5)), and what CPU they used.
fn resolver() -> Outcome<String> {
    let entries = fs::read_dir("/proc").map_err(Failure::act("list processes"))?;
    let mut said = String::new();
    for entry in entries.flatten() {
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        if read("comm").trim() != "pontoon-dns" {
            continue;
        }
        let rollup = read("smaps_rollup");
        let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let stat = read("stat");
        let times: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let ticks = |at: usize| {
            times
                .get(at)
                .and_then(|text| text.parse::<u64>().ok())
                .unwrap_or(0)
        };
        let _ = write!(
            said,
            "pontoon-dns {}: {}, {} ms CPU; ",
            entry.file_name().display(),
            pss.unwrap_or("?").trim(),
            (ticks(11) + ticks(12)) * 10
        );
    }
    Ok(said)
}

fn many_networks(programs: &Programs, text: &mut String) -> Outcome<Vec<Point>> {
    let mut crowd = Crowd::new(programs)?;
    let adds = crowd.fill()?;
    let mut say = |line: String| {
        println!("  {line}");
        let _ = writeln!(text, "{line}");
    };
    say(format!(
        "{} containers: {}",
        crowd.attached.len(),
        resolver()?
    ));
    let id = crowd.attached[0].0.id.clone();
    let other = crowd.attached[NETWORKS].0.id.clone();
    for arguments in [
        vec!["ls"],
        vec!["ports"],
        vec!["networks"],
        vec!["leases", "scale0"],
        vec!["graph"],
        vec!["inspect", &id],
        vec!["trace", &id, &format!("{other}:80")],
        vec!["trace", "outside", "host:10000"],
        vec!["doctor"],
        vec!["repair"],
    ] {
        let took = crowd.command(&arguments)?;
        say(format!(
            "pontoon {}: {:.0} ms",
            arguments.join(" "),
            took.as_secs_f64() * 1000.0
        ));
    }
    // All namespaces vanish at once.
    let started = Instant::now();
    let attached = std::mem::take(&mut crowd.attached);
    let count = attached.len();
    drop(attached);
    say(format!(
        "{count} namespaces removed in {:.1} s",
        started.elapsed().as_secs_f64()
    ));
    let started = Instant::now();
    for number in 0..NETWORKS {
        crowd.command(&["gc", &format!("scale{number}"), "--all-dead"])?;
    }
    say(format!(
        "pontoon gc of {NETWORKS} networks, {count} dead containers: {:.1} s",
        started.elapsed().as_secs_f64()
    ));
    let left = crowd.host.state_dir();
    say(format!(
        "state left: {}",
        if left.exists() { "yes" } else { "none" }
    ));
    Ok(adds.points(WINDOW * NETWORKS, None))
}

/// A curve of the picture: its name, its colour, its points.
type Line<'a> = (&'a str, &'a str, &'a [Point]);

/// Both curves of each line, the median whole and the slow end broken, over a logarithmic scale of time.
fn picture(title: &str, lines: &[Line<'_>]) -> String {
    let (width, height, left, top) = (760.0, 360.0, 60.0, 40.0);
    let most = lines
        .iter()
        .flat_map(|(_, _, points)| points.iter().map(|point| point.containers))
        .max()
        .unwrap_or(1)
        .max(1) as f64;
    let (low, high) = (1.0_f64.ln(), 2000.0_f64.ln());
    let x = |containers: usize| left + (width - left - 20.0) * containers as f64 / most;
    let y = |ms: f64| {
        top + (height - top - 40.0)
            * (1.0 - (ms.max(1.0).ln() - low) / (high - low)).clamp(0.0, 1.0)
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"{left}\" y=\"20\" font-size=\"14\">{title}</text>\n"
    );
    for ms in [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0] {
        let at = y(ms);
        let _ = writeln!(
            svg,
            "<line x1=\"{left}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.1}\" \
             text-anchor=\"end\">{ms} ms</text>",
            width - 20.0,
            left - 6.0,
            at + 4.0
        );
    }
    for part in 0..=5 {
        let containers = (most * f64::from(part) / 5.0).round() as usize;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{containers}</text>",
            x(containers),
            height - 20.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">containers; whole line: median, broken line: 99th percentile</text>",
        width / 2.0,
        height - 4.0
    );
    for (number, (name, colour, points)) in lines.iter().enumerate() {
        for (slow, dashes) in [(false, ""), (true, " stroke-dasharray=\"3 3\"")] {
            let path: Vec<String> = points
                .iter()
                .map(|point| {
                    let ms = if slow { point.slow } else { point.median };
                    format!("{:.1},{:.1}", x(point.containers), y(ms))
                })
                .collect();
            let _ = writeln!(
                svg,
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"{dashes} points=\"{}\"/>",
                path.join(" ")
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" fill=\"{colour}\">{name}</text>",
            left + 10.0 + 170.0 * number as f64,
            top - 6.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn tell(text: &mut String, what: &str, points: &[Point]) {
    let _ = writeln!(
        text,
        "\n{what}\n\n| containers | median, ms | 99th percentile, ms |\n| ---: | ---: | ---: |"
    );
    for point in points {
        let _ = writeln!(
            text,
            "| {} | {:.2} | {:.2} |",
            point.containers, point.median, point.slow
        );
    }
}

/// Measures, prints, writes `target/scale.md`, and draws the pictures: into `target`, or with `PONTOON_DRAW`
/// into `tests/pictures`.
pub(crate) fn measure(ours: &Programs, reference: &Programs) -> Outcome {
    let mut text = String::new();
    println!("scale: {ON_ONE} containers on one bridge ...");
    let (our_adds, our_dels) = one_bridge(ours, "Pontoon")?;
    let (their_adds, their_dels) = one_bridge(reference, "the reference")?;
    let (our_most, their_most) = (our_adds.times.len(), their_adds.times.len());
    let curves = [
        ("Pontoon ADD", "#1b6ac9", our_adds.points(WINDOW, None)),
        (
            "Pontoon DEL",
            "#2a9d5c",
            our_dels.points(WINDOW, Some(our_most)),
        ),
        ("reference ADD", "#c9411b", their_adds.points(WINDOW, None)),
        (
            "reference DEL",
            "#c98f1b",
            their_dels.points(WINDOW, Some(their_most)),
        ),
    ];
    for (name, _, points) in &curves {
        tell(&mut text, name, points);
    }
    let lines: Vec<Line<'_>> = curves
        .iter()
        .map(|(name, colour, points)| (*name, *colour, points.as_slice()))
        .collect();
    let dir = match std::env::var_os("PONTOON_DRAW") {
        Some(_) => root().join("tests/pictures"),
        None => target_dir()?,
    };
    let draw = |file: &str, svg: String| write(&dir.join(file), &svg);
    draw(
        "one-bridge.svg",
        picture("ADD and DEL, containers on one bridge, nftables", &lines),
    )?;
    println!(
        "scale: {} containers over {NETWORKS} networks ...",
        NETWORKS * ON_EACH
    );
    text.push('\n');
    let points = many_networks(ours, &mut text)?;
    tell(&mut text, "ADD, eleven networks, with names", &points);
    draw(
        "eleven-networks.svg",
        picture(
            "ADD, containers on eleven networks of one host, with names",
            &[("Pontoon ADD", "#1b6ac9", &points)],
        ),
    )?;
    println!("{text}");
    write(&target_dir()?.join("scale.md"), &text)
}

fn write(file: &Path, text: &str) -> Outcome {
    fs::write(file, text).map_err(Failure::act(format!("write {}", file.display())))
}
