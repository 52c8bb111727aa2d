//! Networks with names, and clients that ask for them.

use std::process::Command;

use serde_json::{Value, json};

use super::container::Container;
use super::failure::{Failure, Outcome};
use super::network::{Attachment, Network};
use super::programs::{find, missing};
use super::site::Site;

impl Site {
    /// A network as [`Site::network`] makes it, with names: `10.NUMBER.0.0/16` and
    /// `fd00:NUMBER::/64`. `keys` are further keys of the plugin `dns`. The host's resolv.conf is a
    /// file of the site's own, which is not there until the test writes it.
    #[must_use]
    pub fn named_network(&self, name: &str, number: u8, keys: Value) -> Network {
        let mut list = self
            .network(
                name,
                &format!("{name}0"),
                &[
                    &format!("10.{number}.0.0/16"),
                    &format!("fd00:{number}::/64"),
                ],
            )
            .list()
            .clone();
        let mut plugin = json!({
            "type": "dns", "backend": self.backend.key(), "etcNetns": true,
            "resolvConf": self.leases.path().join("resolv.conf"),
            "capabilities": { "aliases": true, "dns": true, "links": true },
        });
        for (key, value) in keys.as_object().into_iter().flatten() {
            plugin[key] = value.clone();
        }
        if let Some(plugins) = list["plugins"].as_array_mut() {
            plugins.push(plugin);
        }
        Network::from_list(list)
    }

    /// Kills all processes of the resolver, as a host does that has no memory left. One that stays starts the others
    /// again, so the keeper must not see the others end.
    pub fn kill_resolver(&self) -> Outcome {
        let status = self.pontoon_json(&["dns", "status"])?;
        let [keeper, standby, worker] = ["pid", "standby", "worker"].map(|role| &status[role]);
        let line = format!("kill -STOP {keeper}; kill -9 {standby} {worker} {keeper}");
        let mut shell = Command::new("sh");
        self.host.command(shell.args(["-c", &line])).map(drop)
    }

    /// A new container of this name on `network`.
    pub fn join_named(&self, name: &str, network: &Network) -> Outcome<(Container, Attachment)> {
        let container = Container::new(name)?;
        let mut attachment = Attachment::new(&container).named(name);
        self.runtime().add(network, &mut attachment)?;
        Ok((container, attachment))
    }
}

impl Attachment {
    /// The same of a container that its runtime calls so.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.args = format!("IgnoreUnknown=1;K8S_POD_NAME={name}");
        self
    }
}

impl Container {
    /// Runs a program inside, with the files of `/etc/netns`: what it printed.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Outcome<String> {
        for needed in ["ip", program] {
            find(needed).ok_or_else(|| missing(needed))?;
        }
        let name = self
            .path()
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let output = Command::new("ip")
            .args(["netns", "exec", name, program])
            .args(arguments)
            .output()
            .map_err(Failure::act(format!("run {program}")))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Asks with `dig`: the code and the data of the answers, sorted.
    pub fn dig(&self, arguments: &[&str]) -> Outcome<String> {
        let mut all = vec!["+tries=2", "+time=6", "+noall", "+comments", "+answer"];
        all.extend_from_slice(arguments);
        let text = self.output("dig", &all)?;
        let status = text
            .split("status: ")
            .nth(1)
            .and_then(|rest| rest.split(',').next())
            .unwrap_or("no reply");
        let mut answers: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with(';'))
            .filter_map(|line| line.split_whitespace().nth(4))
            .collect();
        answers.sort_unstable();
        Ok(format!("{status} {}", answers.join(" ")).trim().to_owned())
    }
}

/// Fails unless both are the same.
pub fn same(what: &str, found: &str, expected: &str) -> Outcome {
    if found == expected {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "{what}: {found:?} instead of {expected:?}"
        )))
    }
}
