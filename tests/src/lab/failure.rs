//! What went wrong in the lab, in words: the lab's callers print and stop, they never decide by it.

use std::error::Error;
use std::fmt;

/// A failed step, with everything a reader needs.
pub struct Failure(String);

/// The result of a step.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure in these words.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// For `map_err`: the act that failed, before the cause and all the causes behind it.
    pub fn act<E: Error>(act: impl fmt::Display) -> impl FnOnce(E) -> Self {
        move |error| {
            let mut text = format!("{act}: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            Self(text)
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// A test that returns a failure is reported by its Debug form: the words, without decoration.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Failure {}
