//! Kernel parameters. Those under `net/` are read and written in the calling thread's network namespace.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

const ROOT: &str = "/proc/sys";

/// Reads a parameter by its path below `/proc/sys` (`net/ipv4/ip_forward`), without the closing line break.
pub fn read(path: &str) -> io::Result<String> {
    let text = fs::read_to_string(locate(path)?)?;
    Ok(text.trim_end_matches('\n').to_owned())
}

/// Writes a parameter unless it has the value already. True when it was written. A parameter that others watch, or that
/// drops caches when it is touched, stays untouched this way, and a read-only /proc does no harm where nothing must
/// change.
pub fn write_if_different(path: &str, value: &str) -> io::Result<bool> {
    // What cannot be read (write-only parameters exist) is written.
    if read(path).is_ok_and(|current| current == value) {
        return Ok(false);
    }
    write(path, value)?;
    Ok(true)
}

/// Writes a parameter of something that has just been made, whose value is known to be another.
pub fn write(path: &str, value: &str) -> io::Result<()> {
    fs::write(locate(path)?, value)
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
