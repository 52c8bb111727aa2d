//! The files of names that `dns` has made for the other, shared as Docker does: the folder of this
//! container, and that of its namespace in `/etc/netns`, lead to the other's.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use pontoon_ledger::FileLink;
use pontoon_ledger::files;
use pontoon_plugin::Context;

use crate::error::FileError;

/// What the files begin with that Pontoon has made.
const MARK: &[u8] = b"# Made by Pontoon";
/// Bytes that Pontoon's files have at most.
const LONGEST: u64 = 4 * 1024 * 1024;
const ETC: &str = "/etc/netns";

/// The links that are due: from `own` to `other`, and between the namespaces at these paths.
pub(crate) fn plan(
    context: &Context,
    (own, own_netns): (&str, &str),
    (other, other_netns): (&str, &str),
) -> Vec<FileLink> {
    let mut links = Vec::new();
    let mut link = |folder: &Path, own: &str, other: &str, ours: bool| {
        let path = folder.join(own);
        // What is there already and is no link was made by another program.
        let free = path.is_symlink() || !files::may_exist(&path);
        if own != other && ours && free {
            links.push(FileLink {
                path,
                to: other.to_owned(),
            });
        }
    };
    let folder = context.state.containers_dir();
    link(&folder, own, other, folder.join(other).is_dir());
    if let (Some(own), Some(other)) = (name(own_netns), name(other_netns)) {
        let etc = Path::new(ETC);
        let text = files::read_following(&etc.join(other).join("resolv.conf"), LONGEST);
        let ours = text.is_ok_and(|text| text.starts_with(MARK));
        link(etc, own, other, ours);
    }
    links
}

/// The name by which `ip netns` knows the namespace at a path.
fn name(path: &str) -> Option<&str> {
    ["/run/netns/", "/var/run/netns/"]
        .into_iter()
        .find_map(|folder| path.strip_prefix(folder))
        .filter(|name| !name.is_empty() && !name.contains('/'))
}

/// Makes the links; one of an earlier ADD is replaced.
pub(crate) fn share(links: &[FileLink]) -> Result<(), FileError> {
    remove(links)?;
    for FileLink { path, to } in links {
        symlink(to, path).map_err(failed("make", path))?;
    }
    Ok(())
}

/// Removes the links, and nothing that is no link.
pub(crate) fn remove(links: &[FileLink]) -> Result<(), FileError> {
    for FileLink { path, .. } in links {
        if !path.is_symlink() {
            continue;
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", path)(error));
            }
            _ => {}
        }
        // The last one takes the folder along, which fails while others are there.
        if let Some(folder) = path.parent().filter(|folder| *folder != Path::new(ETC)) {
            let _ = fs::remove_dir(folder);
        }
    }
    Ok(())
}

/// The link that is not as it was made.
pub(crate) fn lacking(links: &[FileLink]) -> Option<&Path> {
    let lacks =
        |link: &&FileLink| fs::read_link(&link.path).ok().as_deref() != Some(Path::new(&link.to));
    links.iter().find(lacks).map(|link| link.path.as_path())
}

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |source| FileError {
        act,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_namespaces() {
        for (path, expected) in [
            ("/run/netns/c1", Some("c1")),
            ("/var/run/netns/c1", Some("c1")),
            ("/run/netns/", None),
            ("/run/netns/a/b", None),
            ("/proc/7/ns/net", None),
        ] {
            assert_eq!(name(path), expected);
        }
    }
}
