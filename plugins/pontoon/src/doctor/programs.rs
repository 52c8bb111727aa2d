//! Plugins that runtimes find before ours.

use std::path::Path;

use super::{CheckInput, Finding};
use crate::install::{is_ours, programs};
use crate::report::Failure;

pub(crate) fn check(ground: &mut CheckInput, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let path = ground.places.cni_path();
    let dirs: Vec<&Path> = path.split(':').map(Path::new).collect();
    for name in programs() {
        let found: Vec<_> = dirs
            .iter()
            .map(|dir| dir.join(name))
            .filter(|path| path.is_file())
            .collect();
        // Reading a program is dear: only where there is a choice.
        let Some(first) = found
            .first()
            .filter(|first| found.len() > 1 && !is_ours(first))
        else {
            continue;
        };
        let Some(ours) = found.iter().find(|path| is_ours(path)) else {
            continue;
        };
        let (Some(theirs_dir), Some(ours_dir)) = (first.parent(), ours.parent()) else {
            continue;
        };
        findings.push(
            Finding::new("plugin-shadowed", name)
                .means(format!(
                    "runtimes with this CNI_PATH run another vendor's {name}"
                ))
                .seen(format!(
                    "{} comes before {}",
                    first.display(),
                    ours.display()
                ))
                .advice(format!(
                    "name {} before {} where the runtime reads its folders of plugins: CNI_PATH, containerd's bin_dir, podman's cni_plugin_dirs",
                    ours_dir.display(),
                    theirs_dir.display()
                )),
        );
    }
    Ok(())
}
