//! What went wrong in the lab, in words: the lab's callers print and stop, they never decide by it.

use std::error::Error;
use std::fmt;
use std::panic::Location;

/// A failed step, with everything a reader needs: the words, and the file and line that they were
/// written in.
pub struct Failure {
    text: String,
    place: &'static Location<'static>,
}

/// The result of a step.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure in these words, at the caller's line.
    #[track_caller]
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            place: Location::caller(),
        }
    }

    /// For `map_err`: the act that failed, before the cause and all the causes behind it, at the
    /// caller's line.
    #[track_caller]
    pub fn act<E: Error>(act: impl fmt::Display) -> impl FnOnce(E) -> Self {
        let place = Location::caller();
        move |error| {
            let mut text = format!("{act}: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            Self { text, place }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, line) = (self.place.file(), self.place.line());
        write!(f, "{} ({file}:{line})", self.text)
    }
}

// A test that returns a failure is reported by its Debug form: the same as for a reader.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for Failure {}
