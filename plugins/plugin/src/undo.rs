//! What has been done, so that it can be undone.

use pontoon_conf::Error;

/// Steps that a verb has completed, as values. A failing verb reverts them in reverse order; one
/// that succeeds forgets them.
#[derive(Debug)]
pub struct Undo<S> {
    steps: Vec<S>,
}

impl<S> Default for Undo<S> {
    fn default() -> Self {
        Self { steps: Vec::new() }
    }
}

impl<S> Undo<S> {
    /// Notes a completed step, or one that is about to be tried and may be half done.
    pub fn push(&mut self, step: S) {
        self.steps.push(step);
    }

    /// The verb has succeeded: nothing will be reverted.
    pub fn commit(mut self) {
        self.steps.clear();
    }

    /// Reverts every step, the last one first, and never stops at a failure. The error that
    /// caused it stays the one reported; what could not be reverted is added to its details.
    pub fn unwind(mut self, cause: Error, mut revert: impl FnMut(S) -> Result<(), Error>) -> Error {
        let mut error = cause;
        while let Some(step) = self.steps.pop() {
            if let Err(second) = revert(step) {
                error = error.with_more(format_args!("and undoing it failed: {second}"));
            }
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reverts_in_reverse_and_keeps_both_errors() {
        let error = |msg: &str| Error::of_delegate(100, msg.to_owned(), String::new());
        let mut undo = Undo::default();
        for step in ["one", "two", "three"] {
            undo.push(step);
        }
        let mut seen = Vec::new();
        let error = undo.unwind(error("broken"), |step| {
            seen.push(step);
            if step == "two" {
                Err(error("stuck"))
            } else {
                Ok(())
            }
        });
        assert_eq!(seen, ["three", "two", "one"]);
        assert_eq!(error.msg, "broken");
        assert!(error.details.contains("stuck"), "{}", error.details);
    }

    #[test]
    fn commit_reverts_nothing() {
        let mut undo = Undo::default();
        undo.push(1);
        undo.commit();
    }
}
