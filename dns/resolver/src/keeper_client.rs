//! The worker's side of the keeper: what the worker cannot do itself, asked for and waited for.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::process::exit;
use std::time::Duration;

use rustix::fs::Dir;
use tokio::io::Interest;

use super::message_socket::MessageSocket;
use super::request::{
    FILES, NumberedMessage, OpenResult, Reply, Request, ResolverProcesses, ShutdownPermission,
    WatchKind, WorkerHandover,
};
use super::watch::watch;

/// For how long an answer is waited for. The keeper, or the standby in its place, answers in far less.
const PATIENCE: Duration = Duration::from_secs(5);

/// The way to the keeper. Requests are few and answered at once, so that they are waited for in place.
pub(crate) struct KeeperClient {
    keeper: Keeper,
    number: Cell<u64>,
}

enum Keeper {
    Process(MessageSocket),
    /// In tests of what asks: the keeper's own code, in this process.
    #[cfg(test)]
    Here(std::cell::RefCell<super::keeper::Service>),
}

impl KeeperClient {
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        let socket = MessageSocket::new(socket);
        socket.set_patience(PATIENCE)?;
        Ok(Self {
            keeper: Keeper::Process(socket),
            number: Cell::new(0),
        })
    }

    #[cfg(test)]
    pub(crate) fn here(service: super::keeper::Service) -> Self {
        Self {
            keeper: Keeper::Here(service.into()),
            number: Cell::new(0),
        }
    }

    /// What the keeper says first.
    pub(crate) fn handover(&self) -> io::Result<Option<(WorkerHandover, Vec<OwnedFd>)>> {
        match &self.keeper {
            Keeper::Process(socket) => socket.receive(true),
            #[cfg(test)]
            Keeper::Here(_) => Ok(None),
        }
    }

    /// Waits for the end of the keeper, and of the standby that would take its place.
    #[cfg_attr(
        not(test),
        allow(
            clippy::infallible_destructuring_match,
            reason = "tests have a second kind"
        )
    )]
    pub(crate) async fn wait_for_the_end(&self) -> io::Result<()> {
        let socket = match &self.keeper {
            Keeper::Process(socket) => socket,
            #[cfg(test)]
            Keeper::Here(_) => return std::future::pending().await,
        };
        let watch = watch(socket.as_fd().try_clone_to_owned()?, Interest::READABLE)?;
        loop {
            let mut guard = watch.readable().await?;
            match socket.receive::<NumberedMessage<Reply>>(false) {
                Ok(None) => return Ok(()),
                // An answer that came twice.
                Ok(Some(_)) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks, and waits. A worker without a keeper has nothing to wait for.
    #[cfg_attr(
        not(test),
        allow(
            clippy::infallible_destructuring_match,
            reason = "tests have a second kind"
        )
    )]
    #[allow(
        clippy::disallowed_methods,
        reason = "a worker without a keeper holds no lock and no draft, and can do nothing more"
    )]
    fn ask(&self, request: &Request) -> (Reply, Vec<OwnedFd>) {
        let socket = match &self.keeper {
            Keeper::Process(socket) => socket,
            #[cfg(test)]
            Keeper::Here(service) => return service.borrow_mut().answer(request.clone()),
        };
        self.number.set(self.number.get() + 1);
        let question = NumberedMessage {
            number: self.number.get(),
            outcome: request,
        };
        let send = || {
            if socket.send(&question, &[]).is_err() {
                exit(1);
            }
        };
        send();
        loop {
            match socket.receive::<NumberedMessage<Reply>>(true) {
                Ok(Some((answer, _))) if answer.outcome == Reply::Again => send(),
                Ok(Some((answer, files))) if answer.number == question.number => {
                    return (answer.outcome, files);
                }
                Ok(Some(_)) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(None) | Err(_) => exit(1),
            }
        }
    }

    /// Opens files of the state directory, in turn; `None` for one that is not there.
    pub(crate) fn open(&self, paths: &[String]) -> Vec<io::Result<Option<File>>> {
        let mut all = Vec::with_capacity(paths.len());
        for some in paths.chunks(FILES) {
            let (reply, files) = self.ask(&Request::Open(some.to_vec()));
            let mut files = files.into_iter();
            let Reply::Opened(opened) = reply else {
                let text = reply.into_error().to_string();
                all.extend(some.iter().map(|_| Err(io::Error::other(text.clone()))));
                continue;
            };
            all.extend(opened.into_iter().map(|opened| match opened {
                OpenResult::There => match files.next() {
                    Some(file) => Ok(Some(file.into())),
                    None => Err(io::Error::other("the keeper has sent no descriptor")),
                },
                OpenResult::Missing => Ok(None),
                OpenResult::Failed(text) => Err(io::Error::other(text)),
            }));
        }
        all
    }

    /// The whole of a file; `None` when it is not there. Never more than `most` bytes.
    pub(crate) fn read(&self, path: String, most: u64) -> io::Result<Option<Vec<u8>>> {
        let file = self.open(&[path]).pop().unwrap_or(Ok(None))?;
        file.map(|file| read(file, most)).transpose()
    }

    /// The names in a directory; none when it is not there.
    pub(crate) fn list(&self, path: String) -> Vec<String> {
        let Some(Ok(Some(dir))) = self.open(&[path]).pop() else {
            return Vec::new();
        };
        let Ok(entries) = Dir::new(dir) else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter_map(|entry| Some(entry.file_name().to_str().ok()?.to_owned()))
            .filter(|name| !matches!(name.as_str(), "." | ".."))
            .collect()
    }

    /// Whether another plugin has a record of this path.
    pub(crate) fn exists(&self, path: String) -> bool {
        self.ask(&Request::Exists(path)).0 == Reply::Is(true)
    }

    /// The number of a watch; `None` when there is no such directory.
    pub(crate) fn watch(&self, watched: WatchKind, path: String) -> Option<i32> {
        match self.ask(&Request::Watch(watched, path)).0 {
            Reply::Watching(number) => Some(number),
            _ => None,
        }
    }

    /// Both sockets at a gateway that one of these records names.
    pub(crate) fn listen(
        &self,
        keys: Vec<String>,
        address: IpAddr,
        port: u16,
    ) -> io::Result<[OwnedFd; 2]> {
        let request = Request::Listen {
            keys,
            address,
            port,
        };
        let (reply, sockets) = self.ask(&request);
        sockets.try_into().map_err(|_| reply.into_error())
    }

    /// A socket in the namespace of a record's container, connected to one of its own servers.
    pub(crate) fn connect(
        &self,
        key: String,
        server: SocketAddr,
        stream: bool,
    ) -> io::Result<OwnedFd> {
        let request = Request::Connect {
            key,
            server,
            stream,
        };
        let (reply, sockets) = self.ask(&request);
        sockets.into_iter().next().ok_or_else(|| reply.into_error())
    }

    /// Whether one of the containers of these records is alive.
    pub(crate) fn is_any_alive(&self, keys: impl Iterator<Item = String>) -> bool {
        let mut keys = keys.peekable();
        while keys.peek().is_some() {
            let some = keys.by_ref().take(FILES).collect();
            if self.ask(&Request::IsAnyAlive(some)).0 != Reply::Is(false) {
                return true;
            }
        }
        false
    }

    /// Tells that the worker listens at this port.
    pub(crate) fn ready(&self, port: u16) -> io::Result<()> {
        match self.ask(&Request::Ready { port }).0 {
            Reply::Done => Ok(()),
            refused => Err(refused.into_error()),
        }
    }

    /// Tells why there is no resolver; the keeper ends the worker.
    pub(crate) fn failed(&self, text: String) {
        self.ask(&Request::Failed(text));
    }

    /// Takes the lock under which resolvers are started.
    pub(crate) fn lock(&self) -> ShutdownPermission {
        match self.ask(&Request::Lock).0 {
            Reply::Departure(permission) => permission,
            _ => ShutdownPermission::Contested,
        }
    }

    pub(crate) fn unlock(&self) {
        self.ask(&Request::Unlock);
    }

    /// Ends all processes of the resolver; its files are removed.
    pub(crate) fn leave(&self) {
        self.ask(&Request::Leave);
    }

    /// The same because a signal asks for it.
    pub(crate) fn stop(&self) {
        self.ask(&Request::Stop);
    }

    pub(crate) fn about(&self) -> ResolverProcesses {
        match self.ask(&Request::About).0 {
            Reply::About(about) => about,
            _ => ResolverProcesses::default(),
        }
    }
}

/// The whole of a file, which has at most `most` bytes.
pub(crate) fn read(file: File, most: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(most + 1).read_to_end(&mut text)?;
    if text.len() as u64 > most {
        return Err(io::Error::other(format!("it has more than {most} bytes")));
    }
    Ok(text)
}
