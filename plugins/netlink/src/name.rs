//! Names of network interfaces.

use std::fmt;

/// A name that an interface can have, by the kernel's own rule (`dev_valid_name`): 1 to 15 bytes
/// (`IFNAMSIZ` less its closing zero), neither `.` nor `..`, without `/`, `:`, white space and zero bytes.
///
/// ```
/// use pontoon_netlink::InterfaceName;
/// assert_eq!(InterfaceName::new("eth0").unwrap().as_str(), "eth0");
/// let error = InterfaceName::new(&"x".repeat(66_000)).unwrap_err();
/// assert!(error.to_string().contains("has 66000 bytes, and 15 are the most"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InterfaceName<'a>(&'a str);

/// Why a text is no interface name. Shows at most 64 bytes of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{name}\" is no interface name: {reason}")]
pub struct InvalidName {
    name: String,
    reason: String,
}

impl InvalidName {
    /// A text and what is wrong with it.
    #[must_use]
    pub fn new(name: &str, reason: impl Into<String>) -> InvalidName {
        let end = name.floor_char_boundary(64);
        let more = if end < name.len() { "…" } else { "" };
        InvalidName {
            name: format!("{}{more}", name[..end].escape_debug()),
            reason: reason.into(),
        }
    }
}

impl<'a> InterfaceName<'a> {
    /// Bytes that a name may have.
    pub const LIMIT: usize = libc::IFNAMSIZ - 1;

    /// Takes a text as a name.
    ///
    /// # Errors
    /// [`InvalidName`]: no interface can be called so.
    pub fn new(name: &'a str) -> Result<InterfaceName<'a>, InvalidName> {
        let refused = |reason: String| Err(InvalidName::new(name, reason));
        match name {
            "" => return refused("it is empty".to_owned()),
            "." | ".." => return refused("it stands for a directory".to_owned()),
            _ => {}
        }
        if name.len() > Self::LIMIT {
            return refused(format!(
                "it has {} bytes, and {} are the most",
                name.len(),
                Self::LIMIT
            ));
        }
        let forbidden = |c: &char| matches!(c, '/' | ':' | '\0') || c.is_ascii_whitespace();
        match name.chars().find(forbidden) {
            Some(character) => refused(format!("it holds {character:?}")),
            None => Ok(InterfaceName(name)),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(self) -> &'a str {
        self.0
    }
}

impl fmt::Display for InterfaceName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, reason: Option<&str>) {
        let error = InterfaceName::new(name)
            .err()
            .map(|error| error.to_string());
        match (error, reason) {
            (None, None) => {}
            (Some(error), Some(reason)) => assert!(error.ends_with(reason), "{error}"),
            other => panic!("{name:?}: {other:?}"),
        }
    }

    #[test]
    fn the_kernels_rule() {
        check("eth0", None);
        check("fifteen-bytes-1", None);
        check("größe", None);
        check("", Some("it is empty"));
        check("..", Some("a directory"));
        check("sixteen-bytes-12", Some("16 bytes, and 15 are the most"));
        check("a/b", Some("'/'"));
        check("a b", Some("' '"));
        check("a:b", Some("':'"));
        check("a\0b", Some("'\\0'"));
    }

    #[test]
    fn a_long_text_is_shown_in_part() {
        let error = InvalidName::new(&"ü".repeat(40_000), "it is long");
        assert!(error.to_string().len() < 120, "{error}");
    }
}
