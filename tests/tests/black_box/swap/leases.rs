//! The lease directory is the reference's: either host-local finds, keeps and gives back what the
//! other has taken, one after the other and both at a time.

use std::collections::BTreeSet;
use std::path::Path;
use std::{fs, thread};

use pontoon_lab::{Attachment, Backend, Failure, Host, Outcome, Programs, Runtime, Scratch};
use serde_json::{Value, json};

/// Versions of the reference, and the newest protocol that each speaks.
const VERSIONS: [(&str, &str); 2] = [("1.1.1", "1.0.0"), ("1.9.1", "1.1.0")];
const EACH: usize = 12;

struct Pool<'a> {
    host: &'a Host,
    config: Value,
    leases: &'a Path,
}

impl Pool<'_> {
    fn call(&self, programs: &Programs, verb: &str, id: &str) -> Outcome<Value> {
        let (_tools, path) = Backend::Nftables.path()?;
        let runtime = Runtime::new(self.host, programs, path);
        let attachment = Attachment::by_path(id, "/run/netns/unused".to_owned());
        let call = runtime.attachment_call(verb, &self.config, &attachment);
        let finished = runtime.call("host-local", &call)?;
        finished.verdict(verb)?;
        serde_json::from_str(&finished.stdout).or_else(|_| Ok(Value::Null))
    }

    /// The addresses of an ADD, of both families.
    fn add(&self, programs: &Programs, id: &str) -> Outcome<Vec<String>> {
        let result = self.call(programs, "ADD", id)?;
        let ips = result["ips"].as_array().into_iter().flatten();
        Ok(ips
            .filter_map(|ip| ip["address"].as_str().map(str::to_owned))
            .collect())
    }

    /// Files that are leases: named by an address.
    fn leases(&self) -> Outcome<usize> {
        let dir = self.leases.join("pool");
        let entries = fs::read_dir(&dir).map_err(Failure::act("list the leases"))?;
        Ok(entries
            .flatten()
            .filter(|entry| {
                let name = entry.file_name();
                name.to_string_lossy().parse::<std::net::IpAddr>().is_ok()
            })
            .count())
    }
}

fn check(reference: &Programs, protocol: &str) -> Outcome {
    let (host, ours, leases) = (Host::new()?, Programs::built()?, Scratch::new("swap")?);
    let pool = Pool {
        host: &host,
        config: json!({
            "cniVersion": protocol, "name": "pool", "type": "bridge",
            "ipam": {
                "type": "host-local", "dataDir": leases.path(),
                "ranges": [[{ "subnet": "10.77.0.0/26" }], [{ "subnet": "fd00:77::/64" }]],
            },
        }),
        leases: leases.path(),
    };
    let (ours, reference) = (&ours, reference);
    let mut seen = BTreeSet::new();
    let mut note = |addresses: Vec<String>| {
        if addresses.len() == 2 && addresses.into_iter().all(|address| seen.insert(address)) {
            Ok(())
        } else {
            Err(Failure::new(
                "an address was given out twice, or is missing",
            ))
        }
    };
    // Swapped under running containers, there and back.
    for (round, programs) in [reference, ours, reference, ours].into_iter().enumerate() {
        for number in 0..4 {
            note(pool.add(programs, &format!("round{round}-{number}"))?)?;
        }
    }
    // A container has one attachment of a name, whichever plugin made it.
    for (programs, id) in [(ours, "round0-0"), (reference, "round1-0")] {
        if pool.add(programs, id).is_ok() {
            return Err(Failure::new(format!("{id} got a second address")));
        }
    }
    // Both at a time: the lock is the same one.
    let results: Vec<Outcome<Vec<String>>> = thread::scope(|scope| {
        let calls: Vec<_> = (0..EACH)
            .flat_map(|number| [(ours, "ours", number), (reference, "theirs", number)])
            .map(|(programs, who, number)| {
                let pool = &pool;
                scope.spawn(move || pool.add(programs, &format!("{who}-{number}")))
            })
            .collect();
        calls
            .into_iter()
            .map(|call| {
                call.join()
                    .unwrap_or_else(|_| Err(Failure::new("a thread died")))
            })
            .collect()
    });
    for addresses in results {
        note(addresses?)?;
    }
    let taken = pool.leases()?;
    if taken != seen.len() {
        return Err(Failure::new(format!(
            "{taken} leases for {} addresses",
            seen.len()
        )));
    }
    // Each gives back what the other took.
    for number in 0..4 {
        for (round, programs) in [ours, reference, ours, reference].into_iter().enumerate() {
            pool.call(programs, "CHECK", &format!("round{round}-{number}"))?;
            pool.call(programs, "DEL", &format!("round{round}-{number}"))?;
        }
    }
    for number in 0..EACH {
        pool.call(ours, "DEL", &format!("theirs-{number}"))?;
        pool.call(reference, "DEL", &format!("ours-{number}"))?;
    }
    let left = pool.leases()?;
    if left != 0 {
        return Err(Failure::new(format!("{left} leases are left")));
    }
    // What the other has freed behind our back is free for us.
    let again: Vec<String> = pool.add(ours, "again")?;
    pool.call(reference, "DEL", "again")?;
    if again.len() != 2 || pool.leases()? != 0 {
        return Err(Failure::new("the lease after all was not given back"));
    }
    Ok(())
}

#[test]
fn either_takes_over_from_the_other() -> Outcome {
    VERSIONS.into_iter().try_for_each(|(version, protocol)| {
        check(&Programs::reference(version)?, protocol)
            .map_err(|error| Failure::new(format!("reference {version}: {error}")))
    })
}
