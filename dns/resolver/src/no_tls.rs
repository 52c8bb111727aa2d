//! Servers over TLS in a build without the feature `dns-over-tls`: none of them can be asked.

use std::rc::Rc;

use super::state::Daemon;
use pontoon_resolver::server::Server;

/// No connection.
#[derive(Clone, Copy, Default)]
pub(crate) struct Connections;

/// Fails.
pub(crate) async fn ask(daemon: Rc<Daemon>, _: Server, _: Vec<u8>) -> Result<Vec<u8>, String> {
    let Connections = daemon.tls;
    Err("this pontoon-dns is built without DNS over TLS".to_owned())
}
