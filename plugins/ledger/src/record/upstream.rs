//! A server that the resolver asks, as it stands in a configuration and in a record: an address, which
//! is asked in plain text at port 53, or `tls://ADDRESS[:PORT]#NAME`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Port of DNS over UDP and TCP.
const PLAIN: u16 = 53;
/// Port of DNS over TLS (RFC 7858 section 3.1).
const TLS: u16 = 853;

/// A server that the resolver asks. Its text is the same in a configuration and in a record, and an
/// older record, which has addresses only, is read as before.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Upstream {
    /// Address and port.
    pub at: SocketAddr,
    /// The name in the server's certificate; `None` for a server that is asked in plain text.
    pub tls: Option<String>,
}

/// Why a text is no [`Upstream`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UpstreamError {
    /// No address, and nothing that begins with `tls://`.
    #[error("is no IP address")]
    Address,
    /// `tls://` without an address behind it.
    #[error("has no IP address behind tls://")]
    TlsAddress,
    /// `tls://` without the name that the certificate is checked against.
    #[error("has no #NAME, which the server's certificate is checked against")]
    Name,
}

impl From<IpAddr> for Upstream {
    fn from(address: IpAddr) -> Self {
        Self {
            at: SocketAddr::new(address, PLAIN),
            tls: None,
        }
    }
}

impl FromStr for Upstream {
    type Err = UpstreamError;

    fn from_str(text: &str) -> Result<Self, UpstreamError> {
        let Some(rest) = text.strip_prefix("tls://") else {
            let address: IpAddr = text.parse().map_err(|_| UpstreamError::Address)?;
            return Ok(address.to_canonical().into());
        };
        let (at, name) = rest.split_once('#').unwrap_or((rest, ""));
        let bracketed = at.strip_prefix('[').and_then(|at| at.strip_suffix(']'));
        let at = at
            .parse()
            .or_else(|_| {
                let address: IpAddr = match bracketed {
                    Some(address) => address.parse::<std::net::Ipv6Addr>()?.into(),
                    None => at.parse::<std::net::Ipv4Addr>()?.into(),
                };
                Ok::<_, std::net::AddrParseError>(SocketAddr::new(address, TLS))
            })
            .ok()
            .filter(|at| at.port() != 0)
            .ok_or(UpstreamError::TlsAddress)?;
        let fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        if name.is_empty() || name.len() > 253 || !name.bytes().all(fit) {
            return Err(UpstreamError::Name);
        }
        Ok(Self {
            at,
            tls: Some(name.to_ascii_lowercase()),
        })
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(name) = &self.tls else {
            return self.at.ip().fmt(formatter);
        };
        match (self.at.port(), self.at.ip()) {
            (TLS, IpAddr::V4(address)) => write!(formatter, "tls://{address}#{name}"),
            (TLS, IpAddr::V6(address)) => write!(formatter, "tls://[{address}]#{name}"),
            _ => write!(formatter, "tls://{}#{name}", self.at),
        }
    }
}

impl From<Upstream> for String {
    fn from(upstream: Upstream) -> Self {
        upstream.to_string()
    }
}

impl TryFrom<String> for Upstream {
    type Error = UpstreamError;

    fn try_from(text: String) -> Result<Self, UpstreamError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_an_address_or_an_address_with_a_name() {
        for (text, at, name) in [
            ("192.0.2.53", "192.0.2.53:53", None),
            ("2001:db8::53", "[2001:db8::53]:53", None),
            (
                "tls://9.9.9.9#dns.quad9.net",
                "9.9.9.9:853",
                Some("dns.quad9.net"),
            ),
            (
                "tls://[2620:fe::9]#dns.quad9.net",
                "[2620:fe::9]:853",
                Some("dns.quad9.net"),
            ),
            (
                "tls://[2620:fe::9]:8853#9.9.9.9",
                "[2620:fe::9]:8853",
                Some("9.9.9.9"),
            ),
            ("tls://9.9.9.9:8853#a", "9.9.9.9:8853", Some("a")),
        ] {
            let server: Upstream = text.parse().unwrap();
            assert_eq!(server.at, at.parse().unwrap(), "{text}");
            assert_eq!(server.tls.as_deref(), name, "{text}");
            assert_eq!(server.to_string(), text);
            let json = serde_json::to_string(&server).unwrap();
            assert_eq!(
                json,
                format!("{text:?}"),
                "an address stays an address in a record"
            );
            assert_eq!(serde_json::from_str::<Upstream>(&json).unwrap(), server);
        }
        let usual: Upstream = "tls://9.9.9.9:853#DNS.Quad9.NET".parse().unwrap();
        assert_eq!(usual.to_string(), "tls://9.9.9.9#dns.quad9.net");
    }

    #[test]
    fn what_is_no_server_is_refused_with_the_reason() {
        for (text, error) in [
            ("", UpstreamError::Address),
            ("one", UpstreamError::Address),
            ("192.0.2.53:53", UpstreamError::Address),
            ("TLS://9.9.9.9#a", UpstreamError::Address),
            ("tls://#a", UpstreamError::TlsAddress),
            (
                "tls://dns.quad9.net#dns.quad9.net",
                UpstreamError::TlsAddress,
            ),
            ("tls://9.9.9.9:0#a", UpstreamError::TlsAddress),
            ("tls://9.9.9.9:x#a", UpstreamError::TlsAddress),
            ("tls://[9.9.9.9]#a", UpstreamError::TlsAddress),
            ("tls://2620:fe::9#a", UpstreamError::TlsAddress),
            ("tls://9.9.9.9", UpstreamError::Name),
            ("tls://9.9.9.9#", UpstreamError::Name),
            ("tls://9.9.9.9#a b", UpstreamError::Name),
            ("tls://9.9.9.9#a#b", UpstreamError::Name),
        ] {
            assert_eq!(text.parse::<Upstream>(), Err(error), "{text}");
        }
    }
}
