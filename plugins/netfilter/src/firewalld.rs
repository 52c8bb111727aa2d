//! The zones of firewalld, by its methods on the system bus.
//!
//! firewalld rejects what is forwarded for an interface that no zone lets pass. An interface or a
//! source in zone `trusted` passes; that is for the running firewalld, not for its files.
//!
//! All there is to say are calls with two strings, so the few messages of the D-Bus specification
//! (0.43, "Message Protocol" and "Authentication Protocol") that this takes are written here. The
//! bus is asked not to start firewalld.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Where the system bus listens unless its address says otherwise.
const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";
/// For how long an answer may take: firewalld answers nothing while it reloads.
const PATIENCE: Duration = Duration::from_secs(10);
/// A longer message is none for us.
const LONGEST: usize = 1 << 20;
const NO_AUTO_START: u8 = 2;

/// What a zone can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// An interface of the host.
    Interface(&'a str),
    /// An address that packets come from.
    Source(IpAddr),
}

/// Why a zone is not as wanted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no bus, or it does not answer.
    #[error("the system bus at {path} does not answer")]
    Bus {
        /// Where it was looked for.
        path: String,
        /// What came instead.
        source: io::Error,
    },
    /// firewalld, or the bus on its behalf, said no.
    #[error("firewalld refuses {call}: {message}")]
    Refused {
        /// The method and what it was asked about.
        call: String,
        /// Its words.
        message: String,
    },
}

/// A connection to the system bus.
#[derive(Debug)]
pub struct Firewalld {
    stream: BufReader<UnixStream>,
    path: String,
    serial: u32,
}

struct Reply {
    /// The name of the error, if it is one.
    error: Option<String>,
    body: Vec<u8>,
}

impl Part<'_> {
    /// The text that firewalld knows it by. It takes an address with and without prefix length for two
    /// sources; the reference plugin writes it with one, and so do we.
    fn text(self) -> String {
        match self {
            Self::Interface(name) => name.to_owned(),
            Self::Source(address) => {
                format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
            }
        }
    }

    /// What a source was called by Pontoon before it wrote the prefix length.
    fn former(self) -> Option<String> {
        match self {
            Self::Interface(_) => None,
            Self::Source(address) => Some(address.to_string()),
        }
    }
}

impl Firewalld {
    /// Connects to the bus at `address` (`unix:path=...`, the value of `DBUS_SYSTEM_BUS_ADDRESS`),
    /// or to the system's.
    ///
    /// # Errors
    /// [`Error::Bus`].
    pub fn open(address: Option<&str>) -> Result<Self, Error> {
        let path = address
            .and_then(|address| {
                let mut all = address.split([';', ',']);
                all.find_map(|part| part.strip_prefix("unix:path="))
            })
            .unwrap_or(SYSTEM_BUS)
            .to_owned();
        let failed = |source| Error::Bus {
            path: path.clone(),
            source,
        };
        let stream = UnixStream::connect(&path).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        let mut bus = Self {
            stream: BufReader::new(stream),
            path: path.clone(),
            serial: 0,
        };
        bus.authenticate().map_err(failed)?;
        let hello = bus.call(
            [
                "org.freedesktop.DBus",
                "/org/freedesktop/DBus",
                "org.freedesktop.DBus",
            ],
            "Hello",
            &[],
        );
        match hello.map_err(failed)? {
            Reply { error: None, .. } => Ok(bus),
            Reply { error, .. } => Err(failed(io::Error::other(error.unwrap_or_default()))),
        }
    }

    /// Puts something into a zone. That it is there already is fine.
    ///
    /// # Errors
    /// Another zone has it, there is no such zone, or firewalld does not run.
    pub fn enter(&mut self, zone: &str, part: Part<'_>) -> Result<(), Error> {
        let there = ["ALREADY_ENABLED", "ZONE_ALREADY_SET"];
        self.ask("add", zone, part, &part.text(), &there).map(drop)
    }

    /// Takes something out of a zone. That it is not there is fine, and that firewalld does not run:
    /// then nothing is.
    ///
    /// # Errors
    /// Whatever else firewalld says.
    pub fn leave(&mut self, zone: &str, part: Part<'_>) -> Result<(), Error> {
        let gone = [
            "NOT_ENABLED",
            "UNKNOWN_INTERFACE",
            "UNKNOWN_SOURCE",
            "INVALID_ZONE",
            "org.freedesktop.DBus.Error.ServiceUnknown",
            "org.freedesktop.DBus.Error.NameHasNoOwner",
        ];
        let spellings = [Some(part.text()), part.former()];
        spellings
            .into_iter()
            .flatten()
            .try_for_each(|text| self.ask("remove", zone, part, &text, &gone).map(drop))
    }

    /// Whether a zone holds something.
    ///
    /// # Errors
    /// firewalld does not run, or there is no such zone.
    pub fn holds(&mut self, zone: &str, part: Part<'_>) -> Result<bool, Error> {
        for text in [Some(part.text()), part.former()].into_iter().flatten() {
            if self.ask("query", zone, part, &text, &[])?.first() == Some(&1) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The zone that an address is a source of.
    ///
    /// # Errors
    /// firewalld does not run.
    pub fn zone_of(&mut self, source: IpAddr) -> Result<Option<String>, Error> {
        let part = Part::Source(source);
        for text in [Some(part.text()), part.former()].into_iter().flatten() {
            let reply = self.method("getZoneOfSource", &[&text], &[])?;
            let zone = string_at(&reply, &mut 0).filter(|zone| !zone.is_empty());
            if zone.is_some() {
                return Ok(zone);
            }
        }
        Ok(None)
    }

    /// Calls `VERBInterface` or `VERBSource`; errors that begin with one of `fine` are none.
    fn ask(
        &mut self,
        verb: &str,
        zone: &str,
        part: Part<'_>,
        text: &str,
        fine: &[&str],
    ) -> Result<Vec<u8>, Error> {
        let kind = match part {
            Part::Interface(_) => "Interface",
            Part::Source(_) => "Source",
        };
        self.method(&format!("{verb}{kind}"), &[zone, text], fine)
    }

    fn method(
        &mut self,
        method: &str,
        arguments: &[&str],
        fine: &[&str],
    ) -> Result<Vec<u8>, Error> {
        let place = [
            "org.fedoraproject.FirewallD1",
            "/org/fedoraproject/FirewallD1",
            "org.fedoraproject.FirewallD1.zone",
        ];
        let reply = self
            .call(place, method, arguments)
            .map_err(|source| Error::Bus {
                path: self.path.clone(),
                source,
            })?;
        let Some(name) = reply.error else {
            return Ok(reply.body);
        };
        let words = string_at(&reply.body, &mut 0).unwrap_or_default();
        if fine
            .iter()
            .any(|fine| words.starts_with(fine) || name == *fine)
        {
            return Ok(Vec::new());
        }
        Err(Error::Refused {
            call: format!("{method}({})", arguments.join(", ")),
            message: if words.is_empty() { name } else { words },
        })
    }

    fn authenticate(&mut self) -> io::Result<()> {
        let user = nix::unistd::Uid::effective().to_string();
        let hex: String = user.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.write(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes())?;
        let mut line = String::new();
        self.stream.by_ref().take(4096).read_line(&mut line)?;
        if !line.starts_with("OK ") {
            return Err(io::Error::other(format!("it said {}", line.trim())));
        }
        self.write(b"BEGIN\r\n")
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    fn call(&mut self, place: [&str; 3], method: &str, arguments: &[&str]) -> io::Result<Reply> {
        self.serial += 1;
        let call = message(self.serial, place, method, arguments);
        self.write(&call)?;
        loop {
            if let Some((serial, reply)) = self.read()?
                && serial == self.serial
            {
                return Ok(reply);
            }
        }
    }

    /// The next message, if it answers something: to which call.
    fn read(&mut self) -> io::Result<Option<(u32, Reply)>> {
        let mut head = [0; 16];
        self.stream.read_exact(&mut head)?;
        // We call in little-endian order; an answer in another one is not understood.
        let (body, fields) = match (head[0], number(&head, 4), number(&head, 12)) {
            (b'l', Some(body), Some(fields)) if body.max(fields) < LONGEST => (body, fields),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        let mut rest = vec![0; fields.next_multiple_of(8) + body];
        self.stream.read_exact(&mut rest)?;
        let body = rest.split_off(fields.next_multiple_of(8));
        rest.truncate(fields);
        let (answers, error) = header(&rest).ok_or(io::ErrorKind::InvalidData)?;
        Ok(match (head[1], answers) {
            (2, Some(serial)) => Some((serial, Reply { error: None, body })),
            (3, Some(serial)) => {
                let error = Some(error.unwrap_or_default());
                Some((serial, Reply { error, body }))
            }
            _ => None,
        })
    }
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let four = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(four)).ok()
}

fn string_at(bytes: &[u8], at: &mut usize) -> Option<String> {
    *at = at.next_multiple_of(4);
    let length = number(bytes, *at)?;
    let text = bytes.get(*at + 4..(*at + 4).checked_add(length)?)?;
    *at += 4 + length + 1;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// The serial that a message answers, and the name of its error.
fn header(fields: &[u8]) -> Option<(Option<u32>, Option<String>)> {
    let (mut answers, mut error) = (None, None);
    let mut at = 0_usize;
    while at < fields.len() {
        at = at.next_multiple_of(8);
        let (code, length, kind) = (*fields.get(at)?, *fields.get(at + 1)?, *fields.get(at + 2)?);
        at += 4;
        match (length, kind) {
            (1, b's' | b'o') => {
                let text = string_at(fields, &mut at)?;
                if code == 4 {
                    error = Some(text);
                }
            }
            (1, b'u') => {
                at = at.next_multiple_of(4);
                if code == 5 {
                    answers = u32::try_from(number(fields, at)?).ok();
                }
                at += 4;
            }
            (1, b'g') => at += usize::from(*fields.get(at)?) + 2,
            _ => return None,
        }
    }
    Some((answers, error))
}

/// A call of a method, whose arguments are strings, of `[destination, object, interface]`.
fn message(serial: u32, place: [&str; 3], method: &str, arguments: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    for argument in arguments {
        put(&mut body, argument);
    }
    let mut fields = Vec::new();
    let [destination, object, interface] = place;
    for (code, kind, text) in [
        (1, b'o', object),
        (2, b's', interface),
        (3, b's', method),
        (6, b's', destination),
    ] {
        fields.resize(fields.len().next_multiple_of(8), 0);
        fields.extend([code, 1, kind, 0]);
        put(&mut fields, text);
    }
    if !arguments.is_empty() {
        fields.resize(fields.len().next_multiple_of(8), 0);
        fields.extend([8, 1, b'g', 0, arguments.len() as u8]);
        fields.extend(arguments.iter().map(|_| b's'));
        fields.push(0);
    }
    let mut out = vec![b'l', 1, NO_AUTO_START, 1];
    out.extend((body.len() as u32).to_le_bytes());
    out.extend(serial.to_le_bytes());
    out.extend((fields.len() as u32).to_le_bytes());
    out.extend(fields);
    out.resize(out.len().next_multiple_of(8), 0);
    out.extend(body);
    out
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
    out.push(0);
}

#[cfg(test)]
mod tests {
    use super::{Part, header, message, number, string_at};

    #[test]
    fn a_source_is_spelled_as_the_reference_spells_it() {
        let texts = |address: &str| {
            let part = Part::Source(address.parse().unwrap());
            (part.text(), part.former())
        };
        let expected = ("10.0.0.2/32".to_owned(), Some("10.0.0.2".to_owned()));
        assert_eq!(texts("10.0.0.2"), expected);
        let expected = ("fd00::2/128".to_owned(), Some("fd00::2".to_owned()));
        assert_eq!(texts("fd00::2"), expected);
    }

    #[test]
    fn a_call_is_laid_out_as_the_specification_says() {
        let call = message(7, ["a.b", "/a", "a.c"], "do", &["trusted", "br-x"]);
        assert_eq!(&call[..4], b"l\x01\x02\x01");
        let (body, fields) = (number(&call, 4).unwrap(), number(&call, 12).unwrap());
        assert_eq!(number(&call, 8), Some(7));
        let start = 16 + fields.next_multiple_of(8);
        assert_eq!(call.len(), start + body);
        let mut at = 0;
        assert_eq!(
            string_at(&call[start..], &mut at).as_deref(),
            Some("trusted")
        );
        assert_eq!(string_at(&call[start..], &mut at).as_deref(), Some("br-x"));
        assert_eq!(header(&call[16..16 + fields]), Some((None, None)));
    }

    #[test]
    fn mutated_messages_are_read_or_not() {
        let call = message(7, ["a.b", "/a", "a.c"], "do", &["trusted", "br-x"]);
        let fields = number(&call, 12).unwrap();
        let good = [
            call[16..16 + fields].to_vec(),
            b"\x05\x01u\0\x09\0\0\0\x04\x01s\0\x03\0\0\0a.b\0".to_vec(),
            call[16 + fields.next_multiple_of(8)..].to_vec(),
        ];
        pontoon_lab::fuzz("D-Bus messages", &good, |bytes, _| {
            if let Some((_, Some(error))) = header(bytes) {
                assert!(error.len() <= 3 * bytes.len());
            }
            let (mut at, mut read) = (0, 0);
            while let Some(text) = string_at(bytes, &mut at) {
                read += 1;
                assert!(read <= bytes.len() && text.len() <= 3 * bytes.len());
            }
        });
    }

    #[test]
    fn cut_messages_are_no_header() {
        let call = message(1, ["a.b", "/a", "a.c"], "do", &["x"]);
        let fields = number(&call, 12).unwrap();
        for length in 1..fields {
            let part = header(&call[16..16 + length]);
            assert!(part.is_none() || part == Some((None, None)));
        }
        assert_eq!(header(b"\x05\x01u\0\x09\0\0\0"), Some((Some(9), None)));
    }
}
