//! What a document has wrong, and where.

use std::fmt;

use serde::de;

/// A value that is not of the kind its place asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    path: String,
    problem: String,
}

impl DecodeError {
    /// Where: keys as the document spells them, such as `ipam.ranges[0][1].subnet`. Empty for the
    /// document itself.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong there.
    #[must_use]
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// The same error seen from the object that holds it under `key`.
    pub(crate) fn under(mut self, key: &str) -> DecodeError {
        let dot = match self.path.as_bytes().first() {
            None | Some(b'[') => "",
            Some(_) => ".",
        };
        self.path = format!("{key}{dot}{}", self.path);
        self
    }

    /// The same error seen from the array that holds it at `index`.
    pub(crate) fn at(self, index: usize) -> DecodeError {
        self.under(&format!("[{index}]"))
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(problem: T) -> DecodeError {
        DecodeError {
            path: String::new(),
            problem: problem.to_string(),
        }
    }
}
