//! A host with one network, and `host-local` called on it as a runtime does.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;
use tempfile::TempDir;

/// Runs a test on a thread that has an empty `/run`, which its children see.
pub(crate) fn in_own_run(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).expect("this test needs root for a mount namespace");
            let none: Option<&str> = None;
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(none, "/", none, private, none).expect("private mounts");
            mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none)
                .expect("tmpfs on /run");
            test();
        });
        thread.join().expect("the test");
    });
}

/// One network on one host.
pub(crate) struct Node {
    folder: TempDir,
    ipam: String,
}

/// What a call left: exit status and standard output.
pub(crate) struct Answer(Output);

impl Node {
    /// A network with an IPv4 and an IPv6 range of 13 addresses each.
    pub(crate) fn new() -> Node {
        Node::with(
            r#""ranges": [[{"subnet": "10.9.0.0/28"}], [{"subnet": "fd00:9::/64", "rangeEnd": "fd00:9::e"}]]"#,
        )
    }

    pub(crate) fn with(ranges: &str) -> Node {
        let folder = tempfile::tempdir().expect("folder");
        let ipam = format!(
            r#"{{"type": "host-local", "dataDir": "{}", {ranges}}}"#,
            folder.path().join("networks").display()
        );
        Node { folder, ipam }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Address and owner of each lease.
    pub(crate) fn leases(&self) -> BTreeMap<String, String> {
        let Ok(entries) = fs::read_dir(self.folder.path().join("networks/n")) else {
            return BTreeMap::new();
        };
        entries
            .map(|entry| entry.expect("entry"))
            .filter(|entry| {
                entry
                    .file_name()
                    .to_string_lossy()
                    .parse::<IpAddr>()
                    .is_ok()
            })
            .map(|entry| {
                let owner = fs::read_to_string(entry.path()).expect("lease");
                (entry.file_name().to_string_lossy().into_owned(), owner)
            })
            .collect()
    }

    fn command(&self, verb: &str, container: &str, environment: &[(&str, &str)]) -> Child {
        let mut child = Command::new(env!("CARGO_BIN_EXE_host-local"))
            .env_clear()
            .envs(environment.iter().copied())
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", container)
            .env("CNI_NETNS", "/run/netns/none")
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/opt/cni/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start host-local");
        let previous = match verb {
            "CHECK" => r#""prevResult": {"cniVersion": "1.0.0", "ips": []},"#,
            _ => "",
        };
        let config = format!(
            r#"{{"cniVersion": "1.0.0", "name": "n", "type": "bridge", {previous} "ipam": {}}}"#,
            self.ipam
        );
        // One that is killed early may not read it.
        let _ = child
            .stdin
            .take()
            .expect("stdin")
            .write_all(config.as_bytes());
        child
    }

    pub(crate) fn start(&self, verb: &str, container: &str) -> Child {
        self.command(verb, container, &[])
    }

    pub(crate) fn call(&self, verb: &str, container: &str, environment: &[(&str, &str)]) -> Answer {
        finish(self.command(verb, container, environment))
    }
}

pub(crate) fn finish(child: Child) -> Answer {
    Answer(child.wait_with_output().expect("the end of host-local"))
}

impl Answer {
    #[track_caller]
    pub(crate) fn success(&self) {
        let Output {
            status,
            stdout,
            stderr,
        } = &self.0;
        let told = format!(
            "{}{}",
            String::from_utf8_lossy(stdout),
            String::from_utf8_lossy(stderr)
        );
        assert!(status.success(), "{status}: {told}");
    }

    /// Whether it failed; then it must be for this reason.
    #[track_caller]
    pub(crate) fn failed(&self, reason: &str) -> bool {
        if self.0.status.success() {
            return false;
        }
        let error: Value = serde_json::from_slice(&self.0.stdout).expect("an error object");
        let told = format!("{} {}", error["msg"], error["details"]);
        assert!(told.contains(reason), "{error}");
        true
    }

    #[track_caller]
    pub(crate) fn killed(&self, point: &str) {
        assert_eq!(self.0.status.signal(), Some(9), "{point} was not reached");
    }

    #[track_caller]
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.success();
        let result: Value = serde_json::from_slice(&self.0.stdout).expect("a result");
        let address = |ip: &Value| {
            let text = ip["address"].as_str().expect("address");
            text.split_once('/').expect("prefix length").0.to_owned()
        };
        result["ips"]
            .as_array()
            .expect("ips")
            .iter()
            .map(address)
            .collect()
    }
}
