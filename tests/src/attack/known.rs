//! Leaks that are known, each with the entry that mends it. One that no longer happens fails the run,
//! so that the list shrinks.

use super::kill::Attack;
use super::report::Leak;

/// One known leak.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) attack: Attack,
    /// The plugin; empty for all.
    pub(crate) plugin: &'static str,
    /// Each line of what is left has one of these in it.
    pub(crate) left: &'static [&'static str],
    /// The entry of issue 17 that mends it.
    pub(crate) entry: &'static str,
}

/// All of them.
pub(crate) const KNOWN: &[Known] = &[];

/// The known leak that this one is.
pub(crate) fn is(leak: &Leak, attack: Attack) -> Option<&'static Known> {
    KNOWN.iter().find(|known| {
        let line = |line: &str| known.left.iter().any(|part| line.contains(part));
        known.attack == attack
            && (known.plugin.is_empty() || known.plugin == leak.kind.plugin)
            && !leak.left.is_empty()
            && leak.left.lines().all(line)
            && !leak.what.starts_with("wrong")
    })
}
