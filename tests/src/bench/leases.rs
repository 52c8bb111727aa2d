//! host-local alone, on an empty pool and on a nearly full one.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use pontoon_lab::{Attachment, Backend, Container, Failure, Outcome, Programs, Scratch};
use serde_json::{Value, json};

use super::contestant::Contestant;
use super::median;
use super::table::{Bar, Row, Table};

/// One set of plugins with one pool.
struct Pool<'a> {
    who: &'a Contestant,
    config: Value,
    adds: Vec<Duration>,
    dels: Vec<Duration>,
    _leases: Scratch,
}

impl<'a> Pool<'a> {
    /// A pool with so many leases, written as host-local writes them: a file named by the address,
    /// in it the container's id and the interface's name.
    fn new(who: &'a Contestant, leases: u32) -> Outcome<Self> {
        let dir = Scratch::new("leases")?;
        let pool = dir.path().join("pool");
        let act = "write leases";
        fs::create_dir_all(&pool).map_err(Failure::act(act))?;
        let first = u32::from(Ipv4Addr::new(10, 76, 0, 2));
        for number in 0..leases {
            let file = pool.join(Ipv4Addr::from(first + number).to_string());
            fs::write(file, format!("crowd-{number}\r\neth0")).map_err(Failure::act(act))?;
        }
        if leases > 0 {
            let last = Ipv4Addr::from(first + leases - 1).to_string();
            fs::write(pool.join("last_reserved_ip.0"), last).map_err(Failure::act(act))?;
        }
        let config = json!({
            "cniVersion": "1.1.0", "name": "pool", "type": "bridge",
            "ipam": { "type": "host-local", "dataDir": dir.path(), "ranges": [[{ "subnet": "10.76.0.0/16" }]] },
        });
        Ok(Self {
            who,
            config,
            adds: Vec::new(),
            dels: Vec::new(),
            _leases: dir,
        })
    }

    fn sample(&mut self, attachment: &Attachment, counts: bool) -> Outcome {
        let config = &self.config;
        let [add, del] = ["ADD", "DEL"].map(|verb| {
            self.who.time(|runtime| {
                runtime
                    .call(
                        "host-local",
                        &runtime.attachment_call(verb, config, attachment),
                    )?
                    .verdict(verb)
            })
        });
        let (add, del) = (add?, del?);
        if counts {
            self.adds.push(add);
            self.dels.push(del);
        }
        Ok(())
    }
}

/// Measures both, empty and full, in turn.
pub(crate) fn measure(
    table: &mut Table,
    ours: &Programs,
    reference: &Programs,
    samples: usize,
    leases: u32,
) -> Outcome {
    let (our_host, their_host) = (
        Contestant::new(ours, Backend::Nftables)?,
        Contestant::new(reference, Backend::Nftables)?,
    );
    let mut pools = [
        Pool::new(&their_host, 0)?,
        Pool::new(&our_host, 0)?,
        Pool::new(&their_host, leases)?,
        Pool::new(&our_host, leases)?,
    ];
    let container = Container::new("lease")?;
    for sample in 0..=samples {
        for pool in &mut pools {
            // The first round warms caches up, and lets ours index what it finds.
            pool.sample(&Attachment::new(&container), sample > 0)?;
        }
    }
    let medians = pools
        .each_mut()
        .map(|pool| (median(&mut pool.adds), median(&mut pool.dels)));
    let [theirs, ours, theirs_full, ours_full] = medians;
    let mut row = |what: String, reference: f64, ours: f64, bar: Bar| {
        table.push(Row {
            what,
            reference: Some(reference),
            ours,
            unit: "ms",
            bar,
        });
    };
    row(
        "host-local: ADD, no leases".to_owned(),
        theirs.0,
        ours.0,
        Bar::None,
    );
    row(
        "host-local: DEL, no leases".to_owned(),
        theirs.1,
        ours.1,
        Bar::None,
    );
    let grown = |full: f64, none: f64| Bar::at_most(1.2, full / none, "of Pontoon's at none");
    row(
        format!("host-local: ADD at {leases} leases"),
        theirs_full.0,
        ours_full.0,
        grown(ours_full.0, ours.0),
    );
    row(
        format!("host-local: DEL at {leases} leases"),
        theirs_full.1,
        ours_full.1,
        grown(ours_full.1, ours.1),
    );
    Ok(())
}
