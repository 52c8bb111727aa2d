//! `pontoon dns`: what the embedded resolver knows, what it would answer to whom, and how it does.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use pontoon_dns::start;
use pontoon_ledger::State;
use serde_json::Value;

use crate::report::{Failure, Outcome, write};

/// For how long an answer is waited for: a question to other servers may take four seconds.
const PATIENCE: Duration = Duration::from_secs(6);

#[derive(Subcommand)]
pub(crate) enum Dns {
    /// List names, addresses, networks and their containers
    Ls {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Ask as a container would be answered, and say why
    Query {
        /// The name
        name: String,
        /// The record type
        #[arg(default_value = "A")]
        kind: String,
        /// A container by id, beginning of its id, name or address; without it the host asks
        #[arg(long = "as")]
        querier: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Start the resolver where containers have names and it does not run
    Start,
    /// Say how the resolver does: queries, cache, servers
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Print Prometheus's text format
        #[arg(long, conflicts_with = "json")]
        metrics: bool,
    },
}

pub(crate) fn run(command: &Dns) -> Outcome {
    let state = State::locate()?;
    let socket = state.resolver_socket();
    let (text, good) = match command {
        Dns::Start => {
            let done = match kept_privileges(&state) {
                Ok(_) => "it runs already".to_owned(),
                Err(_) => begin(&state)?,
            };
            (done, true)
        }
        Dns::Ls { json } => {
            let value = object(&ask(&socket, "ls")?)?;
            (if *json { pretty(&value) } else { list(&value) }, true)
        }
        Dns::Query {
            name,
            kind,
            querier,
            json,
        } => {
            let words = [Some(name), Some(kind), querier.as_ref()];
            if words
                .iter()
                .flatten()
                .any(|word| word.is_empty() || word.contains(char::is_whitespace))
            {
                return Err(Failure::Failed("a name has no white space".to_owned()));
            }
            let querier = querier.as_deref().unwrap_or_default();
            let value = object(&ask(&socket, &format!("query {name} {kind} {querier}"))?)?;
            if let Some(error) = value["error"].as_str() {
                return Err(match error.starts_with("there is no container") {
                    true => Failure::NotFound(error.to_owned()),
                    false => Failure::Failed(error.to_owned()),
                });
            }
            let good = value["reply"]["code"] == "NOERROR";
            (if *json { pretty(&value) } else { reply(&value) }, good)
        }
        Dns::Status { metrics: true, .. } => (ask(&socket, "metrics")?, true),
        Dns::Status { json, .. } => {
            let value = object(&ask(&socket, "status")?)?;
            (
                if *json {
                    pretty(&value)
                } else {
                    status(&value)
                },
                true,
            )
        }
    };
    write(&format!("{}\n", text.trim_end()))?;
    Ok(good)
}

/// Which privileges the resolver could not give up, in words; when it does not answer, why not.
pub(crate) fn kept_privileges(state: &State) -> Result<Vec<String>, String> {
    match ask(&state.resolver_socket(), "status") {
        Ok(answer) => {
            let status: Value = serde_json::from_str(&answer).unwrap_or_default();
            let kept = status["privileges"]["missing"]
                .as_array()
                .into_iter()
                .flatten();
            Ok(kept.map(|one| text(one).to_owned()).collect())
        }
        Err(Failure::Failed(text) | Failure::NotFound(text)) => {
            Err(text.lines().next().unwrap_or_default().to_owned())
        }
    }
}

/// Starts the program as the plugin does, and waits until it listens.
#[allow(
    clippy::disallowed_methods,
    reason = "a plugin is found as a runtime finds it"
)]
fn begin(state: &State) -> Result<String, Failure> {
    let own = std::env::current_exe().ok();
    let beside = own.as_deref().and_then(Path::parent).map(PathBuf::from);
    let (path, cni) = (std::env::var_os("PATH"), std::env::var_os("CNI_PATH"));
    let listed = [cni, path].into_iter().flatten();
    let mut dirs: Vec<PathBuf> = beside.into_iter().collect();
    dirs.extend(listed.flat_map(|list| std::env::split_paths(&list).collect::<Vec<_>>()));
    dirs.push("/opt/cni/bin".into());
    let program = start::find(&dirs).ok_or_else(|| {
        Failure::Failed(
            "pontoon-dns is not installed\nhint: put it where the plugins are, and that folder into CNI_PATH"
                .to_owned(),
        )
    })?;
    start::start(&program, state.dir())
        .map(|port| format!("started, port {port}"))
        .map_err(|text| Failure::Failed(format!("cannot start {}: {text}", program.display())))
}

fn ask(socket: &Path, question: &str) -> Result<String, Failure> {
    let talk = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{question}\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    talk().map_err(|error| {
        Failure::Failed(format!(
            "no resolver answers at {}: {error}\nhint: it runs while a container has names",
            socket.display()
        ))
    })
}

fn object(text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text)
        .map_err(|_| Failure::Failed(format!("the resolver says {:?}", text.trim())))
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn words(value: &Value) -> String {
    let list = value.as_array().into_iter().flatten();
    let texts: Vec<&str> = list.filter_map(Value::as_str).collect();
    texts.join(" ")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(all: &Value) -> String {
    let mut rows: Vec<[String; 4]> = all
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| {
            let container: String = text(&one["container"]).chars().take(12).collect();
            let links = one["links"].as_array().into_iter().flatten();
            let links: Vec<String> = links
                .map(|link| format!("{}->{}", text(&link["alias"]), text(&link["target"])))
                .collect();
            [
                format!("{}.{}", text(&one["network"]), text(&one["domain"])),
                format!("{container}:{}", text(&one["interface"])),
                words(&one["addresses"]),
                format!("{} {}", words(&one["names"]), links.join(" "))
                    .trim()
                    .to_owned(),
            ]
        })
        .collect();
    rows.sort();
    rows.insert(
        0,
        ["NETWORK", "CONTAINER", "ADDRESSES", "NAMES"].map(str::to_owned),
    );
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let lines: Vec<String> = rows
        .iter()
        .map(|[network, container, addresses, names]| {
            format!(
                "{network:a$}  {container:b$}  {addresses:c$}  {names}",
                a = widths[0],
                b = widths[1],
                c = widths[2]
            )
        })
        .collect();
    lines.join("\n")
}

fn reply(value: &Value) -> String {
    let mut lines = vec![
        format!(
            "asked as {} ({})",
            text(&value["as"]),
            text(&value["source"])
        ),
        format!("{}: {}", text(&value["reply"]["code"]), text(&value["why"])),
    ];
    for (key, what) in [("networks", "networks"), ("servers", "servers")] {
        let list = words(&value[key]);
        if !list.is_empty() {
            lines.push(format!("{what}: {list}"));
        }
    }
    let answers = value["reply"]["answers"].as_array().into_iter().flatten();
    lines.extend(answers.map(|answer| format!("  {}", text(answer))));
    lines.join("\n")
}

/// The processes beside the first one, and what the one that answers questions may do.
fn privileges(value: &Value) -> String {
    let held = &value["privileges"];
    let capabilities = text(&held["capabilities"]);
    let capabilities = match capabilities.trim_start_matches('0') {
        "" => "no capability".to_owned(),
        some => format!("capabilities {some}"),
    };
    let calls = match text(&held["seccomp"]) {
        "filter" => "system calls filtered",
        _ => "all system calls",
    };
    let mut line = format!("privileges: user {}, {capabilities}, {calls}", held["user"]);
    for missing in held["missing"].as_array().into_iter().flatten() {
        line.push_str(&format!("\nwarning: {}", text(missing)));
    }
    line
}

fn status(value: &Value) -> String {
    let mut lines = vec![
        format!("process {}, port {}", value["pid"], value["port"]),
        privileges(value),
        format!("listening at {}", words(&value["listening"])),
    ];
    for (network, zone) in value["zones"].as_object().into_iter().flatten() {
        let containers = match zone["containers"].as_u64().unwrap_or_default() {
            1 => "1 container".to_owned(),
            number => format!("{number} containers"),
        };
        let hash = text(&zone["hash"]);
        lines.push(format!("network {network}: {containers}, hash {hash}"));
    }
    for (name, number) in value["numbers"].as_object().into_iter().flatten() {
        lines.push(format!("{:22} {number}", name.replace('_', " ")));
    }
    for server in value["servers"].as_array().into_iter().flatten() {
        let late = match (server["triedLast"] == true, server["reason"].as_str()) {
            (true, Some(reason)) => format!(", {reason}: tried last"),
            (true, None) => ", silent a moment ago: tried last".to_owned(),
            (false, _) => String::new(),
        };
        lines.push(format!(
            "server {}: asked {}, failed {}, last reply {} µs{late}",
            text(&server["server"]),
            server["asked"],
            server["failed"],
            server["lastMicroseconds"]
        ));
    }
    for answer in value["answers"].as_array().into_iter().flatten() {
        lines.push(format!(
            "{}: {} answers, nine in ten within {}",
            text(&answer["outcome"]),
            answer["count"],
            text(&answer["nineInTenWithin"])
        ));
    }
    for failure in value["failures"].as_array().into_iter().flatten() {
        lines.push(format!(
            "failed {} s ago: {} {} for {}: {}",
            failure["secondsAgo"],
            text(&failure["name"]),
            text(&failure["type"]),
            text(&failure["source"]),
            text(&failure["reason"])
        ));
    }
    let warnings = value["warnings"].as_array().into_iter().flatten();
    lines.extend(warnings.map(|warning| format!("warning: {}", text(warning))));
    lines.join("\n")
}
