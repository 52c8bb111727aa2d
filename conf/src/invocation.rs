//! The environment of a call, validated in the order and with the words of the reference plugins.

use std::{fmt, path::PathBuf, str::FromStr};

use crate::{Args, ContainerId, Error, IfName, NameError, OperationError, args::is_true, code};

/// What is asked of the plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Attach a container.
    Add,
    /// Detach it, whatever is left of it.
    Del,
    /// Tell whether it is still attached as ADD said.
    Check,
    /// Tell whether ADD could be served.
    Status,
    /// Release everything that belongs to none of the named attachments.
    Gc,
    /// Tell the supported versions.
    Version,
}

impl Verb {
    /// As it stands in `CNI_COMMAND`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Verb::Add => "ADD",
            Verb::Del => "DEL",
            Verb::Check => "CHECK",
            Verb::Status => "STATUS",
            Verb::Gc => "GC",
            Verb::Version => "VERSION",
        }
    }

    /// Whether the verb is about one interface of one container.
    #[must_use]
    pub const fn is_about_attachment(self) -> bool {
        matches!(self, Verb::Add | Verb::Del | Verb::Check)
    }

    fn requires(self, variable: &str) -> bool {
        match variable {
            "CNI_CONTAINERID" | "CNI_IFNAME" => self.is_about_attachment(),
            "CNI_NETNS" => matches!(self, Verb::Add | Verb::Check),
            "CNI_PATH" => self != Verb::Version,
            _ => false,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Verb {
    type Err = Error;

    fn from_str(text: &str) -> Result<Verb, Error> {
        const ALL: [Verb; 6] = [
            Verb::Add,
            Verb::Del,
            Verb::Check,
            Verb::Status,
            Verb::Gc,
            Verb::Version,
        ];
        ALL.into_iter()
            .find(|verb| verb.as_str() == text)
            .ok_or_else(|| {
                let text = text.to_owned();
                let known = ALL.map(Verb::as_str).join(", ");
                InvocationError::UnknownVerb { text, known }.into()
            })
    }
}

/// One call of a plugin, as the environment describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// `CNI_COMMAND`.
    pub verb: Verb,
    /// `CNI_CONTAINERID`; always there for ADD, CHECK and DEL, never otherwise.
    pub container_id: Option<ContainerId>,
    /// `CNI_NETNS`; always there for ADD and CHECK; for DEL it may be missing or lead nowhere.
    pub netns: Option<String>,
    /// `CNI_IFNAME`; always there for ADD, CHECK and DEL, never otherwise.
    pub ifname: Option<IfName>,
    /// `CNI_ARGS`.
    pub args: Args,
    /// `CNI_PATH`: where delegated plugins are looked for.
    pub path: Vec<PathBuf>,
    /// `CNI_NETNS_OVERRIDE`: the plugin's own network namespace may be acted on.
    pub netns_override: bool,
}

impl Invocation {
    /// Reads the call from the variables that `var` knows; an empty variable is an absent one.
    /// `None` when there is no `CNI_COMMAND`: no runtime calls a verb, so [`banner`](crate::banner) is
    /// what the plugin should say.
    ///
    /// Variables that the verb does not need are not looked at: podman asks VERSION with a
    /// `CNI_NETNS` of `dummy` and an empty container id.
    ///
    /// # Errors
    /// Code 4 with the variable that is missing or wrong.
    pub fn from_environment(
        var: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Invocation>, Error> {
        let var = |name: &str| var(name).filter(|value| !value.is_empty());
        let Some(command) = var("CNI_COMMAND") else {
            return Ok(None);
        };
        let verb: Verb = command.parse()?;
        let wanted = |name| var(name).filter(|_| verb.is_about_attachment());

        // A malformed name is told before a missing one: the order of the reference plugins.
        let container_id = wanted("CNI_CONTAINERID")
            .map(|id| id.parse().map_err(InvocationError::ContainerId))
            .transpose()?;
        let ifname = wanted("CNI_IFNAME")
            .map(|name| name.parse().map_err(InvocationError::IfName))
            .transpose()?;

        let missing: Vec<&str> = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"]
            .into_iter()
            .filter(|name| verb.requires(name) && var(name).is_none())
            .collect();
        if !missing.is_empty() {
            let names = missing.join(",");
            return Err(InvocationError::Missing { names, verb }.into());
        }

        Ok(Some(Invocation {
            verb,
            container_id,
            netns: wanted("CNI_NETNS"),
            ifname,
            args: Args::new(var("CNI_ARGS").unwrap_or_default()),
            path: search_path(&var("CNI_PATH").unwrap_or_default()),
            netns_override: var("CNI_NETNS_OVERRIDE").is_some_and(|value| is_true(&value)),
        }))
    }

    /// Whose attachment the call is about: there for ADD, CHECK and DEL.
    ///
    /// # Errors
    /// Code 4 when `CNI_CONTAINERID` or `CNI_IFNAME` is missing.
    pub fn attachment(&self) -> Result<(&ContainerId, &IfName), Error> {
        self.container_id
            .as_ref()
            .zip(self.ifname.as_ref())
            .ok_or_else(|| self.not_there("container id and interface name"))
    }

    /// The path of the container's network namespace: there for ADD and CHECK.
    ///
    /// # Errors
    /// Code 4 when `CNI_NETNS` is missing.
    pub fn required_netns(&self) -> Result<&str, Error> {
        self.netns
            .as_deref()
            .ok_or_else(|| self.not_there("network namespace"))
    }

    fn not_there(&self, what: &'static str) -> Error {
        let verb = self.verb;
        InvocationError::Without { verb, what }.into()
    }
}

fn search_path(text: &str) -> Vec<PathBuf> {
    text.split(':')
        .filter(|part| !part.is_empty())
        .map(PathBuf::from)
        .collect()
}

/// Reading the call from the environment.
#[derive(Debug, thiserror::Error)]
enum InvocationError {
    #[error("unknown CNI_COMMAND: {text}")]
    UnknownVerb { text: String, known: String },
    #[error("{}", about_container_id(.0))]
    ContainerId(#[source] NameError),
    #[error("{}", about_ifname(.0))]
    IfName(#[source] NameError),
    #[error("required env variables [{names}] missing")]
    Missing { names: String, verb: Verb },
    #[error("{verb} comes without {what}")]
    Without { verb: Verb, what: &'static str },
}

impl OperationError for InvocationError {
    fn code(&self) -> u32 {
        code::INVALID_ENVIRONMENT
    }

    fn next_step(&self) -> String {
        match self {
            Self::UnknownVerb { known, .. } => format!("known are {known}"),
            Self::Missing { verb, .. } => format!("the runtime must set them for {verb}"),
            Self::ContainerId(_) | Self::IfName(_) | Self::Without { .. } => String::new(),
        }
    }
}

fn about_container_id(why: &NameError) -> &'static str {
    match why {
        NameError::Character { .. } => "invalid characters in containerID",
        _ => "invalid containerID",
    }
}

fn about_ifname(why: &NameError) -> &'static str {
    match why {
        NameError::Empty { .. } => "interface name is empty",
        NameError::TooLong { .. } => "interface name is too long",
        NameError::Reserved { .. } => "interface name is . or ..",
        NameError::Character {
            character: '/' | ':',
            ..
        } => "interface name contains / or : or whitespace characters",
        NameError::Character { character, .. } if character.is_whitespace() => {
            "interface name contains / or : or whitespace characters"
        }
        NameError::Character { .. } => "interface name contains invalid characters",
    }
}
