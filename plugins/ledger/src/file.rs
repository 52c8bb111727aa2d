//! The one way in which a record's file is read, written, removed and listed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use pontoon_conf::{Error, code};

use crate::files;
use crate::record::Record;

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

/// Writes a file of a directory that may have to be made: complete or not at all. Until it is complete it
/// lies among the drafts, so that a directory holds nothing but records whenever a writer is killed.
pub(crate) fn write<R: Record>(drafts: &Path, path: &Path, record: &R) -> Result<(), Error> {
    let fail = |error: io::Error| {
        Error::new(code::IO, format!("cannot write {}", path.display()))
            .with_details(error.to_string())
    };
    let text = record.encode().map_err(|error| fail(error.into()))?;
    let draft = drafts.join(std::process::id().to_string());
    loop {
        match fs::write(&draft, &text).and_then(|()| fs::rename(&draft, path)) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // The first record here, or the last one went just now.
                fs::create_dir_all(drafts).map_err(fail)?;
                if let Some(dir) = path.parent() {
                    fs::create_dir_all(dir).map_err(fail)?;
                }
            }
            Err(error) => {
                let _ = fs::remove_file(&draft);
                return Err(fail(error));
            }
        }
    }
}

/// Makes an empty file, which says what it says by its path.
pub(crate) fn mark(path: &Path) -> Result<(), Error> {
    let failed = |error: io::Error| {
        Error::new(code::IO, format!("cannot write {}", path.display()))
            .with_details(error.to_string())
    };
    match fs::write(path, []) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(dir) = path.parent() {
                fs::create_dir_all(dir).map_err(failed)?;
            }
            fs::write(path, []).map_err(failed)
        }
        done => done.map_err(failed),
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
/// id and no network name begins with a colon.
pub(crate) fn list(dir: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| !name.starts_with(':'))
}
