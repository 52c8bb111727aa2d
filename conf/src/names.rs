//! Names that exist only validated: each becomes a file name, a rule comment or an interface name.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Container ids and network names become file names, together with a suffix of Pontoon's; the kernel
/// allows 255 bytes for one.
const LONGEST_NAME: usize = 200;

/// `IFNAMSIZ` less the terminating zero.
const LONGEST_INTERFACE: usize = 15;

/// Why a string is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The empty string.
    #[error("the {what} is empty")]
    Empty {
        /// Which kind of name.
        what: &'static str,
    },
    /// Longer than a file name of Pontoon's, or an interface name of the kernel, may be.
    #[error("the {what} has {length} bytes; at most {limit} are allowed")]
    TooLong {
        /// Which kind of name.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A character stands in it that the specification or the kernel does not allow.
    #[error("the {what} {name:?} may not contain {character:?}{where_}")]
    Character {
        /// Which kind of name.
        what: &'static str,
        /// The name.
        name: String,
        /// The first offender.
        character: char,
        /// `" at its start"`, or nothing.
        where_: &'static str,
    },
    /// A name with a meaning of its own: `.` and `..` are directories, `localhost` is every machine.
    #[error("the {what} may not be {name:?}")]
    Reserved {
        /// Which kind of name.
        what: &'static str,
        /// The name.
        name: String,
    },
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $validate:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(name: &str) -> Result<$type, NameError> {
                $validate(name)?;
                Ok($type(name.to_owned()))
            }
        }

        impl TryFrom<&str> for $type {
            type Error = NameError;

            fn try_from(name: &str) -> Result<$type, NameError> {
                name.parse()
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(de::Error::custom)
            }
        }
    };
}

name!(
    /// `CNI_CONTAINERID`: letters, digits, `_`, `.` and `-`, not starting with a sign; at most 200
    /// bytes.
    ContainerId,
    |name| identifier("container id", name)
);
name!(
    /// The network's `name`, by the rules of a container id.
    NetworkName,
    |name| identifier("network name", name)
);
name!(
    /// `CNI_IFNAME`: 1 to 15 bytes, neither `.` nor `..`, without `/`, `:`, `%`, white space and
    /// control characters.
    IfName,
    interface
);
name!(
    /// The `type` of a plugin: a file name in `CNI_PATH`, never a path.
    PluginType,
    plugin
);

/// The specification's `^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`. It keeps `..` and hidden files out, since
/// the first character is neither.
pub(crate) fn identifier(what: &'static str, name: &str) -> Result<(), NameError> {
    length(what, name, LONGEST_NAME)?;
    for (position, character) in name.chars().enumerate() {
        let sign = matches!(character, '_' | '.' | '-');
        if character.is_ascii_alphanumeric() || (sign && position > 0) {
            continue;
        }
        return Err(NameError::Character {
            what,
            name: name.to_owned(),
            character,
            where_: if sign { " at its start" } else { "" },
        });
    }
    Ok(())
}

fn interface(name: &str) -> Result<(), NameError> {
    let what = "interface name";
    length(what, name, LONGEST_INTERFACE)?;
    not_a_directory(what, name)?;
    // `/`, `:` and white space are refused by the kernel and by the specification. `%` is refused
    // by us: the kernel takes `eth%d` as a pattern and would make an `eth0` that was not asked for.
    without(what, name, |character| {
        matches!(character, '/' | ':' | '%') || character.is_whitespace() || character.is_control()
    })
}

fn plugin(name: &str) -> Result<(), NameError> {
    let what = "plugin type";
    length(what, name, LONGEST_NAME)?;
    not_a_directory(what, name)?;
    without(what, name, |character| {
        matches!(character, '/' | '\\') || character.is_control()
    })
}

fn length(what: &'static str, name: &str, limit: usize) -> Result<(), NameError> {
    match name.len() {
        0 => Err(NameError::Empty { what }),
        length if length > limit => Err(NameError::TooLong {
            what,
            length,
            limit,
        }),
        _ => Ok(()),
    }
}

fn not_a_directory(what: &'static str, name: &str) -> Result<(), NameError> {
    if matches!(name, "." | "..") {
        return Err(NameError::Reserved {
            what,
            name: name.to_owned(),
        });
    }
    Ok(())
}

fn without(
    what: &'static str,
    name: &str,
    forbidden: impl Fn(char) -> bool,
) -> Result<(), NameError> {
    match name.chars().find(|&character| forbidden(character)) {
        None => Ok(()),
        Some(character) => Err(NameError::Character {
            what,
            name: name.to_owned(),
            character,
            where_: "",
        }),
    }
}
