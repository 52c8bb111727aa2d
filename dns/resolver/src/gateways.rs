//! The resolver listens where the records say.

use std::io;
use std::net::IpAddr;
use std::rc::Rc;

use super::birth::{self, StartError};
use super::listen::Bound;
use super::state::Daemon;
use super::{tcp, udp};

impl Daemon {
    /// The port must be free at every gateway; rules lead to it, so it is kept from one life to the
    /// next, and another one is taken only when it cannot be had at all.
    pub(crate) fn choose_port(self: &Rc<Self>) -> Result<(), StartError> {
        let gateways: Vec<IpAddr> = self.zone.borrow().gateways().collect();
        for port in birth::ports(self.port.get()) {
            let mut taken = false;
            let mut bound = Vec::new();
            for gateway in &gateways {
                match Bound::new(*gateway, port) {
                    Ok(one) => bound.push(one),
                    // An address that cannot be had at all is told to whoever asks for it.
                    Err(error) => taken |= error.kind() == io::ErrorKind::AddrInUse,
                }
            }
            if !taken {
                self.port.set(port);
                for one in bound {
                    self.serve_at(one);
                }
                return self.files.write_port(port);
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
            let wanted: Vec<IpAddr> = self.zone.borrow().gateways().collect();
            let port = self.port.get();
            self.listeners.borrow_mut().keep(&wanted);
            let mut words = Vec::new();
            for address in wanted {
                if self.listeners.borrow().has(address) {
                    continue;
                }
                match Bound::new(address, port) {
                    Ok(bound) => self.serve_at(bound),
                    Err(error) => {
                        words.push(format!("cannot listen at {address} port {port}: {error}"));
                    }
                }
            }
            self.warn(words);
        }
        self.changed.notify_one();
    }

    fn serve_at(self: &Rc<Self>, bound: Bound) {
        let Bound { address, udp, tcp } = bound;
        let tasks = [
            tokio::task::spawn_local(udp::serve(Rc::clone(self), Rc::new(udp), address)),
            tokio::task::spawn_local(tcp::serve(Rc::clone(self), tcp)),
        ];
        self.listeners.borrow_mut().put(address, tasks);
    }
}
