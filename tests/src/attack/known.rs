//! Leaks that are known, each with the entry that mends it. One that no longer happens fails the run,
//! so that the list shrinks.

use super::kill::Attack;
use super::report::Leak;

/// One known leak.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) attack: Attack,
    pub(crate) plugin: &'static str,
    pub(crate) verb: &'static str,
    /// Part of the point, as it is printed.
    pub(crate) at: &'static str,
    /// Part of what is said of it, or of each line that is left.
    pub(crate) left: &'static str,
    /// The entry that mends it.
    pub(crate) entry: &'static str,
}

/// All of them.
pub(crate) const KNOWN: &[Known] = &[];

/// The known leak that this one is.
pub(crate) fn is(leak: &Leak, attack: Attack) -> Option<&'static Known> {
    let point = leak.point.to_string();
    KNOWN.iter().find(|known| {
        known.attack == attack
            && known.plugin == leak.kind.plugin
            && known.verb == leak.verb
            && point.contains(known.at)
            && (leak.what.contains(known.left)
                || (!leak.left.is_empty()
                    && leak.left.lines().all(|line| line.contains(known.left))))
    })
}
