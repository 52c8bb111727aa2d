//! Bytes at offsets, in a file or in memory.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use pontoon_ledger::directory;

/// Where an index keeps its bytes. A rebuilt or grown one is in memory until
/// it is kept; reading beyond the end gives zeros, as a sparse file does.
#[derive(Debug)]
pub(super) enum Pages {
    Memory(Vec<u8>),
    File(File),
}

/// Where an index is written until it is complete. The lock of the lease directory is held: one writer, one name.
fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Removes an index, what a killed writer has left of it, and the directory with the last one. What cannot be
/// removed costs disk space, no address.
pub(super) fn delete(path: &Path) {
    for path in [path, &unfinished(path)] {
        let _ = fs::remove_file(path);
    }
    let _ = path.parent().map(fs::remove_dir);
}

impl Pages {
    pub(super) fn memory(size: u64) -> Pages {
        Pages::Memory(vec![0; usize::try_from(size).unwrap_or(usize::MAX)])
    }

    pub(super) fn file(file: File) -> Pages {
        Pages::File(file)
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        match self {
            Pages::Memory(bytes) => Ok(bytes.len() as u64),
            Pages::File(file) => Ok(file.metadata()?.len()),
        }
    }

    pub(super) fn read<const N: usize>(&self, offset: u64) -> io::Result<[u8; N]> {
        let mut buffer = [0; N];
        match self {
            Pages::Memory(bytes) => {
                let from = usize::try_from(offset)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                let there = &bytes[from..bytes.len().min(from.saturating_add(N))];
                buffer[..there.len()].copy_from_slice(there);
            }
            Pages::File(file) => {
                let mut filled = 0;
                while filled < N {
                    match file.read_at(&mut buffer[filled..], offset + filled as u64)? {
                        0 => break,
                        more => filled += more,
                    }
                }
            }
        }
        Ok(buffer)
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        match self {
            Pages::Memory(bytes) => {
                let from = usize::try_from(offset).map_err(io::Error::other)?;
                let end = from.saturating_add(data.len());
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[from..end].copy_from_slice(data);
                Ok(())
            }
            Pages::File(file) => file.write_all_at(data, offset),
        }
    }

    /// Brings a file into memory, to walk all of it.
    pub(super) fn load(&mut self) -> io::Result<()> {
        if let Pages::File(file) = self {
            let mut bytes =
                vec![0; usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?];
            file.read_exact_at(&mut bytes, 0)?;
            *self = Pages::Memory(bytes);
        }
        Ok(())
    }

    /// Makes bytes in memory the file at this path, at once: a reader sees
    /// the old file or the whole new one.
    pub(super) fn keep_at(&mut self, path: &Path) -> io::Result<()> {
        let Pages::Memory(bytes) = self else {
            return Ok(());
        };
        let unfinished = unfinished(path);
        // One left by a kill, whatever it is by now, is not written through.
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o600);
        let parent = path.parent().unwrap_or(Path::new("/"));
        let file = directory::again_with(parent, || options.open(&unfinished))?;
        file.set_len(bytes.len() as u64)?;
        // Holes stay holes: most of a young table is zeros.
        for (number, page) in bytes.chunks(4096).enumerate() {
            if page.iter().any(|byte| *byte != 0) {
                file.write_all_at(page, number as u64 * 4096)?;
            }
        }
        fs::rename(&unfinished, path)?;
        *self = Pages::File(file);
        Ok(())
    }
}
