//! Network configurations on the host, found as cnitool and the runtimes find them, and the plugins
//! that they name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use pontoon_ledger::kinds::{self, Role};
use pontoon_netlink::run_program;
use serde_json::{Value, json};

use crate::report::Failure;

/// Which attachments a GC leaves: container id and interface name.
pub(crate) enum KeptAttachments {
    /// These, as a runtime says it.
    Listed(Vec<(String, String)>),
    /// Those whose namespace is alive when the plugin looks at them, and of those without a record these.
    Living(Vec<(String, String)>),
}

/// Where configurations and plugins are.
#[derive(Args, Debug, Clone)]
pub(crate) struct Places {
    /// Folder of the network configurations [default: NETCONFPATH, else /etc/cni/net.d]
    #[arg(long, value_name = "DIR")]
    pub(crate) conf_dir: Option<PathBuf>,
    /// Folders of the plugins, separated by colons [default: CNI_PATH, else /opt/cni/bin]
    #[arg(long, value_name = "DIRS")]
    pub(crate) bin_dir: Option<String>,
}

impl Places {
    #[allow(clippy::disallowed_methods, reason = "the variables of cnitool")]
    pub(crate) fn conf_dir(&self) -> PathBuf {
        let given = self.conf_dir.clone();
        given
            .or_else(|| std::env::var_os("NETCONFPATH").map(PathBuf::from))
            .unwrap_or_else(|| "/etc/cni/net.d".into())
    }

    /// The options that lead another command to the same places, with absolute paths: it may be run
    /// elsewhere.
    pub(crate) fn options(&self) -> String {
        let absolute = |path: &Path| {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            path.display().to_string()
        };
        let mut text = String::new();
        if let Some(dir) = &self.conf_dir {
            text += &format!(" --conf-dir {}", absolute(dir));
        }
        if let Some(dirs) = &self.bin_dir {
            let dirs: Vec<String> = dirs
                .split(':')
                .map(|dir| absolute(Path::new(dir)))
                .collect();
            text += &format!(" --bin-dir {}", dirs.join(":"));
        }
        text
    }

    #[allow(clippy::disallowed_methods, reason = "the variables of cnitool")]
    pub(crate) fn cni_path(&self) -> String {
        let given = self.bin_dir.clone();
        given
            .or_else(|| std::env::var("CNI_PATH").ok())
            .filter(|path| !path.is_empty())
            .unwrap_or_else(|| "/opt/cni/bin".to_owned())
    }

    /// The files that runtimes read as configurations, in their order.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>, Failure> {
        files(&self.conf_dir())
    }

    /// The configuration of a network, as a list.
    pub(crate) fn network(&self, name: &str) -> Result<Value, Failure> {
        let dir = self.conf_dir();
        // One that cannot be read may be this network's: it is told where no other is.
        let mut unread = String::new();
        for path in self.files()? {
            let read = fs::read(&path).map_err(|error| error.to_string());
            let value = read.and_then(|text| {
                serde_json::from_slice::<Value>(&text).map_err(|error| error.to_string())
            });
            match value {
                Ok(value) if value["name"] == name => return Ok(list(value)),
                Ok(_) => {}
                Err(error) => {
                    unread += &format!("\nhint: {} cannot be read: {error}", path.display());
                }
            }
        }
        Err(Failure::NotFound(format!(
            "no configuration in {} has the name {name}{unread}\nhint: --conf-dir says where configurations are",
            dir.display()
        )))
    }

    /// Runs GC of every plugin of a network.
    pub(crate) fn gc(&self, network: &Value, rest: &KeptAttachments) -> Result<(), Failure> {
        let list = |pairs: &[(String, String)]| -> Value {
            pairs
                .iter()
                .map(|(id, ifname)| json!({ "containerID": id, "ifname": ifname }))
                .collect()
        };
        for plugin in network["plugins"].as_array().into_iter().flatten() {
            let kind = plugin["type"].as_str().unwrap_or_default();
            if kinds::of(kind).is_some_and(|kind| !kind.collects && kind.role != Role::Addresses) {
                continue;
            }
            let mut input = plugin.clone();
            input["name"] = network["name"].clone();
            // GC came with 1.1.0, whatever the network itself is written in.
            input["cniVersion"] = json!("1.1.0");
            match rest {
                KeptAttachments::Listed(keep) => {
                    input["cni.dev/valid-attachments"] = list(keep);
                    input["cni.dev/attachments"] = list(keep);
                }
                KeptAttachments::Living(spared) => {
                    input["pontoon.dev/spared-attachments"] = list(spared)
                }
            }
            self.run(kind, &input)?;
        }
        Ok(())
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "plugins are called as a runtime calls them"
    )]
    fn run(&self, kind: &str, input: &Value) -> Result<(), Failure> {
        let path = self.cni_path();
        let program = path
            .split(':')
            .map(|dir| Path::new(dir).join(kind))
            .find(|program| program.is_file())
            .ok_or_else(|| {
                Failure::Failed(format!(
                    "there is no plugin {kind} in {path}\nhint: --bin-dir says where plugins are"
                ))
            })?;
        let failed = |error: std::io::Error| {
            Failure::Failed(format!("cannot run {}: {error}", program.display()))
        };
        let mut command = Command::new(&program);
        command.env("CNI_COMMAND", "GC").env("CNI_PATH", &path);
        // A plugin that does not read its input may still answer.
        let output = run_program(&mut command, input.to_string().as_bytes()).map_err(failed)?;
        if output.status.success() {
            return Ok(());
        }
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        Err(Failure::Failed(format!(
            "GC by {}: {} {}",
            program.display(),
            answer["msg"].as_str().unwrap_or("failed without a word"),
            answer["details"].as_str().unwrap_or_default()
        )))
    }
}

/// The files of a folder that runtimes read as configurations, in their order.
pub(crate) fn files(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error| Failure::NotFound(format!("cannot list {}: {error}", dir.display()));
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let kind = path.extension().and_then(|kind| kind.to_str());
        if matches!(kind, Some("conf" | "conflist" | "json")) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// A configuration of one plugin becomes a list of one.
fn list(value: Value) -> Value {
    if value["plugins"].is_array() {
        return value;
    }
    json!({ "name": value["name"], "cniVersion": value["cniVersion"], "plugins": [value] })
}
