//! The one way in which a record's file is read, written, removed and listed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::{FileError, RecordError};
use crate::record::Record;
use crate::{directory, draft, files};

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
pub(crate) fn write<R: Record>(drafts: &Path, path: &Path, record: &R) -> Result<(), FileError> {
    put(draft::replace, drafts, path, record)
}

/// As [`write()`], and the record is on the disk when this returns.
pub(crate) fn write_to_disk<R: Record>(
    drafts: &Path,
    path: &Path,
    record: &R,
) -> Result<(), FileError> {
    put(draft::replace_on_disk, drafts, path, record)
}

fn put<R: Record>(
    replace: fn(&Path, &Path, &[u8], u32) -> io::Result<()>,
    drafts: &Path,
    path: &Path,
    record: &R,
) -> Result<(), FileError> {
    let written = record.encode().map_err(io::Error::from);
    written
        .and_then(|text| replace(drafts, path, &text, draft::PRIVATE))
        .map_err(FileError::of("write", path))
}

/// Makes an empty file, which says what it says by its path, in a directory that may have to be made. Tells
/// whether it is new.
///
/// # Errors
/// With the path.
pub fn mark(path: &Path) -> Result<bool, FileError> {
    let mut options = File::options();
    options.write(true).create_new(true).mode(draft::PRIVATE);
    let parent = path.parent().unwrap_or(Path::new("/"));
    match directory::again_with(parent, || files::open(&mut options, path)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        made => made.map(|_| true).map_err(FileError::of("write", path)),
    }
}

/// Removes a file; success when there is none. Tells whether there was one.
pub(crate) fn remove(path: &Path) -> Result<bool, FileError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(FileError::of("remove", path)(error)),
    }
}

/// Whether [`list`] would find a name, without reading all of a long directory.
pub(crate) fn holds_any(dir: &Path) -> Result<bool, FileError> {
    let mut entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries.map_err(FileError::of("list", dir))?,
    };
    let is_draft = |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(b":");
    let first = entries.find(|entry| !entry.as_ref().is_ok_and(is_draft));
    first
        .transpose()
        .map(|entry| entry.is_some())
        .map_err(FileError::of("list", dir))
}

/// The names in a directory, without the drafts that older versions wrote among the records: no container
/// id and no network name begins with a colon. A directory that is not there is empty; one that cannot be read
/// is an error: what it holds would be taken for gone.
pub(crate) fn list(dir: &Path) -> Result<Vec<String>, FileError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(FileError::of("list", dir))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry
            .map_err(FileError::of("list", dir))?
            .file_name()
            .into_string();
        names.extend(name.ok().filter(|name| !name.starts_with(':')));
    }
    Ok(names)
}
