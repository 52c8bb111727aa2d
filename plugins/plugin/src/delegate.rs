//! Running another plugin by the rules of the specification ("Section 4: Plugin delegation").

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use pontoon_conf::{Attached, Error, Invocation, NetworkConfig, PluginType, Verb, code};

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
) -> Result<Option<Attached>, Error> {
    let program = find(kind, invocation)?;
    let failed = |what: &str, details: String| {
        Error::new(
            code::DELEGATE,
            format!("{what} the delegated plugin {}", program.display()),
        )
        .with_details(details)
    };
    // The one command that a plugin runs: the specification wants the same environment, so it is
    // inherited, and only the verb may differ (DEL after a failed ADD).
    #[allow(clippy::disallowed_methods)]
    let mut child = Command::new(&program)
        .env("CNI_COMMAND", verb.as_str())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| failed("cannot run", error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A delegate that never reads its input may still answer; its exit code decides.
        let _ = stdin.write_all(config.bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(|error| failed("cannot wait for", error.to_string()))?;
    if !output.status.success() {
        return Err(error_object(&output.stdout).unwrap_or_else(|| {
            failed(
                "no error object from",
                format!(
                    "{}, output: {}",
                    output.status,
                    String::from_utf8_lossy(&output.stdout)
                ),
            )
        }));
    }
    if verb != Verb::Add {
        return Ok(None);
    }
    let value = serde_json::from_slice(&output.stdout)
        .map_err(|error| failed("no result from", error.to_string()))?;
    Attached::parse(&value, config.version).map(Some)
}

/// The error object that a failing plugin prints.
fn error_object(output: &[u8]) -> Option<Error> {
    #[derive(serde::Deserialize)]
    struct Object {
        code: u32,
        msg: String,
        #[serde(default)]
        details: String,
    }
    let object: Object = serde_json::from_slice(output).ok()?;
    Some(Error::new(object.code, object.msg).with_details(object.details))
}

fn find(kind: &PluginType, invocation: &Invocation) -> Result<PathBuf, Error> {
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
    Err(Error::new(
        code::INVALID_CONFIG,
        format!("failed to find plugin \"{kind}\" in CNI_PATH"),
    )
    .with_details(format!("searched {}", searched.join(":"))))
}
