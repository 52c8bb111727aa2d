//! Servers over TLS (RFC 7858): one connection for each, which all questions share, and which ends when
//! nothing is asked. The certificate is checked against the name of the record; what fails is an error
//! with its reason, and nothing is asked in plain text instead.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use pontoon_dns::wire::answers;
use tokio::io::{AsyncReadExt, AsyncWriteExt, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error};

use super::authorities::Authorities;
use super::framing::{frame, queue};
use super::sockets::connected;
use super::state::Daemon;
use pontoon_resolver::merge::MOST;
use pontoon_resolver::plan::{ATTEMPT, WHOLE};
use pontoon_resolver::server::{Server, Tls};

/// For how long a connection is kept that nothing is asked over: servers close theirs after 8 to 30 s.
const IDLE: Duration = Duration::from_secs(10);
/// After how long without a byte a connection with open questions is given up: two attempts.
const SILENT: Duration = ATTEMPT.saturating_mul(2);
/// For how long a server whose certificate was refused is not connected to again.
const REST: Duration = Duration::from_secs(1);
/// Bytes of questions that may wait for a server that does not read.
const UNSENT: usize = 256 * 1024;

/// The connections, by server.
#[derive(Default)]
pub(crate) struct Connections {
    links: RefCell<HashMap<Server, ConnectionState>>,
    authorities: RefCell<Authorities>,
}

enum ConnectionState {
    /// Questions for the connection.
    Open(mpsc::UnboundedSender<ConnectionQuestion>),
    /// The connection failed then, and why.
    Broken(Instant, String),
}

/// A question for a connection. The reply has the question's id.
struct ConnectionQuestion {
    packet: Vec<u8>,
    reply: oneshot::Sender<Result<Vec<u8>, String>>,
}

/// Asks a server over its connection, which is made when there is none. A question that a kept
/// connection took along into its end is asked again over a new one (RFC 7766 section 6.2.4).
///
/// # Errors
/// Why there is no connection, or no answer over it.
pub(crate) async fn ask(
    daemon: Rc<Daemon>,
    server: Server,
    packet: Vec<u8>,
) -> Result<Vec<u8>, String> {
    for _ in 0..2 {
        let orders = link(&daemon, &server)?;
        let (reply, coming) = oneshot::channel();
        let packet = packet.clone();
        if orders.send(ConnectionQuestion { packet, reply }).is_ok()
            && let Ok(outcome) = coming.await
        {
            return outcome;
        }
    }
    Err("it closes connections without an answer".to_owned())
}

/// The connection of a server, a new one when there is none.
fn link(
    daemon: &Rc<Daemon>,
    server: &Server,
) -> Result<mpsc::UnboundedSender<ConnectionQuestion>, String> {
    let mut links = daemon.tls.links.borrow_mut();
    match links.get(server) {
        Some(ConnectionState::Open(orders)) if !orders.is_closed() => return Ok(orders.clone()),
        Some(ConnectionState::Broken(at, reason)) if at.elapsed() < REST => {
            return Err(reason.clone());
        }
        _ => {}
    }
    // Those that have ended are few, and found only here.
    links.retain(|_, link| match link {
        ConnectionState::Open(orders) => !orders.is_closed(),
        ConnectionState::Broken(at, _) => at.elapsed() < REST,
    });
    let tls = server.tls.clone().ok_or("it is not asked over TLS")?;
    let config = daemon
        .tls
        .authorities
        .borrow_mut()
        .config(tls.ca.as_deref())?;
    let (orders, coming) = mpsc::unbounded_channel();
    links.insert(server.clone(), ConnectionState::Open(orders.clone()));
    let (daemon, server) = (Rc::clone(daemon), server.clone());
    tokio::task::spawn_local(async move {
        let mut coming = coming;
        let made = timeout(WHOLE, connect(server.at, &tls, config)).await;
        match made.unwrap_or_else(|_| Err(Refused::Unreachable("no TLS within 4 s".to_owned()))) {
            Ok(stream) => converse(stream, coming).await,
            Err(refused) => {
                coming.close();
                let reason = refused.reason();
                while let Ok(order) = coming.try_recv() {
                    let _ = order.reply.send(Err(reason.clone()));
                }
                if let Refused::Handshake(reason) = refused {
                    let broken = ConnectionState::Broken(Instant::now(), reason);
                    daemon.tls.links.borrow_mut().insert(server, broken);
                }
            }
        }
    });
    Ok(orders)
}

/// Why there is no connection.
enum Refused {
    /// The server cannot be reached.
    Unreachable(String),
    /// One of the two does not want the other.
    Handshake(String),
}

impl Refused {
    fn reason(&self) -> String {
        match self {
            Self::Unreachable(reason) | Self::Handshake(reason) => reason.clone(),
        }
    }
}

/// A connection whose certificate has been checked.
async fn connect(
    at: SocketAddr,
    tls: &Tls,
    config: Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, Refused> {
    let unreachable = |error: io::Error| Refused::Unreachable(format!("no connection: {error}"));
    let name = ServerName::try_from(tls.name.clone())
        .map_err(|_| Refused::Handshake(format!("{} can be no name of a certificate", tls.name)))?;
    let fd = connected(at, true).map_err(unreachable)?;
    let stream = TcpStream::from_std(fd.into()).map_err(unreachable)?;
    stream.writable().await.map_err(unreachable)?;
    if let Some(error) = stream.take_error().map_err(unreachable)? {
        return Err(unreachable(error));
    }
    let _ = stream.set_nodelay(true);
    let shaken = TlsConnector::from(config).connect(name, stream).await;
    shaken.map_err(|error| Refused::Handshake(reason(&error, tls)))
}

/// In words why a handshake failed.
fn reason(error: &io::Error, tls: &Tls) -> String {
    let known = error.get_ref().and_then(|inner| inner.downcast_ref());
    let Some(Error::InvalidCertificate(fault)) = known else {
        return format!("no TLS: {error}");
    };
    match fault {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("its certificate is not for {}", tls.name)
        }
        CertificateError::UnknownIssuer => match &tls.ca {
            Some(ca) => format!("its certificate is of no authority in {}", ca.display()),
            None => "its certificate is of no authority that the host trusts".to_owned(),
        },
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired, by the host's clock".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet, by the host's clock".to_owned()
        }
        other => format!("its certificate is refused: {other}"),
    }
}

/// Questions on a connection, by the ids that they have there.
#[derive(Default)]
struct Open {
    by_id: HashMap<u16, ConnectionQuestion>,
    last: u16,
}

impl Open {
    /// Takes a question in, and gives it an id that no other has.
    fn put(&mut self, mut order: ConnectionQuestion, output: &mut Vec<u8>) {
        loop {
            self.last = self.last.wrapping_add(1);
            if !self.by_id.contains_key(&self.last) {
                break;
            }
        }
        let [high, low] = self.last.to_be_bytes();
        let own = [order.packet[0], order.packet[1]];
        order.packet[..2].copy_from_slice(&[high, low]);
        queue(output, &order.packet);
        order.packet[..2].copy_from_slice(&own);
        self.by_id.insert(self.last, order);
    }

    /// Gives a reply to the question that it is for.
    fn deliver(&mut self, mut message: Vec<u8>) {
        let Some(id) = message.first_chunk().map(|id| u16::from_be_bytes(*id)) else {
            return;
        };
        let fits = |order: &ConnectionQuestion| answers(&order.packet, id, &message);
        if self.by_id.get(&id).is_some_and(fits)
            && let Some(order) = self.by_id.remove(&id)
        {
            message[..2].copy_from_slice(&order.packet[..2]);
            let _ = order.reply.send(Ok(message));
        }
    }
}

/// Writes some of it; all of it is on its way when there is nothing left to write.
async fn send(writer: &mut WriteHalf<TlsStream<TcpStream>>, output: &[u8]) -> io::Result<usize> {
    if output.is_empty() {
        return writer.flush().await.map(|()| 0);
    }
    match writer.write(output).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        count => Ok(count),
    }
}

/// Sends questions and hands replies out, until one side ends it. What is open then is dropped, which
/// the question learns.
async fn converse(
    stream: TlsStream<TcpStream>,
    mut orders: mpsc::UnboundedReceiver<ConnectionQuestion>,
) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (mut input, mut output) = (Vec::new(), Vec::new());
    let mut open = Open::default();
    let mut unflushed = false;
    let mut active = Instant::now();
    loop {
        let room = open.by_id.len() < MOST && output.len() < UNSENT;
        let patience = if open.by_id.is_empty() { IDLE } else { SILENT };
        tokio::select! {
            order = orders.recv(), if room => {
                let Some(order) = order else { return };
                if open.by_id.is_empty() {
                    active = Instant::now();
                }
                open.put(order, &mut output);
                while open.by_id.len() < MOST && let Ok(order) = orders.try_recv() {
                    open.put(order, &mut output);
                }
            }
            sent = send(&mut writer, &output), if !output.is_empty() || unflushed => {
                let Ok(count) = sent else { return };
                unflushed = !output.is_empty();
                output.drain(..count);
            }
            got = reader.read_buf(&mut input) => match got {
                Ok(count) if count > 0 => {
                    active = Instant::now();
                    while let Some(message) = frame(&mut input) {
                        open.deliver(message);
                    }
                    // A question that was given up is waited for no longer.
                    open.by_id.retain(|_, order| !order.reply.is_closed());
                }
                _ => return,
            },
            () = sleep_until(active + patience) => {
                // What is open, or comes from here on, is asked again over another connection.
                drop((open, orders));
                let _ = timeout(ATTEMPT, writer.shutdown()).await;
                return;
            }
        }
    }
}
