/// The lints of a manifest's section, without the one that this crate alone may set otherwise.
#[track_caller]
fn lints(manifest: &str, section: &str) -> Vec<String> {
    let start = manifest.find(section).expect("the section");
    let lines = manifest[start + section.len()..].lines().skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .filter(|line| line.contains('=') && !line.starts_with("unsafe_code"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_lints_are_those_of_the_workspace() {
    let (workspace, own) = (
        include_str!("../../../../Cargo.toml"),
        include_str!("../../Cargo.toml"),
    );
    for tool in ["rust", "clippy"] {
        let expected = lints(workspace, &format!("[workspace.lints.{tool}]"));
        assert!(expected.len() >= 3, "{expected:?}");
        assert_eq!(lints(own, &format!("\n[lints.{tool}]")), expected);
    }
}
