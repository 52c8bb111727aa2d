//! Which kernel parameters the administrator of the host lets networks set.

use std::io;
use std::path::Path;

use pontoon_ledger::files;
use regex_lite::Regex;

use crate::config::{ALLOWLIST, Sysctl};
use crate::error::AllowlistError;

/// Bytes of it that are read.
const LARGEST: u64 = 1024 * 1024;

/// Refuses what is not on the list of the host.
pub(crate) fn ask(sysctls: &[Sysctl]) -> Result<(), AllowlistError> {
    match files::read_following(Path::new(ALLOWLIST), LARGEST) {
        Ok(bytes) => allowed(&String::from_utf8_lossy(&bytes), sysctls),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(AllowlistError::Unread { source: error }),
    }
}

/// One regular expression a line, which may match anywhere in the key.
fn allowed(text: &str, sysctls: &[Sysctl]) -> Result<(), AllowlistError> {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let patterns = lines
        .iter()
        .map(|line| {
            Regex::new(line).map_err(|error| AllowlistError::Pattern {
                line: (*line).to_owned(),
                source: error,
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    for sysctl in sysctls {
        if !patterns.iter().any(|pattern| pattern.is_match(&sysctl.key)) {
            return Err(AllowlistError::NotAllowed {
                key: sysctl.key.clone(),
                allowed: lines.join(" "),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(list: &str, key: &str, expected: Result<(), &str>) {
        let sysctl = Sysctl {
            key: key.to_owned(),
            path: String::new(),
            value: String::new(),
        };
        match (allowed(list, &[sysctl]), expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (got, _) => panic!("{got:?} for {key} on {list:?}"),
        }
    }

    #[test]
    fn lines_are_regular_expressions() {
        let list = "\n^net.core.somaxconn$\n  ^net\\.ipv4\\.conf\\.[^.]*\\.arp_filter$ \n";
        check(list, "net.core.somaxconn", Ok(()));
        check(list, "net.ipv4.conf.IFNAME.arp_filter", Ok(()));
        check(
            list,
            "net.core.somaxconn2",
            Err("Sysctl net.core.somaxconn2 is not allowed"),
        );
        check("core", "net.core.somaxconn", Ok(()));
        check("", "net.core.somaxconn", Err("is not allowed"));
        check("(", "net.core.somaxconn", Err("no regular expression"));
    }
}
