//! Decisions: the MTU of the link, and what it is called while it is made.

use pontoon_conf::ConfigError;
use pontoon_ledger::Key;

/// The MTU to set: none is the master's, of which a macvlan can have less and never more.
pub(crate) fn mtu(asked: i64, master: u32) -> Result<Option<u32>, ConfigError> {
    match u32::try_from(asked) {
        Ok(0) => Ok(None),
        Ok(mtu) if mtu <= master => Ok(Some(mtu)),
        _ => Err(ConfigError::refused(format!(
            "invalid MTU {asked}, must be [0, master MTU({master})]"
        ))),
    }
}

/// What the link is called until it has its final name: free in every namespace.
pub(crate) fn temporary_name(key: &Key) -> String {
    key.host_interface().replacen("veth", "macv", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_master_has() {
        assert_eq!(mtu(0, 1500).unwrap(), None);
        assert_eq!(mtu(1500, 1500).unwrap(), Some(1500));
        for wrong in [-1, 1501] {
            let error = mtu(wrong, 1500).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("invalid MTU {wrong}, must be [0, master MTU(1500)]")
            );
        }
    }
}
