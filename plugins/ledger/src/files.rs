//! Reading files at paths that a configuration names, or that another program can write to: a regular file
//! of bounded size, or an error that says what is there instead. Nothing here waits for a writer, opens a
//! device, or reads without end.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

/// Bytes of a resolv.conf that are read; a real one has some hundred.
pub const RESOLV_CONF: u64 = 64 * 1024;

/// Whether something may be at a path. False only when the system says that nothing is: what it does not tell
/// is not taken for missing.
#[must_use]
pub fn may_exist(path: &Path) -> bool {
    path.try_exists().unwrap_or(true)
}

/// Reads a file of at most `most` bytes. The path itself may not be a symbolic link.
///
/// # Errors
/// `NotFound`; `InvalidInput` when it is no regular file; `FileTooLarge`, with the limit, when it is longer;
/// else those of reading.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    regular(&fs::symlink_metadata(path)?)?;
    let mut options = OpenOptions::new();
    contents(open(options.read(true), path)?, most)
}

/// As [`read`], through symbolic links: for files of the administrator.
///
/// # Errors
/// As [`read`].
pub fn read_following(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    regular(&fs::metadata(path)?)?;
    let mut options = OpenOptions::new();
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = options.read(true).custom_flags(flags.bits()).open(path)?;
    regular(&file.metadata()?)?;
    contents(file, most)
}

/// Opens a regular file of Pontoon's own. A symbolic link is not followed, and a fifo does not wait.
///
/// # Errors
/// `InvalidInput` when something else is there; else those of opening.
pub fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = match options.custom_flags(flags.bits()).open(path) {
        // ELOOP: a link; ENXIO: a fifo without a reader. Their own words would mislead.
        Err(error) => {
            if let Ok(there) = fs::symlink_metadata(path) {
                regular(&there)?;
            }
            return Err(error);
        }
        Ok(file) => file,
    };
    regular(&file.metadata()?)?;
    Ok(file)
}

fn contents(file: File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(
            ErrorKind::FileTooLarge,
            format!("it is longer than {most} bytes"),
        ));
    }
    Ok(bytes)
}

fn regular(there: &Metadata) -> io::Result<()> {
    let kind = there.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "directory",
        () if kind.is_symlink() => "symbolic link",
        () if kind.is_fifo() => "fifo",
        () if kind.is_socket() => "socket",
        () => "device",
    };
    Err(io::Error::new(
        ErrorKind::InvalidInput,
        format!("it is a {what}, not a regular file"),
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::{Duration, Instant};

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn only_regular_files_of_bounded_size_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), b"text").unwrap();
        fs::create_dir(at("dir")).unwrap();
        mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
        symlink(at("file"), at("link")).unwrap();
        symlink("/dev/zero", at("zero")).unwrap();
        symlink(at("fifo"), at("fifo-link")).unwrap();
        File::create(at("huge")).unwrap().set_len(1 << 31).unwrap();

        let began = Instant::now();
        assert_eq!(read(&at("file"), 4).unwrap(), b"text");
        assert_eq!(read_following(&at("link"), 4).unwrap(), b"text");
        for (name, word) in [
            ("file", "longer than 3 bytes"),
            ("huge", "longer than 3 bytes"),
            ("dir", "directory"),
            ("fifo", "fifo"),
            ("link", "symbolic link"),
        ] {
            let error = read(&at(name), 3).unwrap_err().to_string();
            assert!(error.contains(word), "{name}: {error}");
        }
        for (name, word) in [
            ("zero", "device"),
            ("fifo-link", "fifo"),
            ("dir", "directory"),
        ] {
            let error = read_following(&at(name), 3).unwrap_err().to_string();
            assert!(error.contains(word), "{name}: {error}");
        }
        for name in ["fifo", "link", "zero", "dir"] {
            for write in [true, false] {
                let mut options = OpenOptions::new();
                let opened = open(options.read(!write).write(write), &at(name));
                let error = opened.unwrap_err().to_string();
                assert!(error.contains("not a regular file"), "{name}: {error}");
            }
        }
        assert_eq!(
            read(&at("absent"), 3).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        assert!(began.elapsed() < Duration::from_secs(1));
    }
}
