//! `pontoon watch` tells of everything that comes and goes while it runs.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use pontoon_lab::{Attachment, Backend, Container, Failure, Outcome, Site};
use serde_json::{Value, json};

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
        let play = || -> Outcome<[String; 2]> {
            let web = Container::new("web")?;
            let mut one = Attachment::new(&web).publish("", 8080, 80, "tcp");
            one.args = "K8S_POD_NAME=front".to_owned();
            runtime.add(&network, &mut one)?;
            pause();
            let db = Container::new("db")?;
            let mut two = Attachment::new(&db);
            runtime.add(&network, &mut two)?;
            pause();
            runtime.del(&network, &one)?;
            pause();
            // Killed: its DEL comes later.
            drop(db);
            pause();
            runtime.del(&network, &two)?;
            Ok([one.container_id, two.container_id])
        };
        let played = play();
        let mut lines = BufReader::new(out).lines();
        let mut told: Vec<Value> = Vec::new();
        while told.len() < 5
            && let Some(Ok(line)) = lines.next()
        {
            told.push(serde_json::from_str(&line).map_err(Failure::act("read an event"))?);
        }
        let _ = child.kill();
        let _ = child.wait();
        let [web, db] = played?;
        let expected = [
            ("attached", &web),
            ("attached", &db),
            ("detached", &web),
            ("lost", &db),
            ("detached", &db),
        ];
        let found: Vec<_> = told
            .iter()
            .map(|event| (event["what"].as_str().unwrap_or_default(), &event["id"]))
            .collect();
        let same = expected.len() == found.len()
            && expected
                .iter()
                .zip(&found)
                .all(|(a, b)| a.0 == b.0 && *b.1 == **a.1);
        let first = &told[0];
        let whole = first["names"] == json!(["front"])
            && first["addresses"] == json!(["10.84.0.2/24"])
            && first["ports"] == json!(["8080->80/tcp"]);
        if !same || !whole {
            return Err(Failure::new(format!("{backend}: {told:?}")));
        }
    }
    Ok(())
}

/// Longer than what is told as one.
fn pause() {
    thread::sleep(Duration::from_millis(400));
}
