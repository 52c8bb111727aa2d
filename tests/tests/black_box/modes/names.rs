//! Mode container and names: one set of files for both.

use std::fs;
use std::path::Path;

use pontoon_lab::{Attachment, Backend, Container, Failure, Network, Outcome, Site};
use serde_json::json;

#[track_caller]
fn wrong(text: impl Into<String>) -> Outcome {
    Err(Failure::new(text))
}

/// The names of the other are the names of who joins it: the files that a runtime mounts, and those
/// that `ip netns exec` does.
#[test]
fn container_shares_the_files_of_names() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let named = site.named_network("names", 85, json!({}));
    let (web, attached) = site.join_named("web", &named)?;
    let before = site.snapshot()?;
    let joiner = Container::new("joiner")?;
    let mut attachment = Attachment::new(&joiner);
    let network = Network::from_list(json!({
        "cniVersion": "1.1.0", "name": "container-net",
        "plugins": [{ "type": "container", "container": web.id }],
    }));
    site.runtime().add(&network, &mut attachment)?;
    let folder = site.host.state_dir().join("containers");
    for file in ["resolv.conf", "hosts"] {
        let read = |id: &str| fs::read_to_string(folder.join(id).join(file)).unwrap_or_default();
        if read(&web.id).is_empty() || read(&web.id) != read(&joiner.id) {
            return wrong(format!("{file} is not the other's: {:?}", read(&joiner.id)));
        }
    }
    let own = attached.address(false).unwrap_or_default();
    let found = joiner.output("getent", &["ahostsv4", "web"])?;
    if !found.starts_with(&own) {
        return wrong(format!("web is {found:?} for who has joined it, not {own}"));
    }
    site.runtime().check(&network, &attachment)?;
    fs::remove_file(folder.join(&joiner.id)).map_err(Failure::act("remove the link"))?;
    match site.runtime().check(&network, &attachment) {
        Err(error) if error.code == 104 && error.msg.contains("does not lead to the files of") => {}
        other => return wrong(format!("CHECK does not miss the link: {other:?}")),
    }
    site.runtime().del(&network, &attachment)?;
    site.runtime().del(&network, &attachment)?;
    let etc = Path::new("/etc/netns").join(joiner.path().file_name().unwrap_or_default());
    if etc.is_symlink() || folder.join(&joiner.id).is_symlink() {
        return wrong("DEL left a link");
    }
    before.same_as(&site.snapshot()?, "container and DEL")?;
    Ok(site.runtime().check(&named, &attached)?)
}
