//! What a plugin leaves behind when it exits.

use std::fmt;

use serde_json::Value;

use super::failure::Failure;

/// A plugin's error object, or what came instead of one.
#[derive(Clone, PartialEq, Eq)]
pub struct CniError {
    /// The plugin that failed, and in which verb.
    pub place: String,
    /// The CNI code; 0 when stdout held no error object.
    pub code: u64,
    /// What happened.
    pub msg: String,
    /// Cause and next step.
    pub details: String,
}

/// A plugin's exit, verbatim.
pub struct Finished {
    /// The exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// Stdout.
    pub stdout: String,
    /// Stderr.
    pub stderr: String,
}

impl Finished {
    /// Success, or the error in the words of the plugin.
    pub fn verdict(&self, place: &str) -> Result<(), CniError> {
        if self.status == Some(0) {
            return Ok(());
        }
        let place = place.to_owned();
        let object: Option<Value> = serde_json::from_str(&self.stdout).ok();
        let text = |key: &str| object.as_ref()?.get(key)?.as_str().map(str::to_owned);
        let code = object
            .as_ref()
            .and_then(|object| object.get("code")?.as_u64());
        Err(match code {
            Some(code) => CniError {
                place,
                code,
                msg: text("msg").unwrap_or_default(),
                details: text("details").unwrap_or_default(),
            },
            None => CniError {
                place,
                code: 0,
                msg: format!("exit {:?} without an error object", self.status),
                details: format!("stdout: {:?}; stderr: {:?}", self.stdout, self.stderr),
            },
        })
    }
}

impl CniError {
    /// Message and details in one line, to search in.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}; {}", self.msg, self.details)
    }
}

impl fmt::Display for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: code {}: {}; {}",
            self.place, self.code, self.msg, self.details
        )
    }
}

impl fmt::Debug for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for CniError {}

impl From<CniError> for Failure {
    #[track_caller]
    fn from(error: CniError) -> Self {
        Self::new(error.to_string())
    }
}
