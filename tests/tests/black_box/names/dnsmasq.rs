//! A real dnsmasq as the host's server: what it says comes through as it was said.

use std::fs;
use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use pontoon_lab::{Backend, Daemon, Failure, Outcome, Site, libraries, missing, same, target_dir};
use serde_json::json;

const AT: &str = "127.0.0.11";

#[test]
fn what_dnsmasq_says_comes_through() -> Outcome {
    let root = target_dir()?.join("tools/nameservers");
    let program = root.join("usr/sbin/dnsmasq");
    if !program.is_file() {
        return Err(missing("dnsmasq"));
    }
    let site = Site::new(Backend::Nftables)?;
    let conf = site.leases.path().join("resolv.conf");
    fs::write(&conf, format!("nameserver {AT}\n")).map_err(Failure::act("write resolv.conf"))?;
    let long: Vec<String> = (0..12)
        .map(|part| format!("{part:02}{}", "x".repeat(200)))
        .collect();
    let mut command = Command::new(&program);
    command
        .env("LD_LIBRARY_PATH", libraries(&root))
        .args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--user=root",
        ])
        .args([
            "--bind-interfaces",
            "--no-resolv",
            "--no-hosts",
            "--pid-file=",
        ])
        .args([
            "--local=/test/",
            "--host-record=a.test,192.0.2.9,2001:db8::9",
        ])
        .args(["--cname=c.test,a.test", "--mx-host=m.test,a.test,10"])
        .args([
            "--srv-host=_web._tcp.test,a.test,80,7,3",
            "--txt-record=t.test,words",
        ])
        .arg(format!("--txt-record=long.test,{}", long.join(",")))
        .args(["--caa-record=k.test,0,issue,ca.test", "--local-ttl=60"])
        .arg(format!("--listen-address={AT}"));
    let log = site.leases.path().join("dnsmasq.log");
    let listens = || {
        let probe = || UdpSocket::bind((AT, 53)).is_err();
        site.host.run(probe).unwrap_or(false)
    };
    let daemon = Daemon::start(&site.host, &mut command, &log, listens)?;
    let network = site.named_network("fwd", 88, json!({}));
    let (client, attachment) = site.join_named("client", &network)?;
    for (arguments, expected) in [
        (&["a.test", "A"][..], "NOERROR 192.0.2.9"),
        (&["a.test", "AAAA"], "NOERROR 2001:db8::9"),
        (&["A.TeSt", "A"], "NOERROR 192.0.2.9"),
        (&["c.test", "A"], "NOERROR 192.0.2.9 a.test."),
        (&["m.test", "MX"], "NOERROR 10"),
        (&["_web._tcp.test", "SRV"], "NOERROR 7"),
        (&["t.test", "TXT"], "NOERROR \"words\""),
        (&["k.test", "TYPE257"], "NOERROR 0"),
        (&["-x", "192.0.2.9"], "NOERROR a.test."),
        (&["a.test", "MX"], "NOERROR"),
        (&["unknown.test", "A"], "NXDOMAIN"),
        (&["+dnssec", "a.test", "A"], "NOERROR 192.0.2.9"),
        (&["+tcp", "a.test", "A"], "NOERROR 192.0.2.9"),
        (&["+noedns", "a.test", "A"], "NOERROR 192.0.2.9"),
    ] {
        same(&arguments.join(" "), &client.dig(arguments)?, expected)?;
        // Once more: out of the cache.
        same(&arguments.join(" "), &client.dig(arguments)?, expected)?;
    }
    let told = client.dig(&["long.test", "TXT"])?;
    if !told.starts_with(&format!("NOERROR \"{}", long[0])) {
        return Err(Failure::new(format!(
            "what is cut by UDP does not come by TCP: {told:?}"
        )));
    }
    // Own names are never asked of it, and are there without it.
    drop(daemon);
    std::thread::sleep(Duration::from_millis(100));
    let own = attachment.address(false).unwrap_or_default();
    same(
        "client",
        &client.dig(&["client"])?,
        &format!("NOERROR {own}"),
    )
}
