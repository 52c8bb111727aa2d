//! `pontoon-dns`: the embedded resolver of a host. Started by the `dns` plugin when it is needed, or
//! by systemd with `--stay`.

mod daemon;

use std::process::ExitCode;

/// As in the plugins: the C library's allocator gives memory back with almost every `free`.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    daemon::main(std::env::args().skip(1).collect())
}
