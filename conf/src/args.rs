//! `CNI_ARGS`: what a runtime says about one attachment in `K=V;K=V`.

use crate::{Error, OperationError, code};

/// A plugin does not understand `CNI_ARGS`.
#[derive(Debug, thiserror::Error)]
enum ArgsError {
    #[error("ARGS: invalid pair {pair:?}")]
    NoPair { pair: String },
    /// `unknown` are the pairs, in quotes.
    #[error("ARGS: unknown args [{unknown}]")]
    Unknown { unknown: String },
}

impl OperationError for ArgsError {
    fn code(&self) -> u32 {
        code::INVALID_ENVIRONMENT
    }

    fn next_step(&self) -> String {
        match self {
            Self::NoPair { .. } => "CNI_ARGS must be written KEY=VALUE;KEY=VALUE",
            Self::Unknown { .. } => "remove them from CNI_ARGS, or add IgnoreUnknown=1",
        }
        .to_owned()
    }
}

/// The pairs of `CNI_ARGS`, kept as they came.
///
/// Nothing is refused on the way in, since some plugins ignore the variable altogether; a plugin
/// that reads it calls [`Args::check_known`] first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Args {
    raw: String,
}

impl Args {
    /// Keeps the text of the variable.
    #[must_use]
    pub fn new(raw: impl Into<String>) -> Args {
        Args { raw: raw.into() }
    }

    /// The variable as it came, for delegates.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.raw
    }

    /// The value of `key`, whose case matters. The last one counts, as in the reference plugins;
    /// an empty value is none.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs()
            .filter_map(|pair| pair.split_once('='))
            .filter(|(name, _)| *name == key)
            .last()
            .map(|(_, value)| value)
            .filter(|value| !value.is_empty())
    }

    /// Whether keys that the plugin does not know are to be passed over.
    #[must_use]
    pub fn ignore_unknown(&self) -> bool {
        self.get("IgnoreUnknown").is_some_and(is_true)
    }

    /// Refuses what a plugin that knows the keys `known` cannot understand: text without `=`, and
    /// other keys unless `IgnoreUnknown` is set. Every plugin knows the keys of Kubernetes.
    ///
    /// # Errors
    /// Code 4 with the pair that is not understood.
    pub fn check_known(&self, known: &[&str]) -> Result<(), Error> {
        if let Some(pair) = self.pairs().find(|pair| !pair.contains('=')) {
            let pair = pair.to_owned();
            return Err(ArgsError::NoPair { pair }.into());
        }
        let unknown: Vec<String> = self
            .pairs()
            .filter(|pair| {
                let key = pair.split('=').next().unwrap_or(pair);
                key != "IgnoreUnknown" && !key.starts_with("K8S_") && !known.contains(&key)
            })
            .map(|pair| format!("{pair:?}"))
            .collect();
        if unknown.is_empty() || self.ignore_unknown() {
            return Ok(());
        }
        let unknown = unknown.join(" ");
        Err(ArgsError::Unknown { unknown }.into())
    }

    fn pairs(&self) -> impl Iterator<Item = &str> {
        self.raw.split(';').filter(|pair| !pair.is_empty())
    }
}

/// `1` or `true`, as the reference plugins read a switch in a variable.
pub(crate) fn is_true(value: &str) -> bool {
    value == "1" || value.eq_ignore_ascii_case("true")
}
