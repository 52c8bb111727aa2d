//! What went wrong and stops nothing: told on standard error at once, and in the log of the call when it
//! ends. A process is one call, so that the warnings of a process are the call's.

use std::fmt::Display;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

/// What has been told, for the log.
static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Tells a warning: the only way that a plugin writes to standard error. It begins with the plugin's name.
pub fn warn(text: impl Display) {
    let text = text.to_string();
    print(&text);
    TOLD.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(text);
}

/// Writes a line to standard error. That it is closed stops nothing either.
pub(crate) fn print(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// What has been told since the last time.
pub(crate) fn take() -> Vec<String> {
    std::mem::take(&mut *TOLD.lock().unwrap_or_else(PoisonError::into_inner))
}
