//! Host ports belong to one attachment at a time.
//!
//! A reservation is a slot of a sparse file in the state directory, which names the owner: fifty
//! ports in a row are read by one system call and written by another.
//!
//! ```text
//! ports/slots                 8 bytes for each protocol, family and port: free (0), an owner of
//!                             the port at every address (its number), or owners at single ones (1)
//! ports/owner/NUMBER          -> NETWORK/CONTAINER:IFNAME
//! ports/tcp4/8443/10.0.0.1    -> NETWORK/CONTAINER:IFNAME     the port at one address
//! ```
//!
//! A plugin may be killed between any two calls. An owner is named before its slots are written
//! and after they are emptied: a number without a name belongs to no attachment, and all of `ports` goes
//! with the last name.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{FileExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use pontoon_netfilter::{Port, Protocol, Published};
use sha2::{Digest, Sha256};

use crate::{Key, directory, files};

/// Bytes of a slot.
const SLOT: u64 = 8;
/// Slots of a protocol and family.
const PORTS: u64 = 1 << 16;
/// TCP, UDP and SCTP, each over IPv4 and IPv6.
const TABLES: u64 = 6;
/// No attachment has the port.
const FREE: u64 = 0;
/// The port is reserved at single addresses, each by a link.
const AT_ADDRESSES: u64 = 1;

/// The reservations of a host. All calls need the lock of the caller.
#[derive(Debug)]
pub struct Reservations {
    dir: PathBuf,
}

/// Why a port could not be reserved.
#[derive(Debug)]
pub enum Refusal {
    /// It belongs to another attachment.
    Taken(Port, Key),
    /// The directory of the reservations cannot be read or written.
    Io(PathBuf, io::Error),
}

/// What an attachment wants of the slots.
struct SlotRequest {
    name: String,
    number: u64,
    /// Slots of ports at every address, with the port that each is of.
    everywhere: Vec<(u64, Port)>,
    /// Slots of ports at one address.
    at: Vec<(u64, IpAddr, Port)>,
}

/// The file of slots.
struct Slots(File);

impl Reservations {
    /// Those below a state directory.
    #[must_use]
    pub fn at(state: &Path) -> Self {
        Self {
            dir: state.join("ports"),
        }
    }

    /// Whether all ports of an attachment are free, or its own already. Changes nothing.
    ///
    /// # Errors
    /// The first port that another attachment has, or what cannot be read.
    pub fn check(&self, published: &Published) -> Result<(), Refusal> {
        match self.open(false) {
            Ok(slots) => self.look(&slots, &SlotRequest::of(published)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Reserves all ports of an attachment, or none; those it has already are fine.
    ///
    /// # Errors
    /// The first port that another attachment has, or what cannot be read or written.
    pub fn take(&self, published: &Published) -> Result<(), Refusal> {
        let wanted = SlotRequest::of(published);
        let failed = |error| self.failed(error);
        let slots = self.open(true).map_err(failed)?;
        self.look(&slots, &wanted)?;
        let new = self.name_owner(&wanted).map_err(failed)?;
        self.write(&slots, &wanted).map_err(|error| {
            if new {
                // The first error is told; what stays goes with the DEL of the attachment.
                let _ = self.give_back(published);
            }
            failed(error)
        })
    }

    /// Gives back what of these ports belongs to this attachment.
    ///
    /// # Errors
    /// What cannot be read, written or removed.
    pub fn give_back(&self, published: &Published) -> io::Result<()> {
        let wanted = SlotRequest::of(published);
        let owner = self.owner_path(wanted.number);
        if !leads_to(&owner, &wanted.name)? {
            // One call before may have failed after this.
            return self.remove_if_unowned();
        }
        let slots = match self.open(false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Killed before it was made, or after it was removed.
                fs::remove_file(owner)?;
                return self.remove_if_unowned();
            }
            other => other?,
        };
        for (first, values) in slots.runs(&wanted.everywhere)? {
            if values.contains(&wanted.number) {
                let left = values.iter().map(|value| match *value {
                    value if value == wanted.number => FREE,
                    other => other,
                });
                slots.write(first, left)?;
            }
        }
        for (slot, ip, port) in &wanted.at {
            let link = self.link(port, *ip);
            if leads_to(&link, &wanted.name)? {
                fs::remove_file(&link)?;
            }
            // Fails while other addresses have the port. A call that was killed may have left it empty.
            let dir = link.parent().unwrap_or(&self.dir);
            let last = match fs::remove_dir(dir) {
                Err(error) => error.kind() == io::ErrorKind::NotFound,
                Ok(()) => true,
            };
            if last && slots.read(*slot, 1)? == [AT_ADDRESSES] {
                slots.write(*slot, [FREE].into_iter())?;
            }
        }
        fs::remove_file(owner)?;
        self.remove_if_unowned()
    }

    /// Ports of these that do not belong to the attachment any more.
    #[must_use]
    pub fn missing(&self, published: &Published) -> Vec<Port> {
        let wanted = SlotRequest::of(published);
        let Ok(slots) = self.open(false) else {
            return published.ports.clone();
        };
        // What cannot be read is told as missing.
        let leads = |link: &Path| leads_to(link, &wanted.name).unwrap_or(false);
        let named = leads(&self.owner_path(wanted.number));
        let holds = |slot| {
            named
                && slots
                    .read(slot, 1)
                    .is_ok_and(|held| held == [wanted.number])
        };
        let everywhere = wanted
            .everywhere
            .iter()
            .filter(|(slot, _)| !holds(*slot))
            .map(|(_, port)| *port);
        let at = wanted
            .at
            .iter()
            .filter(|(slot, ip, port)| !leads(&self.link(port, *ip)) && !holds(*slot))
            .map(|(_, _, port)| *port);
        let mut missing: Vec<Port> = everywhere.chain(at).collect();
        missing.dedup();
        missing
    }

    /// Refuses a port that another attachment has.
    fn look(&self, slots: &Slots, wanted: &SlotRequest) -> Result<(), Refusal> {
        let failed = |error| self.failed(error);
        let mut ports = wanted.everywhere.iter();
        for (first, values) in slots.runs(&wanted.everywhere).map_err(failed)? {
            for (slot, value) in (first..).zip(values) {
                let port = ports
                    .next()
                    .map_or(wanted.everywhere[0].1, |(_, port)| *port);
                let holder = match value {
                    FREE => None,
                    AT_ADDRESSES => self
                        .other_at_an_address(&port, slot, wanted)
                        .map_err(failed)?,
                    value if value == wanted.number => None,
                    value => self.owner(value).map_err(failed)?,
                };
                if let Some(holder) = holder {
                    return Err(Refusal::Taken(port, holder));
                }
            }
        }
        for (slot, ip, port) in &wanted.at {
            let value = slots.read(*slot, 1).map_err(failed)?;
            let holder = match value.first().copied().unwrap_or(FREE) {
                FREE => None,
                AT_ADDRESSES => read_key(&self.link(port, *ip)).map_err(failed)?,
                value => self.owner(value).map_err(failed)?,
            };
            if let Some(holder) = holder.filter(|holder| holder.path() != wanted.name) {
                return Err(Refusal::Taken(*port, holder));
            }
        }
        Ok(())
    }

    /// Enters the owner. Tells whether it is new.
    fn name_owner(&self, wanted: &SlotRequest) -> io::Result<bool> {
        let path = self.owner_path(wanted.number);
        let named = || symlink(&wanted.name, &path);
        match directory::again_with(&self.dir.join("owner"), named) {
            // Of another name: two of 2^63 are alike. It is refused, not mixed up.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                match leads_to(&path, &wanted.name)? {
                    true => Ok(false),
                    false => Err(error),
                }
            }
            outcome => outcome.map(|()| true),
        }
    }

    fn write(&self, slots: &Slots, wanted: &SlotRequest) -> io::Result<()> {
        for (first, length) in runs(&wanted.everywhere) {
            slots.write(first, std::iter::repeat_n(wanted.number, length))?;
        }
        for (slot, ip, port) in &wanted.at {
            if slots.read(*slot, 1)? == [wanted.number] {
                // Covered by every address.
                continue;
            }
            let link = self.link(port, *ip);
            let made = || symlink(&wanted.name, &link);
            match directory::again_with(link.parent().unwrap_or(&self.dir), made) {
                Err(error) if !leads_to(&link, &wanted.name)? => return Err(error),
                _ => {}
            }
            slots.write(*slot, [AT_ADDRESSES].into_iter())?;
        }
        Ok(())
    }

    /// Removes all that is here when no owner is left: what killed calls have left belongs to none.
    fn remove_if_unowned(&self) -> io::Result<()> {
        match fs::remove_dir(self.dir.join("owner")) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn open(&self, create: bool) -> io::Result<Slots> {
        let path = self.dir.join("slots");
        let mut options = File::options();
        options.read(true).write(true).mode(0o600);
        match files::open(&mut options, &path) {
            Err(error) if create && error.kind() == io::ErrorKind::NotFound => {
                options.create(true).truncate(false);
                let file = directory::again_with(&self.dir, || files::open(&mut options, &path))?;
                file.set_len(TABLES * PORTS * SLOT)?;
                Ok(Slots(file))
            }
            outcome => outcome.map(Slots),
        }
    }

    /// Who has a port at some single address, beside the attachment itself.
    fn other_at_an_address(
        &self,
        port: &Port,
        slot: u64,
        wanted: &SlotRequest,
    ) -> io::Result<Option<Key>> {
        let dir = self.port_dir(port, (slot / PORTS).is_multiple_of(2));
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries?,
        };
        for entry in entries {
            let holder = read_key(&entry?.path())?;
            if let Some(holder) = holder.filter(|holder| holder.path() != wanted.name) {
                return Ok(Some(holder));
            }
        }
        Ok(None)
    }

    fn owner_path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("owner/{number:016x}"))
    }

    /// The attachment that has this number; `None` when a call that gave it up was killed.
    fn owner(&self, number: u64) -> io::Result<Option<Key>> {
        read_key(&self.owner_path(number))
    }

    fn port_dir(&self, port: &Port, v4: bool) -> PathBuf {
        let family = if v4 { 4 } else { 6 };
        self.dir
            .join(format!("{}{family}/{}", port.protocol, port.host_port))
    }

    fn link(&self, port: &Port, ip: IpAddr) -> PathBuf {
        self.port_dir(port, ip.is_ipv4()).join(ip.to_string())
    }

    fn failed(&self, error: io::Error) -> Refusal {
        Refusal::Io(self.dir.clone(), error)
    }
}

impl SlotRequest {
    fn of(published: &Published) -> Self {
        let name = Key {
            network: published.owner.network.clone(),
            container: published.owner.container.clone(),
            interface: published.owner.interface.clone(),
        }
        .path();
        let digest = Sha256::digest(name.as_bytes());
        let number = digest
            .iter()
            .take(8)
            .fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
        let (mut everywhere, mut at) = (Vec::new(), Vec::new());
        for port in &published.ports {
            for v4 in families(published, port) {
                let slot = slot(port, v4);
                match specific(port) {
                    Some(ip) => at.push((slot, ip, *port)),
                    None => everywhere.push((slot, *port)),
                }
            }
        }
        everywhere.sort_unstable_by_key(|(slot, _)| *slot);
        everywhere.dedup_by_key(|(slot, _)| *slot);
        Self {
            name,
            // The small numbers have a meaning.
            number: number | 1 << 63,
            everywhere,
            at,
        }
    }
}

impl Slots {
    /// So many slots from the first on; those beyond the end of the file are free.
    fn read(&self, first: u64, count: usize) -> io::Result<Vec<u64>> {
        let mut bytes = vec![0; count * SLOT as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            match self
                .0
                .read_at(&mut bytes[filled..], first * SLOT + filled as u64)?
            {
                0 => break,
                more => filled += more,
            }
        }
        let slots = bytes.as_chunks::<{ SLOT as usize }>().0.iter();
        Ok(slots.map(|slot| u64::from_le_bytes(*slot)).collect())
    }

    fn write(&self, first: u64, values: impl Iterator<Item = u64>) -> io::Result<()> {
        let bytes: Vec<u8> = values.flat_map(u64::to_le_bytes).collect();
        self.0.write_all_at(&bytes, first * SLOT)
    }

    /// The slots of these ports, by runs.
    fn runs(&self, ports: &[(u64, Port)]) -> io::Result<Vec<(u64, Vec<u64>)>> {
        runs(ports)
            .into_iter()
            .map(|(first, length)| Ok((first, self.read(first, length)?)))
            .collect()
    }
}

/// First slot and number of slots of each run without a gap.
fn runs(ports: &[(u64, Port)]) -> Vec<(u64, usize)> {
    let mut runs: Vec<(u64, usize)> = Vec::new();
    for (slot, _) in ports {
        match runs.last_mut() {
            Some((first, length)) if *first + *length as u64 == *slot => *length += 1,
            _ => runs.push((*slot, 1)),
        }
    }
    runs
}

fn slot(port: &Port, v4: bool) -> u64 {
    let protocol = match port.protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => 1,
        Protocol::Sctp => 2,
    };
    (protocol * 2 + u64::from(!v4)) * PORTS + u64::from(port.host_port)
}

/// Where a link leads; `None` when there is none. What is there and cannot be read is an error: the port may
/// be another container's.
fn target_of(link: &Path) -> io::Result<Option<PathBuf>> {
    match fs::read_link(link) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        target => target.map(Some),
    }
}

fn leads_to(link: &Path, name: &str) -> io::Result<bool> {
    Ok(target_of(link)?.is_some_and(|target| target.as_os_str() == name))
}

fn read_key(link: &Path) -> io::Result<Option<Key>> {
    Ok(target_of(link)?.and_then(|target| Key::parse(target.to_str()?)))
}

/// The one address that a port is published at, if it is only one.
fn specific(port: &Port) -> Option<IpAddr> {
    port.host_ip.filter(|ip| !ip.is_unspecified())
}

/// The families that a port is published in: IPv4 is true.
fn families(published: &Published, port: &Port) -> impl Iterator<Item = bool> + use<> {
    let wanted = |v4: bool| port.host_ip.is_none_or(|ip| ip.is_ipv4() == v4);
    let v4 = (published.v4.is_some() && wanted(true)).then_some(true);
    let v6 = (published.v6.is_some() && wanted(false)).then_some(false);
    v4.into_iter().chain(v6)
}

#[cfg(test)]
#[path = "port_slots_tests.rs"]
mod tests;
