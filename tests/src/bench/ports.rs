//! Thousands of published ports: what an ADD costs beside them, and how many connections a second
//! a published port takes.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use pontoon_lab::{Attachment, Backend, Container, Failure, HOST_V4, Outcome, Programs};

use super::contestant::Contestant;
use super::table::{Bar, Row, Table};
use super::{Cell, RUN, median};

/// So many ports a container of the crowd publishes.
const EACH: u16 = 100;
/// The port that connections are made to, published last: a program that looks through a list of ports
/// finds it there.
const ASKED: u16 = 45_000;
/// For how long connections are made on one side before it is the other side's turn.
const SPELL: Duration = Duration::from_millis(250);
/// How often it is a side's turn.
const TURNS: usize = 12;

/// A container that takes connections at a published port of its host.
struct Served<'a> {
    who: &'a Contestant,
    container: Container,
    rates: Vec<f64>,
}

impl<'a> Served<'a> {
    fn new(who: &'a Contestant) -> Outcome<Self> {
        let container = Container::new("served")?;
        let mut attachment = Attachment::new(&container).publish("", ASKED, 80, "tcp");
        who.add(&mut attachment)?;
        Ok(Self {
            who,
            container,
            rates: Vec::new(),
        })
    }

    /// Connections a second, one after the other, each new and closed at once.
    fn measure(&mut self) -> Outcome {
        let act = "take connections";
        let listener = self
            .container
            .run(|| TcpListener::bind(("0.0.0.0", 80)))?
            .map_err(Failure::act(act))?;
        listener.set_nonblocking(true).map_err(Failure::act(act))?;
        let done = AtomicBool::new(false);
        let rate = thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    match listener.accept() {
                        Ok(_) => {}
                        Err(_) => thread::yield_now(),
                    }
                }
            });
            let rate = self.who.host().run_outside(connect_for);
            done.store(true, Ordering::Relaxed);
            rate
        })?;
        self.rates.push(rate.map_err(Failure::act("connect"))?);
        Ok(())
    }

    fn rate(&mut self) -> f64 {
        self.rates.sort_by(f64::total_cmp);
        self.rates
            .get(self.rates.len() / 2)
            .copied()
            .unwrap_or(f64::NAN)
    }
}

fn connect_for() -> io::Result<f64> {
    let target = SocketAddr::new(HOST_V4, ASKED);
    let started = Instant::now();
    let mut count = 0_u32;
    while started.elapsed() < SPELL {
        let stream = TcpStream::connect_timeout(&target, Duration::from_secs(2))?;
        // A reset instead of a farewell: no port of the client stays taken.
        let at_once = nix::libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(&stream, sockopt::Linger, &at_once)?;
        count += 1;
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

/// Measures both sides, with one published port and with so many.
pub(crate) fn measure(
    table: &mut Table,
    backend: Backend,
    ours: &Programs,
    reference: &Programs,
    samples: usize,
    ports: u16,
) -> Outcome {
    let empty = |programs| Contestant::new(programs, backend);
    let (our_empty, their_empty) = (empty(ours)?, empty(reference)?);
    let (mut our_full, mut their_full) = (empty(ours)?, empty(reference)?);
    our_full.publish(ports, EACH)?;
    their_full.publish(ports, EACH)?;
    let mut cells = [
        Cell::new(&their_empty, 1)?,
        Cell::new(&our_empty, 1)?,
        Cell::new(&their_full, 1)?,
        Cell::new(&our_full, 1)?,
    ];
    for _ in 0..samples / RUN {
        for cell in &mut cells {
            for sample in 0..=RUN {
                cell.sample(sample > 0)?;
            }
        }
    }
    let [_, ours, theirs_full, ours_full] = cells.each_mut().map(|cell| median(&mut cell.adds));
    let asked = backend == Backend::Nftables;
    let grown = ours_full / ours;
    table.push(Row {
        what: format!("{backend}: ADD at {ports} ports"),
        reference: Some(theirs_full),
        ours: ours_full,
        unit: "ms",
        bar: if asked {
            Bar::at_most(1.1, grown, "of Pontoon's at none")
        } else {
            Bar::Note(format!("{grown:.2} of Pontoon's at none"))
        },
    });
    let mut served = [
        Served::new(&their_empty)?,
        Served::new(&our_empty)?,
        Served::new(&their_full)?,
        Served::new(&our_full)?,
    ];
    for _ in 0..TURNS {
        for side in &mut served {
            side.measure()?;
        }
    }
    let [theirs, ours, theirs_full, ours_full] = served.each_mut().map(Served::rate);
    let mut row = |what: String, reference: f64, ours: f64, bar: Bar| {
        table.push(Row {
            what: format!("{backend}: {what}"),
            reference: Some(reference),
            ours,
            unit: "/s",
            bar,
        });
    };
    row("connections, 1 port".to_owned(), theirs, ours, Bar::None);
    let kept = |full: f64, one: f64| full / one;
    let bar = if asked {
        Bar::at_least(0.9, kept(ours_full, ours), "of Pontoon's with 1 port")
    } else {
        Bar::Note(format!(
            "{:.2} of Pontoon's with 1 port",
            kept(ours_full, ours)
        ))
    };
    row(
        format!("connections, {ports} ports"),
        theirs_full,
        ours_full,
        bar,
    );
    Ok(())
}
