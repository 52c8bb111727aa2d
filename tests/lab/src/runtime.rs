//! A runtime: calls plugins by environment and stdin, chains their results, and keeps the final
//! one for CHECK and DEL, as libcni does.

use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::host::Host;
use super::network::{Attachment, Network};
use super::outcome::{CniError, Finished};
use super::programs::Programs;

/// Runs chains of plugins on a host.
#[derive(Clone)]
pub struct Runtime<'h> {
    host: &'h Host,
    programs: Programs,
    path: OsString,
    /// Programs that get another PATH.
    own_paths: Vec<(String, OsString)>,
    extra: Vec<(String, String)>,
    here: bool,
    /// Nanoseconds that plugins have run for.
    spent: Arc<AtomicU64>,
}

/// One call of one plugin, every variable of it.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// The environment: CNI_ variables.
    pub environment: Vec<(String, String)>,
    /// Stdin, verbatim.
    pub stdin: String,
}

impl Call {
    /// A call with the variables that every verb has.
    #[must_use]
    pub fn new(verb: &str, cni_path: &Path, stdin: impl Into<String>) -> Self {
        Self {
            environment: Vec::new(),
            stdin: stdin.into(),
        }
        .set("CNI_COMMAND", verb)
        .set("CNI_PATH", &cni_path.display().to_string())
    }

    /// Sets a variable.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self = self.unset(name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Takes a variable away.
    #[must_use]
    pub fn unset(mut self, name: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self
    }
}

impl<'h> Runtime<'h> {
    /// A runtime on `host` whose plugins find other programs in `path` only.
    #[must_use]
    pub fn new(host: &'h Host, programs: &Programs, path: impl Into<OsString>) -> Self {
        Self {
            host,
            programs: programs.clone(),
            path: path.into(),
            own_paths: Vec::new(),
            extra: Vec::new(),
            here: false,
            spent: Arc::default(),
        }
    }

    /// The same runtime with one more variable in its plugins' environment.
    #[must_use]
    pub fn with_env(mut self, name: &str, value: &str) -> Self {
        self.extra.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same runtime with another PATH for one of its plugins.
    #[must_use]
    pub fn with_path_of(mut self, plugin: &str, path: impl Into<OsString>) -> Self {
        self.own_paths.push((plugin.to_owned(), path.into()));
        self
    }

    /// The same runtime for a thread that is already in the host's namespace, so that a call costs
    /// nothing but the plugin.
    #[must_use]
    pub fn here(mut self) -> Self {
        self.here = true;
        self
    }

    /// For how long its plugins have run, each from its start until its end has been seen. What a
    /// runtime does besides, reading and writing JSON, is not in it.
    #[must_use]
    pub fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent.load(Ordering::Relaxed))
    }

    /// The plugins it runs.
    #[must_use]
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The PATH that its plugins get.
    #[must_use]
    pub fn path(&self) -> &OsStr {
        &self.path
    }

    /// Runs the chain's ADD and keeps the final result.
    pub fn add(&self, network: &Network, attachment: &mut Attachment) -> Result<Value, CniError> {
        let mut previous: Option<Value> = None;
        for plugin in network.plugins() {
            let stdin = network.stdin(plugin, &attachment.capabilities, previous.as_ref());
            let place = place(plugin, "ADD");
            let finished = self.attached("ADD", plugin, &stdin, attachment)?;
            finished.verdict(&place)?;
            let result = serde_json::from_str(&finished.stdout).map_err(|error| {
                broken(
                    &place,
                    "a result that is no JSON",
                    format!("{error}: {:?}", finished.stdout),
                )
            })?;
            previous = Some(result);
        }
        let result =
            previous.ok_or_else(|| broken("ADD", "no plugins in the list", String::new()))?;
        attachment.result = Some(result.clone());
        Ok(result)
    }

    /// Runs the chain's CHECK.
    pub fn check(&self, network: &Network, attachment: &Attachment) -> Result<(), CniError> {
        for plugin in network.plugins() {
            self.silent("CHECK", network, plugin, attachment)?;
        }
        Ok(())
    }

    /// Runs the chain's DEL, last plugin first, and stops at the first error.
    pub fn del(&self, network: &Network, attachment: &Attachment) -> Result<(), CniError> {
        for plugin in network.plugins().iter().rev() {
            self.silent("DEL", network, plugin, attachment)?;
        }
        Ok(())
    }

    /// Runs the chain's STATUS.
    pub fn status(&self, network: &Network) -> Result<(), CniError> {
        for plugin in network.plugins() {
            let stdin = network.stdin(plugin, &serde_json::Map::new(), None);
            let call = Call::new("STATUS", self.programs.dir(), stdin.to_string());
            self.call(kind(plugin), &call)?
                .verdict(&place(plugin, "STATUS"))?;
        }
        Ok(())
    }

    /// Runs the chain's GC with the attachments that still exist.
    pub fn gc(&self, network: &Network, valid: &[&Attachment]) -> Result<(), CniError> {
        let valid: Vec<Value> = valid
            .iter()
            .map(|kept| json!({ "containerID": kept.container_id, "ifname": kept.ifname }))
            .collect();
        for plugin in network.plugins() {
            let mut stdin = network.stdin(plugin, &serde_json::Map::new(), None);
            stdin["cni.dev/valid-attachments"] = json!(valid);
            stdin["cni.dev/attachments"] = json!(valid);
            let call = Call::new("GC", self.programs.dir(), stdin.to_string());
            self.call(kind(plugin), &call)?
                .verdict(&place(plugin, "GC"))?;
        }
        Ok(())
    }

    /// The call that libcni makes for an attachment.
    #[must_use]
    pub fn attachment_call(&self, verb: &str, stdin: &Value, attachment: &Attachment) -> Call {
        Call::new(verb, self.programs.dir(), stdin.to_string())
            .set("CNI_CONTAINERID", &attachment.container_id)
            .set("CNI_NETNS", &attachment.netns)
            .set("CNI_IFNAME", &attachment.ifname)
            .set("CNI_ARGS", &attachment.args)
    }

    /// Makes one call; what it means is up to the caller.
    pub fn call(&self, program: &str, call: &Call) -> Result<Finished, CniError> {
        if self.here {
            return self.spawn(program, call);
        }
        self.host
            .run(|| self.spawn(program, call))
            .map_err(|error| broken(program, "enter the host", error.to_string()))?
    }

    fn attached(
        &self,
        verb: &str,
        plugin: &Value,
        stdin: &Value,
        attachment: &Attachment,
    ) -> Result<Finished, CniError> {
        self.call(kind(plugin), &self.attachment_call(verb, stdin, attachment))
    }

    // CHECK and DEL get the final result and say nothing.
    fn silent(
        &self,
        verb: &str,
        network: &Network,
        plugin: &Value,
        attachment: &Attachment,
    ) -> Result<(), CniError> {
        // Spec 0.4.0 brought prevResult to CHECK and DEL.
        let early = ["0.1.0", "0.2.0", "0.3.0", "0.3.1"].contains(&network.version());
        let previous = attachment.result.as_ref().filter(|_| !early);
        let stdin = network.stdin(plugin, &attachment.capabilities, previous);
        let place = place(plugin, verb);
        let finished = self.attached(verb, plugin, &stdin, attachment)?;
        finished.verdict(&place)?;
        if finished.stdout.is_empty() {
            return Ok(());
        }
        // The reference plugins print a result on CHECK and DEL in places; ours must not.
        if std::env::var_os("XTASK_PLUGINS").is_some() {
            return Ok(());
        }
        Err(broken(&place, "output where none is due", finished.stdout))
    }

    fn spawn(&self, program: &str, call: &Call) -> Result<Finished, CniError> {
        let file = self.programs.program(program);
        let failed = |error: std::io::Error| {
            broken(
                program,
                "cannot be run",
                format!("{}: {error}", file.display()),
            )
        };
        let own = self.own_paths.iter().find(|(name, _)| name == program);
        let path = own.map_or(&self.path, |(_, path)| path);
        let mut command = Command::new(&file);
        command
            .env_clear()
            .env("PATH", path)
            .envs(self.extra.iter().map(|(name, value)| (name, value)))
            .envs(call.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = command.spawn().map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(call.stdin.as_bytes()) {
                // A plugin may refuse its environment before it reads.
                Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(failed(error)),
                _ => {}
            }
        }
        let output = child.wait_with_output().map_err(failed)?;
        let took = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.spent.fetch_add(took, Ordering::Relaxed);
        Ok(Finished {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

fn kind(plugin: &Value) -> &str {
    plugin["type"].as_str().unwrap_or_default()
}

fn place(plugin: &Value, verb: &str) -> String {
    format!("{} {verb}", kind(plugin))
}

fn broken(place: &str, msg: &str, details: String) -> CniError {
    CniError {
        place: place.to_owned(),
        code: 0,
        msg: msg.to_owned(),
        details,
    }
}
