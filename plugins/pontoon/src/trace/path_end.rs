//! How the path of a packet ends.

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    Arrives,
    Dropped,
    Refused,
    CannotTell,
}

impl Verdict {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Arrives => "arrives",
            Self::Dropped => "dropped",
            Self::Refused => "refused",
            Self::CannotTell => "cannot tell",
        }
    }
}

/// How the way ends.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct End {
    pub(crate) verdict: Verdict,
    /// Where it arrives: a container, `this host`, or the link that it leaves the host by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<String>,
    /// The hook that ends it, or `routing`, or `bridge`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hook: Option<String>,
    /// Where it ends, and why.
    pub(crate) reason: String,
    /// The network that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) network: Option<String>,
    /// The key of its configuration, and what it is set to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<&'static str>,
    /// Table and chain that ended it, with the rule, and the command that removes that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) chain: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remove: Option<String>,
}

impl End {
    pub(crate) fn new(verdict: Verdict, hook: Option<String>, reason: impl Into<String>) -> Self {
        Self {
            verdict,
            at: None,
            hook,
            reason: reason.into(),
            network: None,
            key: None,
            value: None,
            chain: None,
            rule: None,
            remove: None,
        }
    }
}
