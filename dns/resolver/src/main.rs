//! `pontoon-dns`: the embedded resolver of a host. Started by the `dns` plugin when it is needed, or
//! by systemd with `--stay`.
//!
//! One thread, on tokio. The parts that decide know neither socket nor clock: the library
//! `pontoon-dns`, and the library of this package. The others are tasks around them.

mod answer;
mod ask;
mod batch;
mod birth;
mod chance;
mod client;
mod connections;
mod control;
mod daemon;
mod forward;
mod gateways;
mod leave;
mod listen;
mod options;
mod outside;
mod state;
mod stats;
mod store;
mod tcp;
mod udp;
mod upstream;
mod watch;

use std::process::ExitCode;

/// As in the plugins: the C library's allocator gives memory back with almost every `free`.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    daemon::main(std::env::args().skip(1).collect())
}
