//! The control socket: one line in, one answer out, then the end.
//!
//! ```text
//! status     JSON   see `Status`
//! check      JSON   see `Check`: asks etcd's members
//! metrics    text   Prometheus's format; also as HTTP's `GET /metrics`
//! ```

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream as Blocking;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use pontoon_ledger::{State, directory};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

use crate::check;
use crate::shared::Shared;
use crate::status::Status;

/// Longest command, in bytes.
const LONGEST: usize = 4096;
/// For how long a command may take to be read, or its answer to be taken.
const IDLE: Duration = Duration::from_secs(5);
/// For how long no command is accepted when there is no descriptor for one.
const PAUSE: Duration = Duration::from_millis(100);

/// Where the socket is.
pub(crate) fn path(state: &State) -> PathBuf {
    state.node_socket()
}

/// Listens. One agent serves a state directory: another one that answers is an error.
///
/// # Errors
/// With what could not be done.
pub(crate) fn listen(state: &State) -> Result<UnixListener, String> {
    let path = path(state);
    if Blocking::connect(&path).is_ok() {
        let path = path.display();
        return Err(format!(
            "another pontoon-node answers at {path}: end it first"
        ));
    }
    let bind = || -> io::Result<UnixListener> {
        directory::make(path.parent().unwrap_or(Path::new("/")))?;
        // Left by one that was killed.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        UnixListener::bind(&path)
    };
    bind().map_err(|error| format!("cannot listen at {}: {error}", path.display()))
}

/// Takes commands, for ever.
pub(crate) async fn serve(shared: Rc<Shared>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::task::spawn_local(converse(Rc::clone(&shared), stream));
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// One command and its answer; nothing when the caller has gone.
async fn converse(shared: Rc<Shared>, mut stream: UnixStream) {
    let Ok(Some(line)) = timeout(IDLE, read_line(&mut stream)).await else {
        return;
    };
    let status = || Status::of(&shared);
    let answer = match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["status"] => serde_json::to_string(&status()).unwrap_or_default(),
        ["check"] => serde_json::to_string(&check::of(&shared).await).unwrap_or_default(),
        ["metrics"] => status().metrics(),
        ["GET", "/metrics", ..] => {
            let text = status().metrics();
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            format!(
                "HTTP/1.0 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            )
        }
        _ => "error unknown command: status, check and metrics are known\n".to_owned(),
    };
    // A caller that does not take its answer has gone.
    let _ = timeout(IDLE, stream.write_all(answer.as_bytes())).await;
}

async fn read_line(stream: &mut UnixStream) -> Option<String> {
    let mut input = Vec::new();
    loop {
        if let Some(end) = input.iter().position(|byte| *byte == b'\n') {
            return Some(String::from_utf8_lossy(&input[..end]).into_owned());
        }
        if input.len() > LONGEST || stream.read_buf(&mut input).await.ok()? == 0 {
            return None;
        }
    }
}

/// Asks the agent that runs.
///
/// # Errors
/// When none answers.
pub(crate) fn ask(state: &State, command: &str) -> Result<String, String> {
    let path = path(state);
    let ask = || -> io::Result<String> {
        let mut stream = Blocking::connect(&path)?;
        stream.set_read_timeout(Some(IDLE))?;
        stream.write_all(format!("{command}\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().map_err(|error| {
        format!(
            "no pontoon-node answers at {}: {error}; start it with `systemctl start pontoon-node`",
            path.display()
        )
    })
}
