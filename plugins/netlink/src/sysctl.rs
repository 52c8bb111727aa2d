//! Kernel parameters. Those under `net/` are read and written in the calling thread's network namespace.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use crate::netns::{Netns, NetnsError};

const ROOT: &str = "/proc/sys";

/// Reads a parameter by its path below `/proc/sys` (`net/ipv4/ip_forward`), without the closing line break.
///
/// # Errors
/// Those of the file below `/proc/sys`.
pub fn read(path: &str) -> io::Result<String> {
    let text = fs::read_to_string(locate(path)?)?;
    Ok(text.trim_end_matches('\n').to_owned())
}

/// Writes a parameter unless it has the value already. True when it was written. A parameter that others watch, or that
/// drops caches when it is touched, stays untouched this way, and a read-only /proc does no harm where nothing must
/// change.
///
/// # Errors
/// Those of the file below `/proc/sys`, such as a value that the kernel refuses.
pub fn write_if_different(path: &str, value: &str) -> io::Result<bool> {
    // What cannot be read (write-only parameters exist) is written.
    if read(path).is_ok_and(|current| current == value) {
        return Ok(false);
    }
    write(path, value)?;
    Ok(true)
}

/// Writes a parameter of something that has just been made, whose value is known to be another.
///
/// # Errors
/// Those of the file below `/proc/sys`, such as a value that the kernel refuses.
pub fn write(path: &str, value: &str) -> io::Result<()> {
    fs::write(locate(path)?, value)
}

/// As [`write_if_different`] for each parameter, in another namespace. One outcome for each.
///
/// The calling thread enters the namespace while it opens the files, and no longer: a file stays the namespace's that it
/// was opened in. A thread of its own would cost three times as much.
///
/// # Errors
/// When the namespace cannot be entered; an error of one parameter is in its place of the list.
pub fn write_in(
    netns: &Netns,
    settings: &[(String, &str)],
) -> Result<Vec<io::Result<bool>>, NetnsError> {
    let mut wanted = Vec::with_capacity(settings.len());
    for (path, value) in settings {
        wanted.push((locate(path), *value));
    }
    let files = netns.make_inside(|| {
        let mut files = Vec::with_capacity(wanted.len());
        for (path, value) in wanted {
            files.push((path.and_then(|path| open(&path)), value));
        }
        files
    })?;
    let change = |(file, value): (io::Result<_>, &str)| change(file?, value);
    Ok(files.into_iter().map(change).collect())
}

/// A parameter that is open, and why it cannot be written.
type OpenedParameter = (File, Option<io::Error>);

fn open(path: &Path) -> io::Result<OpenedParameter> {
    match File::options().read(true).write(true).open(path) {
        Ok(file) => Ok((file, None)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
        // What has the value already needs no writing.
        Err(error) => match File::open(path) {
            Ok(file) => Ok((file, Some(error))),
            Err(_) => Err(error),
        },
    }
}

fn change((file, barred): OpenedParameter, value: &str) -> io::Result<bool> {
    let mut current = [0; 64];
    // What cannot be read (write-only parameters exist) is written.
    let length = file.read_at(&mut current, 0).unwrap_or(0);
    if current[..length].trim_ascii_end() == value.as_bytes() {
        return Ok(false);
    }
    match barred {
        Some(error) => Err(error),
        None => file.write_at(value.as_bytes(), 0).map(|_| true),
    }
}

/// Interface names are part of paths here: a name like `..` must not lead elsewhere.
fn locate(path: &str) -> io::Result<PathBuf> {
    let relative = Path::new(path);
    let plain = relative
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if path.is_empty() || !plain {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("\"{path}\" is not a path below {ROOT}"),
        ));
    }
    Ok(Path::new(ROOT).join(relative))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Option<&str>) {
        assert_eq!(locate(path).ok().as_deref(), expected.map(Path::new));
    }

    #[test]
    fn paths_stay_below_proc_sys() {
        check("net/ipv4/ip_forward", Some("/proc/sys/net/ipv4/ip_forward"));
        check(
            "net/ipv4/conf/a.b/rp_filter",
            Some("/proc/sys/net/ipv4/conf/a.b/rp_filter"),
        );
        check("net/../../self/mem", None);
        check("/etc/passwd", None);
        check("", None);
    }
}
