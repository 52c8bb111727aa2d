//! Building what the commands run: static binaries, so that a plugin starts in half a millisecond
//! and runs on any machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use pontoon_lab::{Failure, Outcome, target_dir};
use serde_json::Value;

/// Static binaries, and how they were linked.
pub(crate) struct Built {
    /// Where they are.
    pub(crate) dir: PathBuf,
    /// The target, in words.
    pub(crate) linking: String,
}

/// The build profiles in use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quick to build.
    Dev,
    /// As [`Release`](Self::Release) but for the optimization: to test in minutes what another C
    /// library and missing debug assertions change.
    Tested,
    /// As shipped.
    Release,
}

pub(crate) fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_path_buf()
}

/// A cargo command in the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Runs a command on our own terminal and wants it to succeed.
pub(crate) fn must(command: &mut Command, act: &str) -> Outcome {
    let status = command.status().map_err(Failure::act(act))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::new(format!("{act} failed: {status}")))
    }
}

/// Builds every plugin and command but this one, linked statically.
pub(crate) fn static_binaries(profile: Profile) -> Outcome<Built> {
    let arch = env::consts::ARCH;
    let musl = format!("{arch}-unknown-linux-musl");
    if profile != Profile::Dev && !installed(&musl) {
        // Best effort: without it the GNU target does.
        let _ = Command::new("rustup")
            .args(["target", "add", &musl])
            .current_dir(root())
            .status();
    }
    let (target, flags, linking) = if installed(&musl) {
        (musl.clone(), "", musl)
    } else {
        let gnu = format!("{arch}-unknown-linux-gnu");
        (
            gnu.clone(),
            "-C target-feature=+crt-static",
            format!("{gnu} with +crt-static ({musl} is not installed)"),
        )
    };
    let mut build = cargo(&[
        "build",
        "--quiet",
        "--locked",
        "--workspace",
        "--bins",
        "--exclude",
        "xtask",
        "--target",
        &target,
    ]);
    // A configured default target would move the directory, and us with it.
    build.arg("--target-dir").arg(target_dir()?);
    let (name, folder) = match profile {
        Profile::Dev => ("dev", "debug"),
        Profile::Tested => ("static-test", "static-test"),
        Profile::Release => ("release", "release"),
    };
    build.args(["--profile", name]);
    if !flags.is_empty() {
        build.env("RUSTFLAGS", flags);
    }
    must(&mut build, "the build of the static binaries")?;
    let built = Built {
        dir: target_dir()?.join(&target).join(folder),
        linking,
    };
    for name in names()? {
        let file = built.dir.join(&name);
        if !is_static(&file)? {
            return Err(Failure::new(format!(
                "{} wants a dynamic linker",
                file.display()
            )));
        }
    }
    Ok(built)
}

/// Release binaries, copied to one place.
pub(crate) fn dist() -> Outcome<Built> {
    let built = static_binaries(Profile::Release)?;
    let dist = target_dir()?.join("dist");
    fs::create_dir_all(&dist).map_err(Failure::act("make target/dist"))?;
    for name in names()? {
        // Not over a running file: the new one takes the old one's name.
        let fresh = dist.join(format!(".{name}"));
        fs::copy(built.dir.join(&name), &fresh).map_err(Failure::act(format!("copy {name}")))?;
        fs::rename(&fresh, dist.join(&name)).map_err(Failure::act(format!("place {name}")))?;
        let size = fs::metadata(dist.join(&name))
            .map_err(Failure::act(&name))?
            .len();
        println!("{:>6} kB  {name}", size / 1000);
    }
    println!("statically linked for {}", built.linking);
    Ok(Built { dir: dist, ..built })
}

/// What lies in `target/dist` from an earlier [`dist`].
pub(crate) fn built() -> Outcome<Built> {
    let dir = target_dir()?.join("dist");
    for name in names()? {
        let file = dir.join(&name);
        if !is_static(&file)? {
            return Err(Failure::new(format!(
                "{} wants a dynamic linker: run cargo xtask dist",
                file.display()
            )));
        }
    }
    Ok(Built {
        dir,
        linking: "an earlier cargo xtask dist".to_owned(),
    })
}

/// The binaries of the workspace.
pub(crate) fn names() -> Outcome<Vec<String>> {
    let output = cargo(&[
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
        "--offline",
        "--locked",
    ])
    .output()
    .map_err(Failure::act("run cargo metadata"))?;
    let metadata: Value =
        serde_json::from_slice(&output.stdout).map_err(Failure::act("read cargo metadata"))?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let targets = packages
        .filter(|package| package["name"] != "xtask")
        .filter_map(|package| package["targets"].as_array());
    Ok(targets
        .flatten()
        .filter(|target| target["kind"][0] == "bin")
        .filter_map(|target| target["name"].as_str().map(str::to_owned))
        .collect())
}

/// Whether the standard library for this target lies beside the compiler.
fn installed(target: &str) -> bool {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", target])
        .current_dir(root())
        .output();
    let Ok(output) = output else { return false };
    let dir = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

/// No PT_INTERP among the program headers (elf(5), 64 bit).
fn is_static(file: &Path) -> Outcome<bool> {
    const PT_INTERP: u32 = 3;
    let bytes = fs::read(file).map_err(Failure::act(format!("read {}", file.display())))?;
    let number = |at: usize, length: usize| -> Option<usize> {
        let field = bytes.get(at..at + length)?;
        Some(
            field
                .iter()
                .rev()
                .fold(0, |number, byte| number << 8 | usize::from(*byte)),
        )
    };
    let kinds = || -> Option<Vec<usize>> {
        let (start, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        (0..count)
            .map(|header| number(start + header * size, 4))
            .collect()
    };
    let kinds =
        kinds().ok_or_else(|| Failure::new(format!("{} is no ELF file", file.display())))?;
    Ok(!kinds.contains(&(PT_INTERP as usize)))
}
