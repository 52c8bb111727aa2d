//! What containers' packets take: bulk throughput and new connections a second, out through the masquerade
//! and in through a published port, with the reference's rules, with Pontoon's, and with `"icc": false`.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use pontoon_lab::{
    Attachment, Backend, Container, Failure, HOST_V4, OUTSIDE_V4, Outcome, Programs,
};
use pontoon_netlink::Netns;

use super::contestant::Contestant;
use super::table::{Bar, Row, Table};

const PUBLISHED: u16 = 45_000;
const OUTSIDE: u16 = 7_000;
/// For how long one side sends before it is the next side's turn.
const SPELL: Duration = Duration::from_millis(400);
const TURNS: usize = 9;
/// Where two sides differ by less than this, the machine differs from itself by as much.
const NOISE: f64 = 0.95;

/// What is measured, each in both directions.
const KINDS: [(&str, &str); 4] = [
    ("bulk out through the masquerade", "MB/s"),
    ("bulk in through a published port", "MB/s"),
    ("connections out through the masquerade", "/s"),
    ("connections in through a published port", "/s"),
];

/// A side with a container on its network.
struct Side {
    container: Container,
    contestant: Contestant,
    rates: [Vec<f64>; KINDS.len()],
}

impl Side {
    fn new(contestant: Contestant) -> Outcome<Self> {
        let container = Container::new("traffic")?;
        let mut attachment = Attachment::new(&container).publish("", PUBLISHED, 80, "tcp");
        contestant.add(&mut attachment)?;
        Ok(Self {
            container,
            contestant,
            rates: Default::default(),
        })
    }

    fn turn(&mut self) -> Outcome {
        let (inside, outside) = (self.container.netns(), self.contestant.host().outside());
        let out = (
            inside,
            outside,
            OUTSIDE,
            SocketAddr::new(OUTSIDE_V4, OUTSIDE),
        );
        let into = (outside, inside, 80, SocketAddr::new(HOST_V4, PUBLISHED));
        let measured = [
            measure(out, bulk, swallow)?,
            measure(into, bulk, swallow)?,
            measure(out, connect, drop)?,
            measure(into, connect, drop)?,
        ];
        for (rates, rate) in self.rates.iter_mut().zip(measured) {
            rates.push(rate);
        }
        Ok(())
    }

    fn median(&mut self, kind: usize) -> f64 {
        let rates = &mut self.rates[kind];
        rates.sort_by(f64::total_cmp);
        rates.get(rates.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// Runs `send` in the first namespace against a server in the second one that does `serve` with each connection.
fn measure(
    (from, to, port, target): (&Netns, &Netns, u16, SocketAddr),
    send: fn(SocketAddr) -> io::Result<f64>,
    serve: fn(TcpStream),
) -> Outcome<f64> {
    let act = "measure traffic";
    let any = IpAddr::from([0, 0, 0, 0]);
    let listener = to
        .run(|| TcpListener::bind((any, port)))
        .map_err(Failure::act(act))?
        .map_err(Failure::act(act))?;
    listener.set_nonblocking(true).map_err(Failure::act(act))?;
    let done = AtomicBool::new(false);
    let rate = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => serve(stream),
                    Err(_) => thread::yield_now(),
                }
            }
        });
        let rate = from.run(|| send(target));
        done.store(true, Ordering::Relaxed);
        rate
    });
    rate.map_err(Failure::act(act))?.map_err(Failure::act(act))
}

fn swallow(mut stream: TcpStream) {
    let mut buffer = vec![0; 256 * 1024];
    // The sender says when it ends.
    let _ = stream.set_nonblocking(false);
    while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
}

/// Megabytes a second of one connection.
fn bulk(target: SocketAddr) -> io::Result<f64> {
    let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(2))?;
    stream.set_write_timeout(Some(Duration::from_secs(2)))?;
    let buffer = vec![7; 128 * 1024];
    let started = Instant::now();
    let mut sent = 0_usize;
    while started.elapsed() < SPELL {
        sent += stream.write(&buffer)?;
    }
    Ok(sent as f64 / 1e6 / started.elapsed().as_secs_f64())
}

/// Connections a second, one after the other, each reset at once so that no port stays taken.
fn connect(target: SocketAddr) -> io::Result<f64> {
    let at_once = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    let started = Instant::now();
    let mut count = 0_u32;
    while started.elapsed() < SPELL {
        let stream = TcpStream::connect_timeout(&target, Duration::from_secs(2))?;
        setsockopt(&stream, sockopt::Linger, &at_once)?;
        count += 1;
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

/// Measures all sides in turn.
pub(crate) fn run(table: &mut Table, ours: &Programs, reference: &Programs) -> Outcome {
    for backend in [Backend::Nftables, Backend::IptablesNft] {
        let mut sides = [
            Side::new(Contestant::new(reference, backend)?)?,
            Side::new(Contestant::new(ours, backend)?)?,
            Side::new(Contestant::new(ours, backend)?.without_icc())?,
        ];
        for _ in 0..TURNS {
            for side in &mut sides {
                side.turn()?;
            }
        }
        for (kind, (what, unit)) in KINDS.into_iter().enumerate() {
            let [theirs, open, closed] = sides.each_mut().map(|side| side.median(kind));
            for (policy, rate) in [("", open), (", icc off", closed)] {
                table.push(Row {
                    what: format!("{backend}: {what}{policy}"),
                    reference: Some(theirs),
                    ours: rate,
                    unit,
                    bar: Bar::at_least(NOISE, rate / theirs, "of the reference's"),
                });
            }
        }
    }
    Ok(())
}
