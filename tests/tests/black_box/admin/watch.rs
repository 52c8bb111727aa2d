//! `pontoon watch` tells of everything that comes and goes while it runs.

use std::io::{BufRead, BufReader};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use pontoon_lab::{Attachment, Backend, Container, Failure, Outcome, Site};
use serde_json::{Value, json};

/// An event is told within a second on a quiet machine.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn what_comes_and_goes_is_told() -> Outcome {
    for backend in Backend::ALL {
        let site = Site::new(backend)?;
        let network = site.network("shop", "shop0", &["10.84.0.0/24"]);
        let runtime = site.runtime();
        let mut command = Command::new(runtime.programs().program("pontoon"));
        command
            .args(["watch", "--json", "--seconds", "60"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = site.host.run(|| command.spawn())?;
        let mut child = child.map_err(Failure::act("start pontoon watch"))?;
        let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(Failure::new("no streams"));
        };
        // It says when it has begun.
        let mut line = String::new();
        let read = BufReader::new(err).read_line(&mut line);
        read.map_err(Failure::act("read what pontoon watch says"))?;
        let events = events(out);
        let play = || -> Outcome {
            let web = Container::new("web")?;
            let mut one = Attachment::new(&web).publish("", 8080, 80, "tcp");
            one.args = "K8S_POD_NAME=front".to_owned();
            runtime.add(&network, &mut one)?;
            let mut told = expect(&events, "attached", &one)?;
            // A slow machine may look between the plugins of the chain.
            while told["ports"] == json!([]) {
                told = expect(&events, "ports", &one)?;
            }
            if told["names"] != json!(["front"])
                || told["addresses"] != json!(["10.84.0.2/24"])
                || told["ports"] != json!(["8080->80/tcp"])
            {
                return Err(Failure::new(format!("not what web has: {told}")));
            }
            let db = Container::new("db")?;
            let mut two = Attachment::new(&db);
            runtime.add(&network, &mut two)?;
            expect(&events, "attached", &two)?;
            // Neither `ports` nor `lost`: a DEL withdraws ports and interface, and is one event.
            runtime.del(&network, &one)?;
            expect(&events, "detached", &one)?;
            // Killed: its DEL comes later.
            drop(db);
            expect(&events, "lost", &two)?;
            runtime.del(&network, &two)?;
            expect(&events, "detached", &two).map(drop)
        };
        let played = play();
        let _ = child.kill();
        let _ = child.wait();
        played.map_err(|failure| Failure::new(format!("{backend}: {failure}")))?;
    }
    Ok(())
}

/// The events as they are printed, from a thread of their own.
fn events(out: ChildStdout) -> Receiver<Value> {
    let (tell, told) = channel();
    thread::spawn(move || {
        for line in BufReader::new(out).lines() {
            let event = line.ok().and_then(|line| serde_json::from_str(&line).ok());
            if event.is_none_or(|event| tell.send(event).is_err()) {
                return;
            }
        }
    });
    told
}

/// The next event, which must be this one.
fn expect(events: &Receiver<Value>, what: &str, one: &Attachment) -> Outcome<Value> {
    let event = events
        .recv_timeout(PATIENCE)
        .map_err(Failure::act(format!("wait for {what}")))?;
    match event["what"] == what && event["id"] == json!(one.container_id) {
        true => Ok(event),
        false => Err(Failure::new(format!(
            "not {what} of {} but {event}",
            one.container_id
        ))),
    }
}
