//! The resolver listens where the records say.

use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use super::listen::Bound;
use super::request::FILES;
use super::startup::{self, StartError};
use super::state::Daemon;
use super::{tcp, udp};

/// How often, and after which pause, a port is tried that the worker before may not have closed yet.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(10);

impl Daemon {
    /// Both sockets at a gateway. The records that name it are told to the keeper, which looks.
    fn bind(&self, address: IpAddr, port: u16) -> io::Result<Bound> {
        let keys = self
            .zone
            .borrow()
            .attachments()
            .filter(|attachment| attachment.shared.gateways.contains(&address))
            .take(FILES)
            .map(|attachment| attachment.key().path())
            .collect();
        Bound::new(address, self.keeper.listen(keys, address, port)?)
    }

    /// The port must be free at every gateway; rules lead to it, so it is kept from one life to the
    /// next, and another one is taken only when it cannot be had at all.
    pub(crate) fn choose_port(self: &Rc<Self>, is_again: bool) -> Result<(), StartError> {
        let gateways: Vec<IpAddr> = self.zone.borrow().gateways().collect();
        let mut tries = if is_again { TRIES } else { 0 };
        let mut ports = startup::ports(self.port.get()).peekable();
        while let Some(port) = ports.peek().copied() {
            let mut taken = false;
            let mut bound = Vec::new();
            for gateway in &gateways {
                match self.bind(*gateway, port) {
                    Ok(one) => bound.push(one),
                    // An address that cannot be had at all is told with the records that name it.
                    Err(error) => taken |= error.kind() == io::ErrorKind::AddrInUse,
                }
            }
            if !taken {
                self.port.set(port);
                for one in bound {
                    self.serve_at(one);
                }
                let written = self.keeper.ready(port);
                return written.map_err(StartError::io(format!("note the port {port}")));
            }
            if tries > 0 {
                tries -= 1;
                std::thread::sleep(PAUSE);
            } else {
                ports.next();
            }
        }
        Err(StartError::NoPort {
            first: self.port.get(),
        })
    }

    /// Listens where the records say.
    pub(crate) fn fit(self: &Rc<Self>) {
        let changes = self.zone.borrow().gateway_changes();
        if self.fitted.replace(changes) != changes {
            let (mut words, stale) = self.listen_at_all();
            if stale {
                // The keeper knows of records that have gone, and this worker not yet.
                self.read_all();
                (words, _) = self.listen_at_all();
            }
            self.fitted.set(self.zone.borrow().gateway_changes());
            self.warn(words);
        }
        self.changed.notify_one();
    }

    /// Returns where it cannot listen, and whether the keeper has refused.
    fn listen_at_all(self: &Rc<Self>) -> (Vec<String>, bool) {
        let criteria: Vec<IpAddr> = self.zone.borrow().gateways().collect();
        let port = self.port.get();
        self.listeners.borrow_mut().keep(&criteria);
        let (mut words, mut refused) = (Vec::new(), false);
        for address in criteria {
            if self.listeners.borrow().has(address) {
                continue;
            }
            match self.bind(address, port) {
                Ok(bound) => self.serve_at(bound),
                Err(error) => {
                    refused |= error.raw_os_error().is_none();
                    words.push(format!("cannot listen at {address} port {port}: {error}"));
                }
            }
        }
        (words, refused)
    }

    fn serve_at(self: &Rc<Self>, bound: Bound) {
        let Bound { address, udp, tcp } = bound;
        let tasks = [
            tokio::task::spawn_local(udp::serve(Rc::clone(self), Rc::new(udp), address)),
            tokio::task::spawn_local(tcp::serve(Rc::clone(self), tcp, address)),
        ];
        self.listeners.borrow_mut().put(address, tasks);
    }
}
