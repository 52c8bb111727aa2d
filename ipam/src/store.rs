//! The lease directory of one network, locked.
//!
//! One file per address, named by the address, containing its owner: the
//! layout, the lock and the contents of the reference plugin, which may work
//! on the same directory before, after and beside this one. A [`Store`] is
//! opened for one operation and holds the directory's lock until dropped.
//!
//! A process may be killed between any two system calls. A lease file gets
//! its name with its whole content in it, or not at all, so there is never a
//! lease without an owner; and an address is taken by making that name, which
//! the kernel does once. What the index believes never decides alone: it
//! proposes an address, `link` disposes; it proposes a lease to remove, the
//! file's content disposes.
//!
//! Nothing here is synced to disk. Leases mean nothing after a reboot, since
//! the namespaces that used the addresses are gone, and are then released;
//! what a power failure may lose or tear was worthless the moment it failed.

mod lease;
mod lock;
mod note;
mod scan;
mod spare;

use std::error::Error as _;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use pontoon_conf::{OperationError, code};

pub(crate) use lease::cursor_at;
pub use note::Note;

use self::lock::Lock;
use crate::boot::Boot;
use crate::index::{Identity, Index, IndexError, Stamp, hash};
use crate::owner::{self, Owner, Owners};
use crate::span::Span;

/// What could not be done with a lease directory.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum StoreError {
    #[error("cannot open the lease directory {folder}")]
    Open { folder: PathBuf, source: io::Error },
    #[error("cannot lock the lease directory {folder}")]
    Lock { folder: PathBuf, source: io::Error },
    #[error("cannot read the leases in {folder}")]
    Scan { folder: PathBuf, source: io::Error },
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot remove {path}")]
    Remove { path: PathBuf, source: io::Error },
    #[error("cannot read the boot id and time from /proc")]
    Boot(#[source] io::Error),
    #[error("cannot index the leases in {folder}: {reason}")]
    Index { folder: PathBuf, reason: String },
    #[error("{0}")]
    Fault(#[source] pontoon_conf::Error),
}

impl OperationError for StoreError {
    fn code(&self) -> u32 {
        code::IO
    }

    /// All causes, the nearest first. The words of a fault that a test injects are the message.
    fn reason(&self) -> String {
        let mut causes = Vec::new();
        let mut cause = match self {
            Self::Fault(_) => None,
            other => other.source(),
        };
        while let Some(error) = cause {
            causes.push(error.to_string());
            cause = error.source();
        }
        causes.join("; ")
    }

    fn next_step(&self) -> String {
        match self {
            Self::Fault(_) => "",
            _ => "see that dataDir is on a writable filesystem with space left",
        }
        .to_owned()
    }
}

/// A lease directory, locked until dropped.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    lock: Lock,
    boot: Boot,
    identity: Identity,
    index_path: PathBuf,
    /// `None` when nothing is known: the next question rebuilds it.
    index: Option<Index>,
    rebuilt: bool,
    changed: bool,
}

impl Store {
    /// Opens a network's lease directory, making it when it is not there.
    /// `state` is where the index lives.
    ///
    /// # Errors
    /// When the lease directory or its index cannot be made, locked or read.
    pub fn open(folder: &Path, state: &Path, boot: Boot) -> Result<Store, StoreError> {
        let lock = Lock::acquire(folder)?;
        Store::with_lock(folder, state, boot, lock)
    }

    /// Opens it if it is there: who only releases needs no directory.
    ///
    /// # Errors
    /// When the lease directory or its index cannot be locked or read.
    pub fn open_existing(
        folder: &Path,
        state: &Path,
        boot: Boot,
    ) -> Result<Option<Store>, StoreError> {
        Lock::acquire_existing(folder)?
            .map(|lock| Store::with_lock(folder, state, boot, lock))
            .transpose()
    }

    fn with_lock(folder: &Path, state: &Path, boot: Boot, lock: Lock) -> Result<Store, StoreError> {
        let metadata = lock
            .folder()
            .metadata()
            .map_err(|source| StoreError::Open {
                folder: folder.to_owned(),
                source,
            })?;
        let identity = Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            boot: hash(boot.id().as_bytes()),
        };
        // The path tells apart directories that a bind mount shows twice; it
        // costs one index more, never a wrong one.
        let name = format!(
            "{:016x}-{:x}-{:x}",
            hash(folder.as_os_str().as_encoded_bytes()),
            identity.device,
            identity.inode
        );
        let index_path = state.join("ipam").join(name);
        let index = Index::open(&index_path, &identity, stamp_of(&metadata));
        Ok(Store {
            folder: folder.to_owned(),
            lock,
            boot,
            identity,
            index_path,
            index,
            rebuilt: false,
            changed: false,
        })
    }

    /// Whether this call had to read every lease, as the first one of a boot
    /// does, or the first after another program's change.
    #[must_use]
    pub fn rebuilt(&self) -> bool {
        self.rebuilt
    }

    /// Number of leases.
    ///
    /// # Errors
    /// When the lease directory cannot be read or written.
    pub fn leases(&mut self) -> Result<u64, StoreError> {
        self.ask(|index| Ok(index.leases()))
    }

    /// The addresses leased to exactly this content, each one read back.
    fn leased_to(&mut self, key: &str) -> Result<Vec<IpAddr>, StoreError> {
        loop {
            let mut found = Vec::new();
            let mut lied = false;
            for address in self.ask(|index| index.owned_by(hash(key.as_bytes())))? {
                match lease::read(&self.folder, address)? {
                    Some(content) if owner::key_of(&content) == key.as_bytes() => {
                        found.push(address)
                    }
                    // Another owner's key with the same hash.
                    Some(content) if hash(owner::key_of(&content)) == hash(key.as_bytes()) => {}
                    _ => lied = true,
                }
            }
            if !lied || self.rebuilt {
                return Ok(found);
            }
            self.index = None;
        }
    }

    /// The addresses of this attachment, and those leased to its container
    /// without an interface.
    ///
    /// # Errors
    /// When the lease directory cannot be read or written.
    pub fn owned_by(&mut self, owner: &Owner) -> Result<Vec<IpAddr>, StoreError> {
        let mut found = self.leased_to(owner.key())?;
        found.extend(self.leased_to(owner.legacy_key())?);
        found.sort_unstable();
        Ok(found)
    }

    /// The lowest address of the span that is free.
    ///
    /// # Errors
    /// When the lease directory cannot be read or written.
    pub fn first_free(&mut self, span: &Span) -> Result<Option<IpAddr>, StoreError> {
        self.ask(|index| index.first_free(span))
    }

    /// Takes an address for an owner; false when another owner has it.
    ///
    /// # Errors
    /// When the lease directory cannot be read or written.
    pub fn reserve(&mut self, address: IpAddr, owner: &Owner) -> Result<bool, StoreError> {
        if self.first_free(&Span::one(address))?.is_none() {
            return Ok(false);
        }
        fault("ipam-reserve")?;
        if !lease::create(&self.folder, address, owner.key().as_bytes())? {
            // The file is the truth: the index has to learn it.
            if self.rebuilt {
                self.tell(|index| index.block(address));
            } else {
                self.index = None;
            }
            return Ok(false);
        }
        crash("ipam-linked");
        self.tell(|index| index.insert(hash(owner.key().as_bytes()), address));
        crash("ipam-indexed");
        Ok(true)
    }

    /// Gives an address back, whatever owner has it now.
    fn release(&mut self, address: IpAddr, key: u64) -> Result<(), StoreError> {
        fault("ipam-release")?;
        lease::remove(&self.folder, address)?;
        crash("ipam-unlinked");
        self.tell(|index| index.remove(key, address));
        crash("ipam-unindexed");
        Ok(())
    }

    /// Gives back what this very owner took.
    ///
    /// # Errors
    /// When the lease directory cannot be read or written.
    pub fn give_back(&mut self, address: IpAddr, owner: &Owner) -> Result<(), StoreError> {
        self.release(address, hash(owner.key().as_bytes()))
    }

    /// Releases all addresses of an attachment, or, when it has none, those
    /// of its container without an interface. Returns them.
    ///
    /// # Errors
    /// When the lease directory cannot be read or written.
    pub fn release_all(&mut self, owner: &Owner) -> Result<Vec<IpAddr>, StoreError> {
        for key in [owner.key(), owner.legacy_key()] {
            let found = self.leased_to(key)?;
            for address in &found {
                self.release(*address, hash(key.as_bytes()))?;
            }
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    /// Releases every lease that belongs to none of these owners.
    ///
    /// # Errors
    /// When the lease directory cannot be read or written.
    pub fn retain(&mut self, owners: &Owners) -> Result<Vec<IpAddr>, StoreError> {
        let mut released = Vec::new();
        for (key, address) in self.ask(|index| index.entries())? {
            if owners.may_have(key) {
                continue;
            }
            let content = lease::read(&self.folder, address)?;
            if content.is_none_or(|content| !owners.has(owner::key_of(&content))) {
                self.release(address, key)?;
                released.push(address);
            }
        }
        Ok(released)
    }

    /// Reads every lease again, whatever the index knows.
    ///
    /// # Errors
    /// When the lease directory cannot be read or written.
    pub fn rescan(&mut self) -> Result<(), StoreError> {
        self.rebuild().map(|_| ())
    }

    /// The address that a range set gave out last.
    ///
    /// # Errors
    /// When the lease directory cannot be read or written.
    pub fn last_reserved(&self, set: usize) -> Result<Option<IpAddr>, StoreError> {
        lease::last_reserved(&self.folder, set)
    }

    /// Remembers it. To lose this costs a round of the robin, no address.
    ///
    /// # Errors
    /// When the lease directory cannot be read or written.
    pub fn set_last_reserved(&mut self, set: usize, address: IpAddr) -> Result<(), StoreError> {
        fault("ipam-cursor")?;
        self.changed = true;
        lease::set_last_reserved(&self.folder, set, address)
    }

    /// What is remembered about the network beside its leases.
    ///
    /// # Errors
    /// When the lease directory cannot be read or written.
    pub fn note(&self) -> Result<Note, StoreError> {
        Note::read(&self.folder)
    }

    /// Changes it.
    ///
    /// # Errors
    /// When the lease directory cannot be read or written.
    pub fn set_note(&mut self, note: &Note) -> Result<(), StoreError> {
        self.changed = true;
        note.write(&self.folder)
    }

    /// Declares the index valid for the directory as it is now, and unlocks.
    /// What fails here costs the next call a rebuild, so it is no error.
    pub fn commit(mut self) {
        let index = self.index.take();
        if index.as_ref().is_none_or(|index| index.leases() == 0) {
            // Without a lease there is nothing to save, and nothing should stay on the host. One that could not
            // be read is made anew by the next call.
            Index::delete(&self.index_path);
        } else if let (true, Some(mut index)) = (self.changed, index) {
            crash("ipam-stamp");
            if let Some(stamp) = self.stamp() {
                crash("ipam-header");
                let _ = index.commit(&self.index_path, stamp);
            }
        }
        crash("ipam-unlock");
    }

    /// Sets the directory's mtime to a moment it never had: two seconds ago.
    /// Any later change by any program moves it to the present.
    fn stamp(&self) -> Option<Stamp> {
        let moment = SystemTime::now().checked_sub(Duration::from_secs(2))?;
        let folder = self.lock.folder();
        folder
            .set_times(fs::FileTimes::new().set_modified(moment))
            .ok()?;
        let stamp = stamp_of(&folder.metadata().ok()?);
        // A filesystem of whole seconds cannot tell two changes apart.
        (stamp.nanoseconds != 0).then_some(stamp)
    }

    /// A question to the index; when it cannot answer it is rebuilt once.
    fn ask<T>(
        &mut self,
        question: impl Fn(&Index) -> Result<T, IndexError>,
    ) -> Result<T, StoreError> {
        if let Some(index) = &self.index
            && let Ok(answer) = question(index)
        {
            return Ok(answer);
        }
        let answer = question(self.rebuild()?);
        answer.map_err(|error| StoreError::Index {
            folder: self.folder.clone(),
            reason: error.to_string(),
        })
    }

    /// Tells the index what has been done. The files are changed already, so
    /// an index that cannot follow is dropped, and nothing has failed.
    fn tell(&mut self, news: impl FnOnce(&mut Index) -> Result<(), IndexError>) {
        self.changed = true;
        if let Some(index) = &mut self.index
            && news(index).is_err()
        {
            self.index = None;
        }
    }

    fn rebuild(&mut self) -> Result<&Index, StoreError> {
        let mut note = self.note()?;
        let index = scan::scan(
            &self.folder,
            &self.boot,
            note.boot() != Some(self.boot.id()),
            &self.identity,
        )?;
        if note.boot() != Some(self.boot.id()) {
            fault("ipam-boot")?;
            note.set_boot(self.boot.id());
            note.write(&self.folder)?;
        }
        self.rebuilt = true;
        self.changed = true;
        Ok(self.index.insert(index))
    }
}

fn stamp_of(metadata: &fs::Metadata) -> Stamp {
    Stamp {
        seconds: metadata.mtime(),
        nanoseconds: metadata.mtime_nsec(),
    }
}

/// A place after which nothing can fail, but where a test may end the process.
fn crash(name: &str) {
    let _ = pontoon_plugin::fault::point(name);
}

/// A place where a test may fail the operation or end the process.
fn fault(name: &str) -> Result<(), StoreError> {
    pontoon_plugin::fault::point(name).map_err(StoreError::Fault)
}

#[cfg(test)]
#[path = "store/tests.rs"]
mod tests;
