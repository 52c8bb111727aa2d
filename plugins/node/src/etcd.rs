//! Talking to etcd: the connection to one member, lists, and transactions. What is written is decided elsewhere.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, GetOptions, Identity, PutOptions,
    TlsOptions, Txn, TxnOp,
};
use tokio::time::timeout;

use crate::claims::Act;
use crate::cluster::Cluster;
use crate::key::{Key, PREFIX};
use crate::services::Numbering;
use crate::settings::Etcd;
use crate::value::{ClaimValue, LEASE, ServiceValue};

/// For how long a member may take to answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);
/// How often a quiet connection is tried, and for how long its answer is waited for.
const PING: Duration = Duration::from_secs(3);
/// Keys in one answer at first. Pontoon's have less than 2 kB each, and an answer of gRPC has at most 4 MB.
const PAGE: i64 = 1000;
/// By what a page is divided whose answer is larger than that: any host can write what is larger.
const SMALLER: i64 = 10;

/// Why something of etcd did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EtcdError {
    /// A file for TLS cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The member, or the way to it, says no.
    #[error("cannot {what}: {}", chain(source))]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// The answer.
        source: Box<etcd_client::Error>,
    },
    /// No answer.
    #[error("cannot {what}: no answer within {} s", PATIENCE.as_secs())]
    Late {
        /// What was asked for.
        what: &'static str,
    },
    /// The watch ended.
    #[error("the watch ended: {0}")]
    WatchEnded(String),
    /// What was to be watched is no longer kept.
    #[error("the watch is behind etcd's compaction at revision {0}")]
    Compacted(i64),
    /// Another machine has this host's id.
    #[error(
        "another machine is host {host} (its boot is {boot}): give one of them another `host` in {}; if it is this \
         machine before its last boot, its lease ends within {} s",
        crate::settings::FILE,
        LEASE.as_secs()
    )]
    Twice {
        /// The id.
        host: String,
        /// What the other one says of its boot.
        boot: String,
    },
}

impl EtcdError {
    /// Whether the answer was larger than a message may be. (tonic says `OutOfRange`, gRPC's own libraries
    /// `ResourceExhausted`.)
    fn is_too_large(&self) -> bool {
        self.status()
            .is_some_and(|status| [8, 11].contains(&status))
    }

    /// Whether the role of this host does not allow it.
    pub(crate) fn is_denied(&self) -> bool {
        const PERMISSION_DENIED: i32 = 7;
        self.status() == Some(PERMISSION_DENIED)
    }

    /// The number of gRPC's status.
    fn status(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } => match &**source {
                etcd_client::Error::GRpcStatus(status) => Some(status.code() as i32),
                _ => None,
            },
            _ => None,
        }
    }
}

/// An error with its causes.
fn chain(error: &etcd_client::Error) -> String {
    // The library's error has no `source`; its gRPC status does.
    match error {
        etcd_client::Error::GRpcStatus(status) => {
            let mut text = status.message().to_owned();
            let mut cause = std::error::Error::source(status);
            while let Some(error) = cause {
                let more = error.to_string();
                if !text.contains(&more) {
                    text = format!("{text}: {more}");
                }
                cause = error.source();
            }
            text
        }
        error => error.to_string(),
    }
}

/// An answer that is waited for, for a while.
pub(crate) async fn answered<T>(
    what: &'static str,
    call: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, EtcdError> {
    match timeout(PATIENCE, call).await {
        Ok(answer) => answer.map_err(|source| EtcdError::Refused {
            what,
            source: Box::new(source),
        }),
        Err(_) => Err(EtcdError::Late { what }),
    }
}

/// Connects to one member.
///
/// # Errors
/// When a file cannot be read, or the endpoint is none. Whether the member answers is seen by the first question.
pub(crate) async fn connect(settings: &Etcd, endpoint: &str) -> Result<Client, EtcdError> {
    let mut options = ConnectOptions::new()
        .with_connect_timeout(PATIENCE)
        .with_keep_alive(PING, PING)
        .with_keep_alive_while_idle(true)
        // A member without a leader ends the watch instead of saying nothing.
        .with_require_leader(true);
    if endpoint.starts_with("https://") {
        let mut tls = TlsOptions::new();
        if let Some(ca) = &settings.ca {
            tls = tls.ca_certificate(Certificate::from_pem(read(ca)?));
        }
        if let (Some(certificate), Some(key)) = (&settings.certificate, &settings.key) {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        options = options.with_tls(tls);
    }
    answered(
        "connect to etcd",
        Client::connect([endpoint], Some(options)),
    )
    .await
}

/// Connects to the first member that answers.
///
/// # Errors
/// That of the last member.
pub(crate) async fn connect_to_any(settings: &Etcd) -> Result<(Client, Cluster, i64), EtcdError> {
    let mut last = EtcdError::Late {
        what: "connect to etcd",
    };
    for endpoint in &settings.endpoints {
        let listed = async {
            let mut client = connect(settings, endpoint).await?;
            let (cluster, revision) = list(&mut client).await?;
            Ok((client, cluster, revision))
        };
        match listed.await {
            Ok(found) => return Ok(found),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn read(path: &Path) -> Result<Vec<u8>, EtcdError> {
    fs::read(path).map_err(|source| EtcdError::File {
        path: path.to_owned(),
        source,
    })
}

/// Everything below the prefix at one revision, which is told. The answer is the cluster's, not that of a member that
/// is behind.
///
/// # Errors
/// When the member does not answer or says no.
pub(crate) async fn list(client: &mut Client) -> Result<(Cluster, i64), EtcdError> {
    let mut cluster = Cluster::default();
    let mut revision = 0;
    let mut from = PREFIX.as_bytes().to_vec();
    // The first key that does not begin with the prefix.
    let end = {
        let mut end = PREFIX.as_bytes().to_vec();
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        end
    };
    let mut page = PAGE;
    loop {
        let options = GetOptions::new()
            .with_range(end.clone())
            .with_limit(page)
            .with_revision(revision);
        let asked = client.get(from.clone(), Some(options));
        let answer = match answered("list etcd's keys", asked).await {
            Err(error) if page > 1 && error.is_too_large() => {
                page = (page / SMALLER).max(1);
                continue;
            }
            answer => answer?,
        };
        if revision == 0 {
            revision = answer.header().map_or(0, |header| header.revision());
        }
        for entry in answer.kvs() {
            let (key, value) = (String::from_utf8_lossy(entry.key()), entry.value());
            cluster.put(&key, value, entry.create_revision(), entry.mod_revision());
        }
        match answer.kvs().last() {
            Some(last) if answer.more() => {
                from = last.key().to_vec();
                from.push(0);
            }
            _ => return Ok((cluster, revision)),
        }
    }
}

/// Carries out what was decided about a block. Tells whether it was done, and etcd's revision then: it is not done
/// when etcd says something else than what was decided by.
///
/// # Errors
/// When the member does not answer or says no.
pub(crate) async fn carry_out(
    client: &mut Client,
    host: &str,
    network: &str,
    act: &Act,
) -> Result<(bool, i64), EtcdError> {
    let claim_key = |block| Key::Claim(network.to_owned(), block).path();
    let confirmation_key =
        |block| Key::Confirmation(host.to_owned(), network.to_owned(), block).path();
    let claim = ClaimValue {
        host: host.to_owned(),
    };
    let claim = serde_json::to_vec(&claim).unwrap_or_default();
    let txn = match act {
        Act::Claim { block, over } => Txn::new()
            .when([unchanged(claim_key(*block), *over)])
            .and_then([
                TxnOp::put(claim_key(*block), claim, None),
                TxnOp::put(confirmation_key(*block), "{}", None),
            ]),
        Act::Mend { block, over } => Txn::new()
            .when([unchanged(claim_key(*block), *over)])
            .and_then([TxnOp::put(claim_key(*block), claim, None)]),
        Act::Release { block } => {
            let own = Compare::value(claim_key(*block), CompareOp::Equal, claim);
            let both = [
                TxnOp::delete(claim_key(*block), None),
                TxnOp::delete(confirmation_key(*block), None),
            ];
            Txn::new()
                .when([own])
                .and_then(both)
                .or_else([TxnOp::delete(confirmation_key(*block), None)])
        }
    };
    let answer = answered("write a block to etcd", client.txn(txn)).await?;
    let revision = answer.header().map_or(0, |header| header.revision());
    // A block whose claim is another host's is given back as well.
    let done = answer.succeeded() || matches!(act, Act::Release { .. });
    Ok((done, revision))
}

/// Gives a service its number, both keys or none. Tells whether it was done, and etcd's revision then: it is not done when
/// the service, or the number, has been given meanwhile.
///
/// # Errors
/// When the member does not answer or says no.
pub(crate) async fn give_number(
    client: &mut Client,
    numbering: &Numbering,
) -> Result<(bool, i64), EtcdError> {
    let of_name = |name: &str| Key::ServiceName(numbering.network.clone(), name.to_owned()).path();
    let of_number = Key::ServiceNumber(numbering.network.clone(), numbering.number).path();
    let value = ServiceValue {
        number: numbering.number,
    };
    let value = serde_json::to_vec(&value).unwrap_or_default();
    let (name, before) = (numbering.name.as_str(), &numbering.instead_of);
    let over = before.as_ref().map_or(0, |(_, revision)| *revision);
    let mut acts = vec![
        TxnOp::put(of_name(name), value, None),
        TxnOp::put(of_number.clone(), name, None),
    ];
    acts.extend(
        before
            .iter()
            .map(|(other, _)| TxnOp::delete(of_name(other), None)),
    );
    let txn = Txn::new()
        .when([unchanged(of_name(name), 0), unchanged(of_number, over)])
        .and_then(acts);
    let answer = answered("give a service an address", client.txn(txn)).await?;
    let revision = answer.header().map_or(0, |header| header.revision());
    Ok((answer.succeeded(), revision))
}

/// That a key was last written at a revision; 0: that there is none.
fn unchanged(key: String, revision: i64) -> Compare {
    Compare::mod_revision(key, CompareOp::Equal, revision)
}

/// Operations of one transaction: etcd allows 128 by default.
pub(crate) const OPERATIONS: usize = 100;

/// Writes and removes keys of this host, many at a time; etcd's revision then.
///
/// # Errors
/// When the member does not answer or says no.
pub(crate) async fn write_endpoints(
    client: &mut Client,
    changes: &[(String, Option<Vec<u8>>)],
) -> Result<i64, EtcdError> {
    let mut revision = 0;
    for some in changes.chunks(OPERATIONS) {
        let operation = |(key, value): &(String, Option<Vec<u8>>)| match value {
            Some(value) => TxnOp::put(key.as_str(), value.as_slice(), None),
            None => TxnOp::delete(key.as_str(), None),
        };
        let some: Vec<TxnOp> = some.iter().map(operation).collect();
        let txn = client.txn(Txn::new().and_then(some));
        let answer = answered("tell etcd of containers", txn).await?;
        revision = answer.header().map_or(0, |header| header.revision());
    }
    Ok(revision)
}

/// Writes this host's two keys: how it is reached, and with a lease that it is alive.
///
/// # Errors
/// When the member does not answer or says no.
pub(crate) async fn write_host(
    client: &mut Client,
    host: &str,
    (info, alive): (Vec<u8>, Vec<u8>),
    lease: i64,
) -> Result<(), EtcdError> {
    let leased = PutOptions::new().with_lease(lease);
    let txn = Txn::new().and_then([
        TxnOp::put(Key::Info(host.to_owned()).path(), info, None),
        TxnOp::put(Key::Alive(host.to_owned()).path(), alive, Some(leased)),
    ]);
    answered("tell etcd that this host is alive", client.txn(txn)).await?;
    Ok(())
}
