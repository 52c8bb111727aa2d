//! The error object of the protocol, and the one place where an operation's error becomes it.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::Version;

/// Error codes: those of the specification, and from 100 on Pontoon's own.
pub mod code {
    /// The configuration's version is not supported, or does not know the verb.
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    /// A key or value of the configuration is not supported.
    pub const UNSUPPORTED_FIELD: u32 = 2;
    /// The container is unknown or does not exist.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// A necessary environment variable is missing or malformed.
    pub const INVALID_ENVIRONMENT: u32 = 4;
    /// Reading or writing failed.
    pub const IO: u32 = 5;
    /// Something that should be JSON of a certain shape is not.
    pub const DECODE: u32 = 6;
    /// The network configuration is invalid.
    pub const INVALID_CONFIG: u32 = 7;
    /// The network namespace is none, or is the plugin's own.
    pub const INVALID_NETNS: u32 = 8;
    /// A passing condition: the runtime should try again later.
    pub const TRY_AGAIN: u32 = 11;
    /// STATUS: the plugin cannot serve ADD now.
    pub const NOT_AVAILABLE: u32 = 50;
    /// STATUS: the plugin cannot serve ADD now, and present containers may be cut off.
    pub const LIMITED: u32 = 51;
    /// The kernel refused an operation.
    pub const KERNEL: u32 = 100;
    /// No address is left, or the one asked for cannot be had.
    pub const ADDRESS: u32 = 101;
    /// A host port is already published.
    pub const PORT_TAKEN: u32 = 102;
    /// The object to be made exists already.
    pub const EXISTS: u32 = 103;
    /// CHECK found the attachment to differ from its result.
    pub const CHECK_FAILED: u32 = 104;
    /// The firewall backend refused.
    pub const RULES: u32 = 105;
    /// A delegated plugin could not be found or run.
    pub const DELEGATE: u32 = 106;
    /// The network clashes with another one.
    pub const CONFLICT: u32 = 107;
    /// The embedded resolver could not be started, or refused.
    pub const RESOLVER: u32 = 108;
    /// The plugin itself is wrong: it met what its authors held to be impossible.
    pub const FAULT: u32 = 109;
}

/// What a verb answers when it fails: printed on standard output, exit status 1.
///
/// It is made of an [`OperationError`], which stays its [`source`](std::error::Error::source). A function that does
/// several operations returns this type, so that each of their errors becomes it by `?`. One object is no operation's:
/// that of a delegated plugin, of which only that plugin knows the cause ([`Error::of_delegate`]).
///
/// Two of them are equal when the runtime would see the same.
#[derive(Debug, Clone)]
pub struct Error {
    /// One of [`code`].
    pub code: u32,
    /// What went wrong, with which object. Runtimes match the wording of the protocol's own errors.
    pub msg: String,
    /// The cause at length, or the next step; may be empty.
    pub details: String,
    /// The operation's error; none of an object that another plugin has printed.
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl PartialEq for Error {
    fn eq(&self, other: &Error) -> bool {
        (self.code, &self.msg, &self.details) == (other.code, &other.msg, &other.details)
    }
}

impl Eq for Error {}

/// Bytes of one word or quoted text of a message: a value of the configuration is shown so far.
const LONGEST_WORD: usize = 200;
/// Bytes of a message or of its details.
const LONGEST_TEXT: usize = 4096;

impl Error {
    /// Private, so that an error is always one of an operation: see the type.
    fn new(code: u32, msg: String, details: String) -> Error {
        Error {
            code,
            msg: bounded(msg),
            details: bounded(details),
            source: None,
        }
    }

    /// The object that a delegated plugin has printed ("Section 4: Plugin delegation"), passed on to the runtime
    /// as it came. Words and quoted texts over 200 bytes are cut, the message and the details at 4,096.
    #[must_use]
    pub fn of_delegate(code: u32, msg: String, details: String) -> Error {
        Error::new(code, msg, details)
    }

    /// The same error under another code: what is no address to ADD makes STATUS answer 50.
    #[must_use]
    pub fn with_code(self, code: u32) -> Error {
        Error { code, ..self }
    }

    /// The same error, seen from what it is part of: `within: msg`.
    #[must_use]
    pub fn within(self, within: &str) -> Error {
        let msg = bounded(format!("{within}: {}", self.msg));
        Error { msg, ..self }
    }

    /// The same error with more after its details, such as what could not be undone.
    #[must_use]
    pub fn with_more(mut self, more: impl fmt::Display) -> Error {
        let separator = if self.details.is_empty() { "" } else { "; " };
        self.details = bounded(format!("{}{separator}{more}", self.details));
        self
    }

    /// The error object as it goes to standard output; `version` is that of the configuration,
    /// when it could be read.
    #[must_use]
    pub fn to_json(&self, version: Option<Version>) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            cni_version: Option<Version>,
            code: u32,
            msg: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            details: &'a str,
        }
        pretty(&Wire {
            cni_version: version,
            code: self.code,
            msg: &self.msg,
            details: &self.details,
        })
    }
}

/// An error of one operation: an enum whose variants say what went wrong, with its cause as
/// [`source`](std::error::Error::source). It becomes the object of the protocol here and nowhere else.
pub trait OperationError: std::error::Error + Send + Sync + 'static {
    /// One of [`code`].
    fn code(&self) -> u32;

    /// The cause in words; empty where the message tells it.
    fn reason(&self) -> String {
        self.source().map(ToString::to_string).unwrap_or_default()
    }

    /// What the admin can do about it; empty where the cause says it.
    fn next_step(&self) -> String {
        String::new()
    }
}

/// `details` are the cause and the next step.
impl<E: OperationError> From<E> for Error {
    fn from(error: E) -> Self {
        let (reason, step) = (error.reason(), error.next_step());
        let separator = if reason.is_empty() || step.is_empty() {
            ""
        } else {
            "; "
        };
        let details = format!("{reason}{separator}{step}");
        let told = Error::new(error.code(), error.to_string(), details);
        Error {
            source: Some(Arc::new(error)),
            ..told
        }
    }
}

/// Values of a configuration are quoted in messages, and may have megabytes: of each word and each text
/// between quotes the first [`LONGEST_WORD`] bytes are kept.
fn bounded(text: String) -> String {
    if text.len() <= LONGEST_WORD {
        return text;
    }
    let mut kept = String::with_capacity(text.len().min(LONGEST_TEXT));
    let (mut quoted, mut escaped, mut length) = (false, false, 0);
    for character in text.chars() {
        let quote = character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
        if quote || (character.is_whitespace() && !quoted) {
            quoted ^= quote;
            length = 0;
        } else {
            let before = length;
            length += character.len_utf8();
            if length > LONGEST_WORD {
                if before <= LONGEST_WORD {
                    kept.push('…');
                    length = length.max(LONGEST_WORD + 1);
                }
                continue;
            }
        }
        if kept.len() + character.len_utf8() > LONGEST_TEXT {
            kept.push('…');
            break;
        }
        kept.push(character);
    }
    kept
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)?;
        if !self.details.is_empty() {
            write!(f, ": {}", self.details)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|error| error as _)
    }
}

/// JSON indented by four spaces, as the reference plugins print it.
#[allow(
    clippy::expect_used,
    reason = "neither can fail: maps have text as keys, and JSON is UTF-8"
)]
pub(crate) fn pretty(value: &impl Serialize) -> String {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut writer = serde_json::Serializer::with_formatter(&mut text, formatter);
    // Writing to memory cannot fail, and none of our types refuses to be serialized (no map with
    // keys other than strings), so an error here is a fault of this crate, not of its input.
    value
        .serialize(&mut writer)
        .expect("the values of this crate are always JSON");
    String::from_utf8(text).expect("serde_json writes UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Broken(Option<fmt::Error>, &'static str);

    impl fmt::Display for Broken {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("it broke")
        }
    }

    impl std::error::Error for Broken {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            self.0.as_ref().map(|error| error as _)
        }
    }

    impl OperationError for Broken {
        fn code(&self) -> u32 {
            code::KERNEL
        }

        fn next_step(&self) -> String {
            self.1.to_owned()
        }
    }

    #[test]
    fn an_error_of_an_operation_tells_its_cause_and_the_next_step() {
        let cause = fmt::Error.to_string();
        for (broken, details) in [
            (Broken(None, ""), String::new()),
            (Broken(None, "mend it"), "mend it".to_owned()),
            (Broken(Some(fmt::Error), ""), cause.clone()),
            (
                Broken(Some(fmt::Error), "mend it"),
                format!("{cause}; mend it"),
            ),
        ] {
            let expected = Error::new(code::KERNEL, "it broke".to_owned(), details);
            assert_eq!(Error::from(broken), expected);
        }
    }

    #[test]
    fn the_cause_is_found_through_the_object() {
        use std::error::Error as _;

        let told = Error::from(Broken(Some(fmt::Error), "mend it")).with_more("and so on");
        let broken = told.source().unwrap();
        assert!(broken.is::<Broken>());
        assert!(broken.source().unwrap().is::<fmt::Error>());
        assert!(
            Error::of_delegate(1, String::new(), String::new())
                .source()
                .is_none()
        );
    }

    #[test]
    fn values_are_shown_so_far_as_they_tell_something() {
        let long = "x y".repeat(100_000);
        let word = "x".repeat(100_000);
        let error = Error::new(
            code::INVALID_CONFIG,
            format!("key {long:?} is no {word} at all"),
            format!("{word} {word:?} \"{long}\" end"),
        );
        for text in [&error.msg, &error.details] {
            assert!(text.len() < 1000, "{} bytes", text.len());
            assert!(!text.contains(&"x y".repeat(67)), "{text}");
        }
        assert!(error.msg.starts_with("key \"x yx y"), "{error}");
        assert!(error.msg.ends_with("… at all"), "{error}");
        assert!(error.details.ends_with("\" end"), "{error}");
    }

    #[test]
    fn a_message_has_an_end() {
        let error = Error::new(code::IO, "a b ".repeat(100_000), String::new());
        assert!(error.msg.len() <= LONGEST_TEXT + '…'.len_utf8());
        let short = "é \"a\" ".repeat(20);
        let error = Error::new(code::IO, short.clone(), String::new());
        assert_eq!(error.msg, short);
    }
}
