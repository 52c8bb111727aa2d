//! A host with a network and two containers, and what an administrator does with `pontoon doctor` on it.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command};

use pontoon_lab::{Attachment, Backend, Container, Failure, Network, Outcome, Scratch, Site};
use serde_json::Value;

/// A host with a network, and two containers on it.
pub(crate) struct DoctorScene {
    pub(crate) site: Site,
    pub(crate) conf: Scratch,
    pub(crate) network: Network,
    pub(crate) containers: Vec<(Container, Attachment)>,
    pub(crate) plugins: String,
    pub(crate) processes: Vec<Child>,
}

impl DoctorScene {
    pub(crate) fn new(backend: Backend) -> Outcome<Self> {
        Self::with(backend, &["10.82.0.0/24", "fd00:82::/64"], 2)
    }

    pub(crate) fn with(backend: Backend, subnets: &[&str], count: u16) -> Outcome<Self> {
        let site = Site::new(backend)?;
        let network = site.network("ward", "ward0", subnets);
        let conf = Scratch::new("conf")?;
        let file = conf.path().join("10-ward.conflist");
        fs::write(file, network.list().to_string()).map_err(Failure::act("write the conflist"))?;
        let mut containers = Vec::new();
        for number in 0..count {
            let container = Container::new("patient")?;
            let mut attachment = Attachment::new(&container).publish("", 8080 + number, 80, "tcp");
            site.runtime().add(&network, &mut attachment)?;
            containers.push((container, attachment));
        }
        let plugins = site.runtime().programs().dir().display().to_string();
        Ok(Self {
            site,
            conf,
            network,
            containers,
            plugins,
            processes: Vec::new(),
        })
    }

    /// Runs a command line on the host as an administrator would.
    pub(crate) fn shell(&self, line: &str) -> Outcome {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", line])
            .env("PATH", self.site.admins_path());
        self.site.host.command(&mut command).map(drop)
    }

    /// The findings: kinds and commands.
    pub(crate) fn examine(&self, arguments: &[&str]) -> Outcome<Vec<(String, String, bool)>> {
        let conf = self.conf.path().display().to_string();
        let places = ["--conf-dir", &conf, "--bin-dir", &self.plugins];
        let report = self
            .site
            .pontoon_json(&[&["doctor"], arguments, &places].concat())?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let findings = report["findings"].as_array().into_iter().flatten();
        let mut found = Vec::new();
        for finding in findings {
            let said = ["object", "meaning", "evidence"];
            let silent = said.iter().any(|key| text(&finding[key]).is_empty());
            // Where a command would take something from others, there is advice in its place.
            let next = text(&finding["mend"]) + &text(&finding["advice"]);
            if silent || next.is_empty() {
                return Err(Failure::new(format!("says too little: {finding}")));
            }
            found.push((
                text(&finding["id"]),
                text(&finding["mend"]),
                finding["safe"] == true,
            ));
        }
        Ok(found)
    }

    /// Wants these kinds of findings, runs what is printed, and wants none.
    pub(crate) fn cure(&self, expected: &[&str]) -> Outcome {
        let found = self.examine(&[])?;
        let kinds: BTreeSet<&str> = found.iter().map(|(id, ..)| id.as_str()).collect();
        if kinds != expected.iter().copied().collect() {
            return Err(Failure::new(format!("found {found:?}, not {expected:?}")));
        }
        // Mending one may show another: a bridge that was down has lost its IPv6 addresses.
        for _ in 0..3 {
            let remedy = |(id, mend, _): (String, String, bool)| {
                let followed = ADVISED.iter().find(|(advised, _)| *advised == id);
                let conf = self.conf.path().display().to_string();
                followed.map_or(mend, |(_, command)| command.replace("$CONF", &conf))
            };
            let mut commands: Vec<String> = self.examine(&[])?.into_iter().map(remedy).collect();
            commands.dedup();
            for command in commands {
                self.shell(&command)?;
            }
            if self.examine(&[])?.is_empty() {
                return Ok(());
            }
        }
        Err(Failure::new(format!(
            "still ill after the cure: {:?}",
            self.examine(&[])?
        )))
    }
}

impl Drop for DoctorScene {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// What an administrator does who follows the advice of findings that name no command, or in whose
/// place no command is enough.
const ADVISED: [(&str, &str); 4] = [
    (
        "subnet-overlaps-route",
        "ip route del 10.82.0.128/25 dev eth0",
    ),
    ("iptables-variants-mixed", "iptables-legacy -F"),
    (
        "no-default-route",
        "ip link set dev eth0 up && ip route replace default via 198.18.7.2 dev eth0",
    ),
    ("plugin-missing", "rm $CONF/20-typo.conflist"),
];
