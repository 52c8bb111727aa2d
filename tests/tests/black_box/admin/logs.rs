//! One line for each operation, where the log is switched on: in a file or in the journal.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use pontoon_lab::{Attachment, Backend, Container, Failure, Outcome, Screen, Site};
use serde_json::json;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn holds(line: &str, words: &[&str]) -> Outcome {
    match words.iter().find(|word| !line.contains(**word)) {
        None => Ok(()),
        Some(word) => Err(Failure::new(format!("no {word} in {line:?}"))),
    }
}

#[test]
fn a_line_for_each_operation_in_a_file() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = site.network("lan", "lan0", &["10.79.0.0/24"]);
    let container = Container::new("web")?;
    let mut attachment = Attachment::new(&container).publish("", 8080, 80, "tcp");
    let file = site.leases.path().join("log");
    // The log is off.
    site.runtime().add(&network, &mut attachment)?;
    site.runtime().del(&network, &attachment)?;
    assert!(!file.exists());
    let path = file.display().to_string();
    let runtime = site
        .runtime()
        .with_env("PONTOON_LOG", &path)
        .with_env("TRACEPARENT", &format!("00-{TRACE}-00f067aa0ba902b7-01"));
    runtime.add(&network, &mut attachment)?;
    runtime.check(&network, &attachment)?;
    // An ADD that fails, because another container publishes the port.
    let other = Container::new("other")?;
    let mut second = Attachment::new(&other).publish("", 8080, 80, "tcp");
    let refused = runtime.add(&network, &mut second);
    assert!(refused.is_err());
    runtime.del(&network, &second)?;
    runtime.del(&network, &attachment)?;
    runtime.gc(&network, &[])?;
    let text = fs::read_to_string(&file).map_err(Failure::act("read the log"))?;
    let lines: Vec<&str> = text.lines().collect();
    // Two plugins: ADD, CHECK, ADD that fails in the second, DEL twice, GC.
    assert_eq!(lines.len(), 12, "{text}");
    let about = format!(
        "network=lan container={} interface=eth0 trace={TRACE}",
        container.id
    );
    holds(
        lines[0],
        &["Z bridge ADD ok in ", " ms ", &about, "address=10.79.0."],
    )?;
    holds(lines[1], &["portmap ADD ok", &about])?;
    holds(lines[2], &["bridge CHECK ok", &about])?;
    holds(
        lines[5],
        &[
            "portmap ADD failed",
            "code=",
            "error=\"",
            "8080/tcp is already published",
        ],
    )?;
    holds(lines[10], &["bridge GC ok", "network=lan trace="])?;
    // The key of the configuration counts before the environment.
    let own = site.leases.path().join("own");
    let named = network.with("bridge", "log", json!(own));
    let mut third = Attachment::new(&other);
    runtime.add(&named, &mut third)?;
    runtime.del(&named, &third)?;
    let text = fs::read_to_string(&own).map_err(Failure::act("read the log"))?;
    assert_eq!(text.lines().count(), 2, "{text}");
    Ok(())
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = site.network("lan", "lan0", &["10.79.0.0/24"]);
    for wrong in ["/nowhere/at/all", "stdout", "relative"] {
        let runtime = site.runtime().with_env("PONTOON_LOG", wrong);
        let container = Container::new("web")?;
        let mut attachment = Attachment::new(&container);
        runtime.add(&network, &mut attachment)?;
        runtime.del(&network, &attachment)?;
    }
    Ok(())
}

#[test]
fn fields_in_the_journal() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = site.network("lan", "lan0", &["10.79.0.0/24"]);
    // Before the screen, behind which no later mount is seen.
    let container = Container::new("web")?;
    let mut attachment = Attachment::new(&container);
    let screen = Screen::new(&["/run/systemd/journal"])?;
    let socket = screen.at("/run/systemd/journal").join("socket");
    let journal = UnixDatagram::bind(socket).map_err(Failure::act("play the journal"))?;
    journal
        .set_read_timeout(Some(Duration::from_secs(5)))
        .map_err(Failure::act("play the journal"))?;
    let runtime = site.runtime().with_env("PONTOON_LOG", "journal").here();
    screen.run(&site.host, || runtime.add(&network, &mut attachment))??;
    let mut message = [0; 4096];
    let length = journal
        .recv(&mut message)
        .map_err(Failure::act("hear of the ADD"))?;
    let text = String::from_utf8_lossy(&message[..length]).into_owned();
    let container = format!("\nCNI_CONTAINER={}\n", container.id);
    let fields = [
        "MESSAGE=bridge ADD ok in ",
        "\nPRIORITY=6\n",
        "\nSYSLOG_IDENTIFIER=pontoon\n",
        "\nCNI_PLUGIN=bridge\nCNI_COMMAND=ADD\nCNI_NETWORK=lan\n",
        &container,
    ];
    holds(&text, &fields)?;
    site.runtime()
        .del(&network, &attachment)
        .map_err(Failure::from)
}
