//! Plugins that runtimes find before ours.

use std::path::Path;

use super::{Finding, Ground};
use crate::install::{PLUGINS, is_ours};

pub(crate) fn check(ground: &Ground, findings: &mut Vec<Finding>) {
    let path = ground.places.cni_path();
    let dirs: Vec<&Path> = path.split(':').map(Path::new).collect();
    for name in PLUGINS {
        let found: Vec<_> = dirs
            .iter()
            .map(|dir| dir.join(name))
            .filter(|path| path.is_file())
            .collect();
        let Some(first) = found.first().filter(|first| !is_ours(first)) else {
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
                .mend(format!(
                    "pontoon install --force --from {} --bin-dir {} --conf-dir {}",
                    ours_dir.display(),
                    theirs_dir.display(),
                    ground.places.conf_dir().display()
                )),
        );
    }
}
