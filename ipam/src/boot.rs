//! Which boot of the machine this is.

use std::fs;
use std::io;
use std::time::{Duration, SystemTime};

/// One run of the kernel, from boot to shutdown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    id: String,
    began: Option<SystemTime>,
}

impl Boot {
    /// The boot that is running.
    ///
    /// # Errors
    /// Those of reading below `/proc`.
    pub fn current() -> io::Result<Boot> {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        Ok(Boot {
            id: id.trim().to_owned(),
            began: None,
        })
    }

    /// A boot by name and start, for those who know better than `/proc`.
    #[must_use]
    pub fn new(id: impl Into<String>, began: SystemTime) -> Boot {
        Boot {
            id: id.into(),
            began: Some(began),
        }
    }

    /// The kernel's random name for it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When it began, in whole seconds: a file older than this was left by an
    /// earlier boot. Read only when needed; it takes the kernel a while to
    /// compose `/proc/stat`.
    ///
    /// # Errors
    /// Those of reading below `/proc`.
    pub fn began(&self) -> io::Result<SystemTime> {
        if let Some(began) = self.began {
            return Ok(began);
        }
        fs::read_to_string("/proc/stat")?
            .lines()
            .find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
            .map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
            .ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "/proc/stat has no line btime")
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_boot_began_in_the_past() {
        let boot = Boot::current().expect("boot id");
        assert_eq!(boot.id().len(), 36, "{boot:?}");
        let began = boot.began().expect("btime");
        assert!(began < SystemTime::now() && began > SystemTime::UNIX_EPOCH);
    }
}
