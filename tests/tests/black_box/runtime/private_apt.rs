//! The tests unpack Debian packages that the machine may have installed in newer versions, or may
//! prefer from elsewhere. Neither changes what they unpack.

use std::fs;
use std::path::Path;
use std::process::Command;

use pontoon_lab::{Failure, Outcome, Scratch};

/// A package that the tests unpack, installed from the security archive, so to say.
const INSTALLED: &str = "Package: libgpgme11
Status: install ok installed
Maintainer: a test
Architecture: amd64
Version: 99.0-1+deb12u9
Description: newer than what the archive's main part has

";

/// Prefers that version, and refuses the release that the tests ask for.
const PREFERENCES: &str = "Package: libgpgme11
Pin: version 99.*
Pin-Priority: 1001

Package: *
Pin: release n=bookworm
Pin-Priority: -1
";

/// What the machine's own configuration says.
const MACHINE: &str = "Dir::State::status \"DIR/status\";
Dir::Etc::Preferences \"DIR/preferences\";
APT::Default-Release \"trixie\";
";

#[test]
fn versions_of_the_machine_do_not_count() -> Outcome {
    let scratch = Scratch::new("apt")?;
    let write = |name: &str, text: &str| {
        fs::write(scratch.path().join(name), text).map_err(Failure::act(format!("write {name}")))
    };
    let dir = scratch.path().display().to_string();
    write("status", INSTALLED)?;
    write("preferences", PREFERENCES)?;
    write("apt.conf", &MACHINE.replace("DIR", &dir))?;
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let finished = Command::new("bash")
        .arg("-euc")
        .arg(format!(
            "CACHE={dir}; . {}/debian.sh; cd {dir}
             private_apt bookworm 'deb bookworm main' download libgpgme11 >&2; echo *.deb",
            scripts.display()
        ))
        .env("APT_CONFIG", scratch.path().join("apt.conf"))
        .output()
        .map_err(Failure::act("run bash"))?;
    let said = String::from_utf8_lossy(&finished.stderr);
    assert!(finished.status.success(), "{said}");
    let deb = String::from_utf8_lossy(&finished.stdout);
    assert!(deb.starts_with("libgpgme11_1.18.0-"), "{deb}");
    Ok(())
}
