//! What doctor says.

use serde::Serialize;

/// Something that should not be.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Finding {
    /// Its kind.
    pub(crate) id: &'static str,
    /// What it is about.
    pub(crate) object: String,
    /// What it means for containers.
    pub(crate) meaning: String,
    /// What was seen.
    pub(crate) evidence: String,
    /// The command that mends it; empty where that is not for a command, see `advice`.
    pub(crate) mend: String,
    /// What to do where each command would take something from others: their process, their package's
    /// file, their route.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) advice: String,
    /// The command takes nothing away: `--fix` runs it.
    pub(crate) safe: bool,
    /// Only about this container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) container: Option<String>,
    /// Only about this bridge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bridge: Option<String>,
}

impl Finding {
    pub(crate) fn new(id: &'static str, object: impl Into<String>) -> Self {
        Self {
            id,
            object: object.into(),
            meaning: String::new(),
            evidence: String::new(),
            mend: String::new(),
            advice: String::new(),
            safe: false,
            container: None,
            bridge: None,
        }
    }

    pub(crate) fn means(mut self, text: impl Into<String>) -> Self {
        self.meaning = text.into();
        self
    }

    pub(crate) fn seen(mut self, text: impl Into<String>) -> Self {
        self.evidence = text.into();
        self
    }

    pub(crate) fn mend(mut self, command: impl Into<String>) -> Self {
        self.mend = command.into();
        self
    }

    pub(crate) fn advice(mut self, text: impl Into<String>) -> Self {
        self.advice = text.into();
        self
    }

    pub(crate) fn safe(mut self) -> Self {
        self.safe = true;
        self
    }

    pub(crate) fn of_container(mut self, id: &str) -> Self {
        self.container = Some(id.to_owned());
        self
    }

    pub(crate) fn of_bridge(mut self, bridge: &str) -> Self {
        self.bridge = Some(bridge.to_owned());
        self
    }
}
