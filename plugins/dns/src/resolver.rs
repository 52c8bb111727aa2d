//! The resolver: asked whether it has seen a record, and started when there is none.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pontoon_conf::Error;
use pontoon_dns::start;
use pontoon_ledger::{Key, Lock, ResolverRecord, files};
use pontoon_netfilter::{BackendKind, Resolver};
use pontoon_plugin::Context;

use crate::config::Config;
use crate::error::ResolverError;

/// For how long an answer of the resolver is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Waits until the resolver has seen the record of an attachment as it is now; starts the resolver
/// if need be. Returns its port.
pub(crate) fn serve(context: &Context, key: &Key) -> Result<u16, Error> {
    if let Some(port) = sync(context, key)? {
        return Ok(port);
    }
    let path = context.state.resolver_start_lock();
    let lock = context.state.lock(&path, Lock::exclusive)?;
    // The process that held the lock may have started it.
    if let Some(port) = sync(context, key)? {
        return Ok(port);
    }
    begin(context)?;
    drop(lock);
    Ok(sync(context, key)?.ok_or(ResolverError::Ended)?)
}

/// As [`serve`], without a start: `None` when there is no resolver, which then answers nothing.
pub(crate) fn sync(context: &Context, key: &Key) -> Result<Option<u16>, ResolverError> {
    let socket = context.state.resolver_socket();
    let question = format!("sync {}\n", key.path());
    let answer = match ask(&socket, &question) {
        Ok(answer) => answer,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(source) => return Err(ResolverError::Silent { socket, source }),
    };
    let answer = answer.trim();
    match answer.strip_prefix("ok ").map(str::parse) {
        Some(Ok(port)) => Ok(Some(port)),
        // It ended between our question and its answer.
        _ if answer.is_empty() => Ok(None),
        _ => Err(ResolverError::Refuses {
            container: key.container.clone(),
            answer: answer.strip_prefix("error ").unwrap_or(answer).to_owned(),
        }),
    }
}

/// Removes what a resolver has left that was killed with all its processes, once there are no names. A
/// resolver that runs removes its files itself.
pub(crate) fn remove_remains(context: &Context) {
    let dir = context.state.dir();
    let [records, own] = ["dns/records", "lock/.dns"].map(|path| dir.join(path));
    let nothing_left = || !files::may_exist(&own) && !files::may_exist(&dir.join("dns"));
    if files::may_exist(&records) || nothing_left() || is_alive(context) {
        return;
    }
    // Under this lock no plugin starts one, and under its own none of systemd's does.
    let path = context.state.resolver_start_lock();
    let Ok(lock) = context.state.lock(&path, Lock::exclusive) else {
        return;
    };
    let held = File::options().read(true).write(true).open(&own);
    let is_free = held.as_ref().map_or_else(
        |error| error.kind() == io::ErrorKind::NotFound,
        |held| held.try_lock().is_ok(),
    );
    if files::may_exist(&records) || !is_free {
        return;
    }
    for file in ["dns/control", "dns/port", "lock/.dns"] {
        let _ = fs::remove_file(dir.join(file));
    }
    let _ = fs::remove_dir(dir.join("dns"));
    lock.remove();
}

/// Whether a resolver runs.
pub(crate) fn is_alive(context: &Context) -> bool {
    UnixStream::connect(context.state.resolver_socket()).is_ok()
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
    )
}

fn ask(socket: &Path, question: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(question.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The program: beside this plugin, else where plugins and programs are.
pub(crate) fn program(context: &Context) -> Result<PathBuf, ResolverError> {
    let own = std::env::current_exe().ok();
    let beside = own.as_deref().and_then(Path::parent).map(Path::to_owned);
    let dirs: Vec<PathBuf> = beside
        .into_iter()
        .chain(context.invocation.path.iter().cloned())
        .chain(context.search.iter().cloned())
        .collect();
    start::find(&dirs).ok_or_else(|| {
        let searched: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        ResolverError::NotInstalled {
            searched: searched.join(":"),
        }
    })
}

/// Refuses a server over TLS when the program cannot ask it; a program is asked only then.
pub(crate) fn can_ask(program: &Path, config: &Config) -> Result<(), ResolverError> {
    match config.over_tls() {
        Some(server) if start::is_without_tls(program) => Err(ResolverError::WithoutTls {
            program: program.to_owned(),
            server: server.to_string(),
        }),
        _ => Ok(()),
    }
}

/// Starts the resolver and waits until it listens.
fn begin(context: &Context) -> Result<(), ResolverError> {
    let program = program(context)?;
    start::start(&program, context.state.dir())
        .map(drop)
        .map_err(|reason| ResolverError::NotStarted { program, reason })
}

/// Notes a rule that is about to be made.
/// Tells whether it is the network's first.
pub(crate) fn note(context: &Context, kind: BackendKind, wanted: &Resolver) -> Result<bool, Error> {
    let known: Option<ResolverRecord> = context.state.read_network(&wanted.network)?;
    let known = known.unwrap_or_default();
    let mut made = known.clone();
    replace(&mut made.resolvers, kind, wanted);
    if made != known {
        context.state.write_network(&wanted.network, &made)?;
    }
    Ok(known.resolvers.is_empty())
}

/// Makes `wanted` the last: the one in force. What it replaces in the kernel, the way from the same
/// gateways, goes from the others.
fn replace(made: &mut Vec<(BackendKind, Resolver)>, kind: BackendKind, wanted: &Resolver) {
    for (_, old) in made.iter_mut().filter(|(known, _)| *known == kind) {
        old.gateways.retain(|old| !wanted.gateways.contains(old));
    }
    made.retain(|(known, old)| *known != kind || !old.gateways.is_empty());
    made.push((kind, wanted.clone()));
}

/// The port of the resolver that a network's questions are led to, as noted.
pub(crate) fn noted_port(context: &Context, network: &str) -> Result<Option<u16>, Error> {
    let made: Option<ResolverRecord> = context.state.read_network(network)?;
    Ok(made.and_then(|made| Some(made.resolvers.last()?.1.port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_way_to_the_resolver_is_the_one_in_force() {
        let way = |gateway: &str, port| Resolver {
            network: "net".to_owned(),
            gateways: vec![gateway.parse().unwrap()],
            port,
        };
        let kind = BackendKind::Nftables;
        let mut made = Vec::new();
        for port in [1, 2, 1, 1] {
            replace(&mut made, kind, &way("10.1.0.1", port));
            assert_eq!(made, [(kind, way("10.1.0.1", port))]);
        }
        replace(&mut made, kind, &way("10.2.0.1", 1));
        replace(&mut made, BackendKind::IptablesNft, &way("10.1.0.1", 1));
        assert_eq!(made.len(), 3);
    }
}
