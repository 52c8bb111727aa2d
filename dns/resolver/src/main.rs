//! `pontoon-dns`: the embedded resolver of a host. Started by the `dns` plugin when it is needed, or
//! by systemd with `--stay`.
//!
//! Three processes of one program: the [`keeper`] has privileges and does little, the worker
//! ([`daemon`]) has none and does everything else, and a standby waits to be the next keeper.
//!
//! The worker has one thread, on tokio. The parts that decide know neither socket nor clock: the library
//! `pontoon-dns`, and the library of this package. The others are tasks around them.

mod answer;
mod ask;
#[cfg(feature = "dns-over-tls")]
mod authorities;
mod batch;
mod client;
mod connections;
mod control;
mod daemon;
mod forward;
mod framing;
mod gateways;
mod keeper;
mod keeper_client;
mod listen;
mod message_socket;
mod options;
mod plugin_records;
mod privileges;
mod random;
mod request;
mod shutdown;
mod sockets;
mod startup;
mod state;
mod store;
mod tcp;
#[cfg(feature = "dns-over-tls")]
mod tls;
#[cfg(not(feature = "dns-over-tls"))]
#[path = "no_tls.rs"]
mod tls;
mod udp;
mod upstream;
mod watch;

use std::process::ExitCode;

use options::{Options, Role};

/// As in the plugins: the C library's allocator gives memory back with almost every `free`.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1).collect()) {
        Ok(options) => options,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    match options.role {
        Role::Keeper => keeper::main(options),
        Role::Worker => daemon::main(options),
        Role::Standby => keeper::standby(options),
    }
}
