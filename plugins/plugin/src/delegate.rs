//! Running another plugin by the rules of the specification ("Section 4: Plugin delegation").

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use pontoon_conf::{AddResult, Error, Invocation, NetworkConfig, PluginType, Verb};
use pontoon_netlink::run_program;

use crate::error::DelegateError;

/// Runs the plugin `kind` from `CNI_PATH` with the caller's own environment and standard input,
/// under another verb if need be.
///
/// # Errors
/// The delegate's own error object; code 7 when there is no such plugin; code 106 when it cannot
/// be run or does not answer as the specification says.
pub fn run(
    kind: &PluginType,
    verb: Verb,
    invocation: &Invocation,
    config: &NetworkConfig,
) -> Result<Option<AddResult>, Error> {
    let program = find(kind, invocation)?;
    // The one command that a plugin runs: the specification wants the same environment, so it is
    // inherited, and only the verb may differ (DEL after a failed ADD).
    #[allow(clippy::disallowed_methods)]
    let mut command = Command::new(&program);
    command
        .env("CNI_COMMAND", verb.as_str())
        .stderr(Stdio::inherit());
    // A delegate that never reads its input may still answer; its exit code decides.
    let output =
        run_program(&mut command, config.bytes()).map_err(|source| DelegateError::Run {
            program: program.clone(),
            source,
        })?;
    if !output.status.success() {
        return Err(error_object(&output.stdout).unwrap_or_else(|| {
            DelegateError::NoErrorObject {
                program,
                status: output.status,
                output: String::from_utf8_lossy(&output.stdout).into_owned(),
            }
            .into()
        }));
    }
    if verb != Verb::Add {
        return Ok(None);
    }
    let value = serde_json::from_slice(&output.stdout)
        .map_err(|source| DelegateError::NoResult { program, source })?;
    AddResult::parse(&value, config.version).map(Some)
}

/// The error object that a failing plugin prints. It is passed on: only that plugin knows the cause.
fn error_object(output: &[u8]) -> Option<Error> {
    #[derive(serde::Deserialize)]
    struct Object {
        code: u32,
        msg: String,
        #[serde(default)]
        details: String,
    }
    let object: Object = serde_json::from_slice(output).ok()?;
    Some(Error::of_delegate(object.code, object.msg, object.details))
}

fn find(kind: &PluginType, invocation: &Invocation) -> Result<PathBuf, DelegateError> {
    for dir in &invocation.path {
        let candidate = dir.join(kind.as_ref());
        let runnable = std::fs::metadata(&candidate)
            .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0);
        if runnable {
            return Ok(candidate);
        }
    }
    let searched: Vec<_> = invocation
        .path
        .iter()
        .map(|dir| dir.display().to_string())
        .collect();
    Err(DelegateError::NotFound {
        kind: kind.clone(),
        searched: searched.join(":"),
    })
}
