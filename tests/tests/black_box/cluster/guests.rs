//! Something behind each host that packets go to and come from.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pontoon_lab::{BOTH, Container, Echo, Failure, Outcome, find, missing, udp};
use pontoon_netlink::Netns;

use super::scene::{Scene, wait_for};

const PORT: u16 = 7;
/// For how long an answer is waited for.
const WAIT: Duration = Duration::from_millis(200);

/// A namespace with an address of its host's block, and a server in it.
pub(super) struct Guest {
    container: Container,
    pub(super) address: IpAddr,
    _server: Echo,
}

/// Runs `ip` in a namespace.
pub(super) fn ip(netns: &Netns, arguments: &str) -> Outcome<String> {
    run(netns, "ip", arguments)
}

/// Runs a program in a namespace.
pub(super) fn run(netns: &Netns, program: &str, arguments: &str) -> Outcome<String> {
    let file = find(program).ok_or_else(|| missing(program))?;
    let act = format!("{program} {arguments}");
    let output = netns
        .run(|| Command::new(file).args(arguments.split(' ')).output())
        .map_err(Failure::act(&act))?
        .map_err(Failure::act(&act))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(Failure::new(format!("{act}: {}", words.trim())))
        }
    }
}

impl Guest {
    /// One behind a host, in its first block.
    pub(super) fn new(scene: &Scene, number: u8) -> Outcome<Self> {
        let block = scene.block_of(number)?;
        let at = |last: &str| block.replace("0/24", last);
        let host = &scene.cluster.hosts[usize::from(number) - 1];
        let container = Container::new("guest")?;
        let name = container.path().file_name().unwrap_or_default();
        let name = name.to_string_lossy();
        ip(
            host.netns(),
            &format!("link add guest type veth peer name eth0 netns {name}"),
        )?;
        ip(host.netns(), &format!("addr add {}/24 dev guest", at("1")))?;
        ip(host.netns(), "link set guest up")?;
        host.set("net/ipv4/ip_forward", "1")?;
        for arguments in [
            format!("addr add {}/24 dev eth0", at("9")),
            "link set eth0 up".to_owned(),
            format!("route add default via {}", at("1")),
        ] {
            ip(container.netns(), &arguments)?;
        }
        let server = container.serve(PORT)?;
        Ok(Self {
            address: at("9").parse().map_err(Failure::act("form an address"))?,
            container,
            _server: server,
        })
    }

    /// Whether another one answers to this one, and sees its address.
    pub(super) fn reaches(&self, other: &Self) -> Outcome<bool> {
        let target = SocketAddr::new(other.address, PORT);
        let ask = || BOTH.map(|(_, ask)| ask(target, WAIT));
        let answers = self.container.run(ask)?;
        Ok(answers
            .into_iter()
            .all(|answer| answer.is_ok_and(|reply| reply.peer == self.address)))
    }

    /// Waits until it does; how long that took.
    pub(super) fn wait_until_it_reaches(
        &self,
        other: &Self,
        patience: Duration,
    ) -> Outcome<Duration> {
        let what = format!("{} reaches {}", self.address, other.address);
        let found = wait_for(&what, patience, || Ok(self.reaches(other)?.then_some(())));
        found.map(|((), took)| took)
    }

    /// Asks another one every 10 ms until told to end.
    pub(super) fn stream(&self, other: &Self) -> Stream {
        let target = SocketAddr::new(other.address, PORT);
        let stop = Arc::new(AtomicBool::new(false));
        let netns = Netns::open(self.container.path());
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || -> Outcome<Gap> {
                let netns = netns.map_err(Failure::act("open a namespace"))?;
                let run = || {
                    let (mut last, mut gap) = (Instant::now(), Gap::default());
                    while !stop.load(Ordering::Relaxed) {
                        if udp(target, WAIT).is_ok() {
                            gap.longest = gap.longest.max(last.elapsed());
                            gap.answers += 1;
                            last = Instant::now();
                        }
                        thread::sleep(Duration::from_millis(10));
                    }
                    gap.longest = gap.longest.max(last.elapsed());
                    gap
                };
                netns.run(run).map_err(Failure::act("enter a namespace"))
            }
        });
        Stream { stop, thread }
    }
}

/// Questions that go on.
pub(super) struct Stream {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Outcome<Gap>>,
}

/// How a stream went.
#[derive(Debug, Default)]
pub(super) struct Gap {
    pub(super) longest: Duration,
    pub(super) answers: usize,
}

impl Stream {
    /// Ends it, and wants no pause that a lost packet would make.
    pub(super) fn unbroken(self, during: &str) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        let gap = self
            .thread
            .join()
            .map_err(|_| Failure::new("the stream panicked"))??;
        eprintln!(
            "{during}: {} answers, the longest pause was {} ms",
            gap.answers,
            gap.longest.as_millis()
        );
        // A question without an answer is a pause of WAIT and more.
        match gap.answers > 20 && gap.longest < WAIT {
            true => Ok(()),
            false => Err(Failure::new(format!("{during}: {gap:?}"))),
        }
    }
}
