//! What `dns` says of what it is given, and names that always mean the machine itself.

use std::fs;

use pontoon_lab::{Attachment, Backend, Container, Failure, Network, Outcome, Site, same};
use serde_json::{Value, json};

/// Makes an attachment, and returns what the plugins said on standard error.
fn attach(site: &Site, network: &Network, attachment: &mut Attachment) -> Outcome<String> {
    let runtime = site.runtime();
    let mut said = String::new();
    let mut previous: Option<Value> = None;
    for plugin in network.plugins() {
        let stdin = network.stdin(plugin, &attachment.capabilities, previous.as_ref());
        let kind = plugin["type"].as_str().unwrap_or_default();
        let call = runtime.attachment_call("ADD", &stdin, attachment);
        let finished = runtime.call(kind, &call)?;
        said.push_str(&finished.stderr);
        finished.verdict(kind)?;
        previous = serde_json::from_str(&finished.stdout).ok();
    }
    attachment.result = previous;
    Ok(said)
}

fn expect(words: &str, wanted: &str) -> Outcome {
    match words.contains(wanted) {
        true => Ok(()),
        false => Err(Failure::new(format!("{wanted:?} is not in {words:?}"))),
    }
}

#[test]
fn a_missing_resolv_conf_earns_a_warning() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = site.named_network("words", 88, json!({}));
    let (one, two) = (Container::new("one")?, Container::new("two")?);
    let mut first = Attachment::new(&one);
    let words = attach(&site, &network, &mut first)?;
    let path = site.leases.path().join("resolv.conf");
    expect(
        &words,
        &format!("dns: warning: resolvConf {} cannot be read", path.display()),
    )?;
    fs::write(&path, "nameserver 198.18.7.2\n").map_err(Failure::act("write resolv.conf"))?;
    let mut second = Attachment::new(&two);
    let words = attach(&site, &network, &mut second)?;
    same("with a file", &words, "")?;
    site.runtime().del(&network, &second)?;
    fs::write(&path, "# empty\n").map_err(Failure::act("write resolv.conf"))?;
    let words = attach(&site, &network, &mut second)?;
    expect(&words, "names no server that can be asked")?;
    for attachment in [&first, &second] {
        site.runtime().del(&network, attachment)?;
    }
    Ok(())
}

#[test]
fn localhost_is_answered_and_is_no_name_of_a_container() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let path = site.leases.path().join("resolv.conf");
    // Would be silent for four seconds, were it asked.
    fs::write(&path, "nameserver 198.18.7.99\n").map_err(Failure::act("write resolv.conf"))?;
    let network = site.named_network("words", 88, json!({}));
    let container = Container::new("db")?;
    let mut attachment = Attachment::new(&container).named("db");
    attachment.capabilities.insert(
        "aliases".into(),
        json!(["localhost", "x.LOCALHOST", "a b", "sql."]),
    );
    attachment.capabilities.insert(
        "links".into(),
        json!([{ "container": "db", "alias": "localhost" }]),
    );
    attachment.capabilities.insert(
        "dns".into(),
        json!({ "searches": ["ok.example", "evil\nnameserver 6.6.6.6"], "options": ["ndots:1\nsearch evil"] }),
    );
    let words = attach(&site, &network, &mut attachment)?;
    for wanted in [
        "dns: warning: the alias may not be \"localhost\"",
        "dns: warning: the alias may not be \"x.LOCALHOST\"",
        "dns: warning: the alias \"a b\" may not contain ' '",
        "dns: warning: the link to \"db\" as \"localhost\" is left out",
        "the search domain \"evil?nameserver 6.6.6.6\" is no domain name",
        "the option \"ndots:1?search evil\" is not one word",
    ] {
        expect(&words, wanted)?;
    }
    let files = site.host.state_dir().join("containers").join(&container.id);
    let read = |file: &str| fs::read_to_string(files.join(file)).unwrap_or_default();
    let (hosts, resolv_conf) = (read("hosts"), read("resolv.conf"));
    let own: Vec<&str> = hosts
        .lines()
        .filter(|line| line.starts_with("10.88."))
        .collect();
    if own.len() != 1
        || own[0].contains("localhost")
        || !own[0].ends_with(&container.id) && !own[0].contains(" sql")
    {
        return Err(Failure::new(format!("the hosts file says {hosts}")));
    }
    if hosts.contains("sql.") {
        return Err(Failure::new(format!("an alias with its dot: {hosts}")));
    }
    if resolv_conf.contains("6.6.6.6") || resolv_conf.contains("evil") {
        return Err(Failure::new(format!("resolv.conf says {resolv_conf}")));
    }
    for v6 in [false, true] {
        let at = format!("@{}", attachment.gateway(v6).unwrap_or_default());
        for tcp in ["+notcp", "+tcp"] {
            for name in ["localhost", "LOCALHOST.", "deep.er.localhost"] {
                let ask = |kind: &str| container.dig(&[&at, tcp, name, kind]);
                same(name, &ask("A")?, "NOERROR 127.0.0.1")?;
                same(name, &ask("AAAA")?, "NOERROR ::1")?;
                same(name, &ask("MX")?, "NOERROR")?;
            }
            for address in ["127.0.0.1", "::1"] {
                let found = container.dig(&[&at, tcp, "-x", address])?;
                same(address, &found, "NOERROR localhost.")?;
            }
            let found = container.dig(&[&at, tcp, "sql"])?;
            let address = attachment.address(false).unwrap_or_default();
            same("sql", &found, &format!("NOERROR {address}"))?;
        }
    }
    site.runtime().del(&network, &attachment)?;
    let domain = site.named_network("words", 88, json!({ "domain": "x.localhost" }));
    match site.try_add(&domain, &mut Attachment::new(&container))? {
        Some(error) if error.code == 7 && error.msg.contains("x.localhost") => Ok(()),
        other => Err(Failure::new(format!("domain x.localhost: {other:?}"))),
    }
}
