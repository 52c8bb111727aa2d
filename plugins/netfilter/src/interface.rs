//! Which interface names can stand in a rule.

use pontoon_netlink::{InterfaceName, InvalidName};

/// A name that both backends match as it is. Beyond the kernel's rule it is printable ASCII without
/// quotes and backslashes, which the tools' syntax could not show; in iptables a trailing `+` would
/// match every interface that begins so, `!` would turn the match around, and `-` begins an option.
pub(crate) fn interface(name: &str) -> Result<&str, InvalidName> {
    let known = InterfaceName::new(name)?.as_str();
    let printable = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\');
    let reason = if !known.bytes().all(printable) {
        "a rule takes printable ASCII without quotes and backslashes"
    } else if known.starts_with(['!', '-']) {
        "in a rule it must not begin with ! or -"
    } else if known.ends_with('+') {
        "in a rule it must not end with +"
    } else {
        return Ok(known);
    };
    Err(InvalidName::new(name, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, sound: bool) {
        assert_eq!(interface(name).is_ok(), sound, "{name:?}");
    }

    #[test]
    fn what_either_backend_would_take_otherwise_is_refused() {
        check("br-lan", true);
        check("br+0", true);
        for name in [
            "br+",
            "!br",
            "-br",
            "b\"r",
            "b'r",
            "b\\r",
            "b r",
            "bür",
            "",
            "sixteen-is-a-lot",
        ] {
            check(name, false);
        }
    }
}
