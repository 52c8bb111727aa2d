//! DEL with less than ADD had: no namespace, no previous result, another backend, and for an
//! attachment that never was.

use pontoon_lab::{Attachment, Backend, Container, Failure, Network, Outcome, Site};
use serde_json::{Value, json};

/// ADD, then DEL twice of what `spoil` made of the runtime's memory; nothing may be left.
fn check(what: &str, spoil: impl Fn(&mut Network, &mut Attachment, &Site)) -> Outcome {
    for backend in Backend::ALL {
        let site = Site::new(backend)?;
        let before = site.snapshot()?;
        let mut network = site.network("late", "late0", &["10.74.0.0/24", "fd00:74::/64"]);
        let container = Container::new("late")?;
        let mut attachment = Attachment::new(&container)
            .publish("", 8080, 80, "tcp")
            .publish("", 8080, 80, "udp");
        site.runtime().add(&network, &mut attachment)?;
        spoil(&mut network, &mut attachment, &site);
        let after = format!("DEL {what} ({backend})");
        for _ in 0..2 {
            site.runtime()
                .del(&network, &attachment)
                .map_err(|error| Failure::new(format!("{after}: {error}")))?;
        }
        site.nothing_left(&before, &[&network], &after)?;
    }
    Ok(())
}

#[test]
fn without_a_namespace() -> Outcome {
    check("with an empty namespace path", |_, attachment, _| {
        attachment.netns.clear()
    })
}

#[test]
fn without_a_previous_result() -> Outcome {
    check("without a previous result", |_, attachment, _| {
        attachment.result = None
    })
}

#[test]
fn without_either() -> Outcome {
    check("with neither namespace nor result", |_, attachment, _| {
        attachment.netns.clear();
        attachment.result = None;
    })
}

#[test]
fn without_capability_arguments() -> Outcome {
    check("without the published ports", |_, attachment, _| {
        attachment.capabilities.clear()
    })
}

#[test]
fn with_a_path_that_is_no_namespace_any_more() -> Outcome {
    check("with a plain file for a namespace", |_, attachment, _| {
        attachment.netns = "/proc/version".to_owned()
    })
}

/// The backend of ADD is found again, whatever the configuration says by now.
#[test]
fn with_another_backend_in_the_configuration() -> Outcome {
    check("with the other backend", |network, _, site| {
        let other = if site.backend == Backend::Nftables {
            "iptables"
        } else {
            "nftables"
        };
        let changed = network
            .clone()
            .with("bridge", "ipMasqBackend", json!(other));
        *network = changed.with("portmap", "backend", json!(other));
    })
}

#[test]
fn of_what_never_was() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let before = site.snapshot()?;
    let network = site.network("late", "late0", &["10.74.0.0/24"]);
    let container = Container::new("never")?;
    let mut attachment = Attachment::new(&container).publish("", 8080, 80, "tcp");
    site.runtime().del(&network, &attachment)?;
    attachment.netns.clear();
    site.runtime().del(&network, &attachment)?;
    before.same_as(&site.snapshot()?, "DEL of nothing")
}

/// Two attachments of one container to one network: the DEL of one leaves the other.
#[test]
fn of_one_of_two() -> Outcome {
    for backend in Backend::ALL {
        let site = Site::new(backend)?;
        let network = site.network("late", "late0", &["10.74.0.0/24", "fd00:74::/64"]);
        let container = Container::new("twin")?;
        let mut first = Attachment::new(&container).publish("", 8081, 80, "tcp");
        site.runtime().add(&network, &mut first)?;
        let before = site.snapshot()?;
        let mut second = Attachment {
            ifname: "eth1".to_owned(),
            ..Attachment::new(&container)
        }
        .publish("", 8080, 80, "tcp");
        site.runtime().add(&network, &mut second)?;
        second.result = None;
        site.runtime().del(&network, &second)?;
        before.same_as(&site.snapshot()?, "DEL of the second interface")?;
        site.runtime().check(&network, &first)?;
    }
    Ok(())
}

/// CHECK finds an address that was removed.
#[test]
fn check_finds_a_missing_address() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = site.network("late", "late0", &["10.74.0.0/24"]);
    let (_container, attachment) = site.join("checked", &network)?;
    let mut other = attachment.clone();
    if let Some(result) = &mut other.result {
        result["ips"][0]["address"] = Value::from("10.74.0.99/24");
    }
    let error = site
        .runtime()
        .check(&network, &other)
        .err()
        .ok_or_else(|| Failure::new("CHECK succeeded"))?;
    if error.text().contains("10.74.0.99") {
        Ok(())
    } else {
        Err(Failure::new(format!("not named: {error}")))
    }
}
