//! Finding the installed programs, in directories that the caller names, without starting any in
//! the usual case: distributions install one multi-call binary per variant, and its name tells.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::restore::{Programs, Variant, version};
use super::text::Family;

/// What is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detected {
    /// The variant of all programs.
    pub variant: Variant,
    /// The programs for IPv4.
    pub v4: Option<Programs>,
    /// The programs for IPv6.
    pub v6: Option<Programs>,
}

impl Detected {
    /// The program that lists all tables of a family: `iptables-save` of the same variant. It stands beside
    /// the other programs, because each package has all of them.
    #[must_use]
    pub fn save(&self, v4: bool) -> Option<PathBuf> {
        let family = if v4 { Family::V4 } else { Family::V6 };
        let list = &self.programs(family)?.list;
        let mut name = list.file_name()?.to_owned();
        name.push("-save");
        Some(list.with_file_name(name))
    }

    pub(super) fn programs(&self, family: Family) -> Option<&Programs> {
        match family {
            Family::V4 => self.v4.as_ref(),
            Family::V6 => self.v6.as_ref(),
        }
    }
}

/// Looks in `directories`, first match first. `None`: no usable iptables there. With `wanted`, the
/// programs of that variant, whichever is the default now.
pub(super) fn detect(
    directories: &[PathBuf],
    wanted: Option<Variant>,
) -> Result<Option<Detected>, Error> {
    let default = || -> Result<Option<Detected>, Error> {
        let v4 = programs(directories, "iptables", "")?;
        let mut v6 = programs(directories, "ip6tables", "")?;
        let Some(any) = v4.as_ref().or(v6.as_ref()) else {
            return Ok(None);
        };
        let variant = variant_of(&any.restore)?;
        // The two families' defaults are set apart; one network has one variant.
        if let Some(found) = &v6
            && variant_of(&found.restore)? != variant
        {
            v6 = programs(directories, "ip6tables", variant.infix())?;
        }
        Ok(Some(Detected { variant, v4, v6 }))
    };
    let Some(variant) = wanted else {
        return default();
    };
    let v4 = programs(directories, "iptables", variant.infix())?;
    let v6 = programs(directories, "ip6tables", variant.infix())?;
    if v4.is_some() || v6.is_some() {
        return Ok(Some(Detected { variant, v4, v6 }));
    }
    // Older and smaller distributions have one variant only, under the plain names.
    Ok(default()?.filter(|found| found.variant == variant))
}

/// Both programs of one family, or none: reading and writing must not mix variants.
fn programs(directories: &[PathBuf], family: &str, infix: &str) -> Result<Option<Programs>, Error> {
    let find = |name: String| -> Result<Option<PathBuf>, Error> {
        for path in directories.iter().map(|directory| directory.join(&name)) {
            if runnable(&path)? {
                return Ok(Some(path));
            }
        }
        Ok(None)
    };
    let Some(restore) = find(format!("{family}{infix}-restore"))? else {
        return Ok(None);
    };
    let list = find(format!("{family}{infix}"))?;
    Ok(list.map(|list| Programs { restore, list }))
}

/// Whether a program can be run. What cannot be looked at is not one that is missing.
fn runnable(path: &Path) -> Result<bool, Error> {
    use std::os::unix::fs::PermissionsExt;
    match fs::metadata(path) {
        Ok(found) => Ok(found.is_file() && found.permissions().mode() & 0o111 != 0),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::PermissionDenied
            ) =>
        {
            Ok(false)
        }
        Err(source) => Err(Error::Start {
            program: path.to_owned(),
            source,
        }),
    }
}

fn variant_of(program: &Path) -> Result<Variant, Error> {
    let real = fs::canonicalize(program).unwrap_or_else(|_| program.to_owned());
    match real.file_name().and_then(|name| name.to_str()) {
        Some("xtables-nft-multi") => Ok(Variant::Nft),
        Some("xtables-legacy-multi" | "xtables-multi") => Ok(Variant::Legacy),
        // `iptables v1.8.9 (nf_tables)`; before 1.8 there was one variant and no parentheses.
        _ if version(program)?.contains("nf_tables") => Ok(Variant::Nft),
        _ => Ok(Variant::Legacy),
    }
}
