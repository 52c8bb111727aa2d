//! Records of names that come and go: etcd is told at once, and not with the next look.

use std::future::pending;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use pontoon_ledger::{AttachmentRecord, DnsRecord, State};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What tells of changes.
pub(crate) struct RecordsWatch {
    inotify: AsyncFd<Watching>,
}

/// inotify as tokio wants it.
struct Watching(Inotify);

impl AsRawFd for Watching {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl RecordsWatch {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// When the kernel gives no instance (`max_user_instances`).
    pub(crate) fn new() -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| format!("cannot watch records: {error}");
        let flags = InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC;
        let inotify = Inotify::init(flags).map_err(|error| failed(&error))?;
        #[expect(
            deprecated,
            reason = "`register` is unsafe, and what is given here keeps what that asks for: its descriptor stays open for as long as it lives"
        )]
        let inotify = AsyncFd::with_interest(Watching(inotify), Interest::READABLE);
        Ok(Self {
            inotify: inotify.map_err(|error| failed(&error))?,
        })
    }

    /// Watches the records of these networks, and the folders above them: watching one again is the same watch.
    pub(crate) fn watch<'n>(&self, state: &State, networks: impl Iterator<Item = &'n String>) {
        let records = state.records(DnsRecord::FOLDER);
        let folders = networks.map(|network| records.dir().join(network));
        let above = records
            .dir()
            .ancestors()
            .take(3)
            .map(|folder| folder.to_owned());
        let flags = AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_ONLYDIR;
        for folder in above.collect::<Vec<_>>().into_iter().chain(folders) {
            // One that is not there comes with its first record, of which the folder above tells.
            let _ = self.inotify.get_ref().0.add_watch(&folder, flags);
        }
    }

    /// Waits until a record has come or gone.
    pub(crate) async fn changed(&mut self) {
        loop {
            let Ok(mut guard) = self.inotify.readable_mut().await else {
                return pending().await;
            };
            match guard.get_inner_mut().0.read_events() {
                Ok(_) => return,
                Err(Errno::EAGAIN) => guard.clear_ready(),
                Err(_) => return pending().await,
            }
        }
    }
}
