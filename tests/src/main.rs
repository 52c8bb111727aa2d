//! `cargo xtask`: the commands of README, and what stands behind them.
#![allow(
    clippy::disallowed_methods,
    reason = "commands and tests run programs, and are told by variables"
)]
#![expect(clippy::print_stdout, reason = "commands talk to a person")]

mod attack;
mod bench;
mod build;
mod demo;
mod schemas;
mod suite;

use std::env;
use std::process::ExitCode;

use pontoon_lab::{Failure, Outcome};

use self::suite::Extent;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  demo              two containers on a bridge, NAT, a published port; leaves nothing behind
  demo --hosts 3    one network over three hosts with etcd, names, a host that dies; leaves nothing behind
  test              installs what tests need, then format, lints and all tests; of matrices a slice
  test --whole      the same, with the whole of every matrix
  test --quick      format, lints, unit tests, a small lab
  test FILTER       tests whose names contain FILTER, `names::forward` or `names_forward`
  bench [--quick] [--built] [SECTION]...
                    our chain against the reference plugins 1.9.1; sections: nftables, iptables,
                    ports, leases, names, start; --built measures target/dist as it is
  attack all|PART [--seconds N] [--seed S] [--whole]
                    kills, failures, storms: what a hostile environment leaves; all of it whole
  schemas           JSON schemas of all configurations, from their types, into conf/schemas
  dist              static release binaries in target/dist";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["demo"] => demo::run(),
        ["demo", "--hosts", "3"] => demo::hosts::run(),
        ["test"] => suite::run(Extent::All { whole: false }),
        ["test", "--whole"] => suite::run(Extent::All { whole: true }),
        ["test", "--quick"] => suite::run(Extent::Quick),
        ["test", filter] if !filter.starts_with('-') => suite::run(Extent::Named(filter)),
        ["bench", rest @ ..] => bench::run(rest),
        ["attack", rest @ ..] => require_privileges().and_then(|()| attack::run(rest)),
        ["schemas"] => schemas::write(),
        ["dist"] => build::dist().map(drop),
        _ => Err(Failure::new(USAGE)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\n{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Refuses to go on without what `need` says, by the name of what is missing.
fn require_privileges() -> Outcome {
    const NEEDED: [(&str, u32); 2] = [("CAP_NET_ADMIN", 12), ("CAP_SYS_ADMIN", 21)];
    let status = std::fs::read_to_string("/proc/thread-self/status")
        .map_err(Failure::act("read own capabilities"))?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .ok_or_else(|| Failure::new("the kernel does not tell our capabilities"))?;
    for (name, bit) in NEEDED {
        if effective & (1 << bit) == 0 {
            return Err(Failure::new(format!(
                "{name} is missing: run this as root, in a container with {name} added"
            )));
        }
    }
    // Capabilities are not all: a sandbox may still refuse namespaces.
    pontoon_netlink::Netns::create_unnamed()
        .map(drop)
        .map_err(Failure::act("this kernel, or a sandbox around us, refuses new network namespaces (CONFIG_NET_NS, seccomp)"))
}
