//! Fault points: places where a test can make a plugin fail or die.
//!
//! Debug builds only. `PONTOON_FAULT=NAME` makes the named point return an error,
//! `PONTOON_FAULT=kill:NAME` ends the process there as a SIGKILL would, `PONTOON_FAULT=panic:NAME` panics, and
//! `PONTOON_FAULT_TRACE=FILE` appends the name of each point that is passed, so that a test can
//! find them all. Release builds contain none of it.

use pontoon_conf::Error;

/// A place where the process may fail or die.
///
/// # Errors
/// In a debug build, when `PONTOON_FAULT` names this point.
#[cfg(debug_assertions)]
#[allow(clippy::disallowed_methods, reason = "builds for tests only")]
pub fn point(name: &str) -> Result<(), Error> {
    use std::io::Write;

    if let Some(path) = std::env::var_os("PONTOON_FAULT_TRACE") {
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(path);
        if let Ok(mut file) = file {
            let _ = writeln!(file, "{name}");
        }
    }
    let Ok(wanted) = std::env::var("PONTOON_FAULT") else {
        return Ok(());
    };
    if wanted == name {
        let point = wanted;
        return Err(crate::error::InjectedFault { point }.into());
    }
    if wanted.strip_prefix("kill:") == Some(name) {
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
    }
    assert_ne!(wanted.strip_prefix("panic:"), Some(name), "injected panic");
    Ok(())
}

/// A place where the process may fail or die: never in a release build.
///
/// # Errors
/// None.
#[cfg(not(debug_assertions))]
#[inline]
pub fn point(_name: &str) -> Result<(), Error> {
    Ok(())
}
