//! The admin's command on a host.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use serde_json::Value;

use super::failure::{Failure, Outcome};
use super::outcome::Finished;
use super::site::Site;

impl Site {
    /// The PATH of an administrator: this command, the programs of the site's backend first, and all
    /// of the machine's.
    #[must_use]
    pub fn admins_path(&self) -> OsString {
        let runtime = self.runtime();
        let mut path = runtime.programs().dir().as_os_str().to_owned();
        for part in [runtime.path(), OsStr::new("/usr/sbin:/usr/bin:/sbin:/bin")] {
            path.push(":");
            path.push(part);
        }
        path
    }

    /// Runs `pontoon` on the host, with standard output to no terminal.
    pub fn pontoon(&self, arguments: &[&str]) -> Outcome<Finished> {
        self.pontoon_reads(arguments, "")
    }

    /// As [`Site::pontoon`], with a text on standard input.
    pub fn pontoon_reads(&self, arguments: &[&str], input: &str) -> Outcome<Finished> {
        let runtime = self.runtime();
        let mut command = Command::new(runtime.programs().program("pontoon"));
        command
            .args(arguments)
            .env("PATH", self.admins_path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let talk = || {
            let mut child = command.spawn()?;
            let stdin = child.stdin.take();
            thread::scope(|scope| {
                scope.spawn(|| stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
                child.wait_with_output()
            })
        };
        let output = self.host.run(talk)?;
        let output = output.map_err(Failure::act("run pontoon"))?;
        Ok(Finished {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// As [`Site::pontoon`], and wants it to end with this exit code; its standard output.
    pub fn pontoon_ends(&self, arguments: &[&str], status: i32) -> Outcome<String> {
        let finished = self.pontoon(arguments)?;
        if finished.status == Some(status) {
            return Ok(finished.stdout);
        }
        Err(Failure::new(format!(
            "pontoon {}: exit {:?}, not {status}\n{}{}",
            arguments.join(" "),
            finished.status,
            finished.stdout,
            finished.stderr
        )))
    }

    /// As [`Site::pontoon`] with `--json`, read.
    pub fn pontoon_json(&self, arguments: &[&str]) -> Outcome<Value> {
        let arguments = [arguments, &["--json"]].concat();
        let finished = self.pontoon(&arguments)?;
        serde_json::from_str(&finished.stdout).map_err(|error| {
            Failure::new(format!(
                "pontoon {}: {error}\n{}{}",
                arguments.join(" "),
                finished.stdout,
                finished.stderr
            ))
        })
    }
}
