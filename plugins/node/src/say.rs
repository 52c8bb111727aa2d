//! What the agent tells beside its status goes to standard error, which systemd keeps in the journal.

/// Tells something, in one line.
macro_rules! say {
    ($($argument:tt)*) => {
        eprintln!("pontoon-node: {}", format_args!($($argument)*))
    };
}

pub(crate) use say;
