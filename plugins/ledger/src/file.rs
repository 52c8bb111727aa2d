//! The one way in which a record's file is read, written, removed and listed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use pontoon_conf::{Error, code};

use crate::record::Record;
use crate::{directory, draft, files};

/// Why a file is no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It is larger than any record.
    #[error("{path} has {bytes} bytes; {what} has at most {limit}")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What the file should be.
        what: &'static str,
        /// Its size in bytes.
        bytes: u64,
        /// The largest size in bytes.
        limit: u64,
    },
    /// It is not JSON of the record's shape.
    #[error("{path} is no {what}: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What the file should be.
        what: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Another version wrote it.
    #[error("{path} is a {what} of version {version}; this program reads version {known}")]
    Version {
        /// The file.
        path: PathBuf,
        /// What the file is.
        what: &'static str,
        /// Its version.
        version: u32,
        /// The version that is known here.
        known: u32,
    },
}

impl RecordError {
    /// What the admin can do about it.
    #[must_use]
    pub fn next_step(&self) -> String {
        match self {
            Self::Version { version, .. } => format!(
                "use the Pontoon that wrote it (records of version {version}) until its containers are gone, or move \
                 the file away: without it only what the kernel shows is found"
            ),
            Self::Read { .. } => {
                "make the file readable for root, then call the plugin again".to_owned()
            }
            Self::TooLarge { .. } | Self::Parse { .. } => {
                "another program has changed it: move the file away and call the plugin again; without it \
                 only what the kernel shows is found"
                    .to_owned()
            }
        }
    }
}

impl From<RecordError> for Error {
    fn from(error: RecordError) -> Self {
        let kind = match &error {
            RecordError::Read { .. } => code::IO,
            _ => code::DECODE,
        };
        Self::new(kind, error.to_string()).with_details(error.next_step())
    }
}

/// Reads a record; `None` when there is no such file.
///
/// # Errors
/// When there is one and it is no record of this version.
pub(crate) fn read<R: Record>(path: &Path) -> Result<Option<R>, RecordError> {
    let failed = |source| RecordError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = match files::open(File::options().read(true), path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let bytes = file.metadata().map_err(failed)?.len();
    if bytes > R::LARGEST {
        return Err(RecordError::TooLarge {
            path: path.to_owned(),
            what: R::WHAT,
            bytes,
            limit: R::LARGEST,
        });
    }
    let mut text = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
    file.read_to_end(&mut text).map_err(failed)?;
    R::parse(&text, path).map(Some)
}

/// Writes a record, in a directory that may have to be made: complete or not at all.
pub(crate) fn write<R: Record>(drafts: &Path, path: &Path, record: &R) -> Result<(), Error> {
    put(draft::replace, drafts, path, record)
}

/// As [`write()`], and the record is on the disk when this returns.
pub(crate) fn write_to_disk<R: Record>(
    drafts: &Path,
    path: &Path,
    record: &R,
) -> Result<(), Error> {
    put(draft::replace_on_disk, drafts, path, record)
}

fn put<R: Record>(
    replace: fn(&Path, &Path, &[u8], u32) -> io::Result<()>,
    drafts: &Path,
    path: &Path,
    record: &R,
) -> Result<(), Error> {
    let fail = |error: io::Error| {
        Error::new(code::IO, format!("cannot write {}", path.display()))
            .with_details(error.to_string())
    };
    let text = record.encode().map_err(|error| fail(error.into()))?;
    replace(drafts, path, &text, draft::PRIVATE).map_err(fail)
}

/// Makes an empty file, which says what it says by its path, in a directory that may have to be made. Tells
/// whether it is new.
///
/// # Errors
/// Code 5 with the path.
pub fn mark(path: &Path) -> Result<bool, Error> {
    let mut options = File::options();
    options.write(true).create_new(true).mode(draft::PRIVATE);
    let parent = path.parent().unwrap_or(Path::new("/"));
    match directory::again_with(parent, || files::open(&mut options, path)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        made => made.map(|_| true).map_err(|error| {
            Error::new(code::IO, format!("cannot write {}", path.display()))
                .with_details(error.to_string())
        }),
    }
}

/// Removes a file; success when there is none. Tells whether there was one.
pub(crate) fn remove(path: &Path) -> Result<bool, Error> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(
            Error::new(code::IO, format!("cannot remove {}", path.display()))
                .with_details(error.to_string()),
        ),
    }
}

/// The names in a directory, without the drafts that older versions wrote among the records: no container
/// id and no network name begins with a colon. A directory that is not there is empty; one that cannot be read
/// is an error: what it holds would be taken for gone.
pub(crate) fn list(dir: &Path) -> Result<Vec<String>, Error> {
    let failed = |error: io::Error| {
        Error::new(code::IO, format!("cannot list {}", dir.display()))
            .with_details(error.to_string())
    };
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name().into_string();
        names.extend(name.ok().filter(|name| !name.starts_with(':')));
    }
    Ok(names)
}
