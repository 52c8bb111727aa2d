//! Where the programs under test are, and the tools the tests measure them with.

use std::path::{Path, PathBuf};
use std::{env, fs};

use super::failure::{Failure, Outcome};

/// The directory that Cargo builds into: beside the running test or command, wherever
/// CARGO_TARGET_DIR points.
pub fn target_dir() -> Outcome<PathBuf> {
    let here = env::current_exe().map_err(Failure::act("find the running program"))?;
    let profile = here
        .ancestors()
        .skip(1)
        .find(|dir| dir.file_name().is_some_and(|name| name != "deps"))
        .ok_or_else(|| Failure::new(format!("{} is in no build directory", here.display())))?;
    profile
        .parent()
        .map(Path::to_path_buf)
        .ok_or_else(|| Failure::new("the build directory has no parent"))
}

/// `LD_LIBRARY_PATH` for programs that were unpacked below `root` and not installed.
#[must_use]
pub fn libraries(root: &Path) -> String {
    let arch = format!("{}-linux-gnu", env::consts::ARCH);
    ["lib", "usr/lib"]
        .map(|lib| root.join(lib).join(&arch).display().to_string())
        .join(":")
}

/// A set of plugins: a directory for CNI_PATH.
#[derive(Clone, Debug)]
pub struct Programs(PathBuf);

impl Programs {
    /// The binaries of this workspace, as built for tests; `XTASK_PLUGINS` names another set, to
    /// see what the tests say about another vendor's plugins.
    pub fn built() -> Outcome<Self> {
        if let Some(dir) = env::var_os("XTASK_PLUGINS") {
            return Ok(Self(dir.into()));
        }
        Self::at(&target_dir()?.join("debug"))
    }

    /// The reference plugins of a version, where `cargo xtask test` has put them.
    pub fn reference(version: &str) -> Outcome<Self> {
        Self::at(&target_dir()?.join(format!("tools/reference-{version}/usr/lib/cni")))
    }

    /// The binaries in `dir`, which must hold the chain the tests use.
    pub fn at(dir: &Path) -> Outcome<Self> {
        for name in ["bridge", "host-local", "portmap", "loopback"] {
            if !dir.join(name).is_file() {
                return Err(Failure::new(format!(
                    "no plugin {name} in {}: run `cargo xtask test`, which builds all of them first",
                    dir.display()
                )));
            }
        }
        Ok(Self(dir.to_path_buf()))
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.0
    }

    /// One program.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// Looks a tool up: on PATH, and where Debian keeps administrators' tools.
#[must_use]
pub fn find(tool: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|dir| dir.join(tool))
        .find(|file| fs::metadata(file).is_ok_and(|found| found.is_file()))
}

/// What to say when [`find`] found nothing.
#[must_use]
pub fn missing(tool: &str) -> Failure {
    Failure::new(format!(
        "{tool} is missing: run `cargo xtask test`, which installs what the tests need"
    ))
}
