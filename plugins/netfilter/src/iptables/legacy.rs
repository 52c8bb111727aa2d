//! Which tables iptables-legacy has, told by the kernel: the programs of the legacy variant would make the
//! tables that they are asked for.

use std::fs;

/// The tables that iptables-legacy has in the network namespace of the calling thread, such as `filter`;
/// `None` when the kernel does not tell, because it has no legacy tables of this family, or because
/// `/proc` is not there.
#[must_use]
pub fn legacy_tables(v4: bool) -> Option<Vec<String>> {
    let family = if v4 { "ip" } else { "ip6" };
    let names = fs::read_to_string(format!("/proc/thread-self/net/{family}_tables_names")).ok()?;
    Some(names.lines().map(str::to_owned).collect())
}
