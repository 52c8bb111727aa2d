//! A server that is asked: its address, and for one over TLS the name in its certificate.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use pontoon_dns::record::Upstream;

/// A server that is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    /// Address and port.
    pub at: SocketAddr,
    /// What a connection over TLS needs; `None` for a server that is asked in plain text.
    pub tls: Option<Rc<Tls>>,
}

/// How the certificate of a server over TLS is checked.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Tls {
    /// The name that it is for.
    pub name: String,
    /// File of the certificate authorities; `None` is the host's.
    pub ca: Option<PathBuf>,
}

impl Server {
    /// A server of a record, checked against the authorities of that record.
    #[must_use]
    pub fn of(upstream: &Upstream, ca: Option<&Path>) -> Self {
        let tls = upstream.tls.as_ref().map(|name| {
            Rc::new(Tls {
                name: name.clone(),
                ca: ca.map(Path::to_owned),
            })
        });
        Self {
            at: upstream.at,
            tls,
        }
    }

    /// For people: a plain server is its address.
    #[must_use]
    pub fn words(&self) -> String {
        match self.tls {
            Some(_) => self.to_string(),
            None => self.at.ip().to_string(),
        }
    }
}

impl From<IpAddr> for Server {
    fn from(address: IpAddr) -> Self {
        Self::of(&address.into(), None)
    }
}

impl From<SocketAddr> for Server {
    fn from(at: SocketAddr) -> Self {
        Self { at, tls: None }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(tls) = &self.tls else {
            return self.at.fmt(formatter);
        };
        Upstream {
            at: self.at,
            tls: Some(tls.name.clone()),
        }
        .fmt(formatter)
    }
}
