use std::collections::BTreeSet;
use std::fs;

use pontoon_conf::Verb;
use tempfile::TempDir;

use super::*;

struct Host(TempDir);

impl Host {
    fn new() -> Host {
        Host(tempfile::tempdir().expect("folder"))
    }

    fn config(&self, network: &str, verb: Verb, ipam: &str, rest: &str) -> NetworkConfig {
        let text = format!(
            r#"{{"cniVersion": "1.1.0", "name": "{network}", "type": "bridge", {rest}
                "ipam": {{"type": "host-local", "dataDir": "{}/networks", {ipam}}}}}"#,
            self.0.path().display()
        );
        NetworkConfig::parse(text.as_bytes(), verb).expect("configuration")
    }

    fn run<T>(
        &self,
        verb: fn(&Invocation, &NetworkConfig, &Path) -> Result<T, Error>,
        container: &str,
        config: &NetworkConfig,
    ) -> Result<T, Error> {
        verb(
            &invocation(container, ""),
            config,
            &self.0.path().join("state"),
        )
    }

    /// The addresses given, or the error.
    fn add(&self, container: &str, ipam: &str) -> Result<String, String> {
        self.add_to("n", container, "", ipam, "")
    }

    fn add_to(
        &self,
        network: &str,
        container: &str,
        args: &str,
        ipam: &str,
        rest: &str,
    ) -> Result<String, String> {
        let config = self.config(network, Verb::Add, ipam, rest);
        let given = add(
            &invocation(container, args),
            &config,
            &self.0.path().join("state"),
        );
        let given = given.map_err(|error| format!("{} {}", error.code, error.msg))?;
        Ok(given
            .ips
            .iter()
            .map(|ip| ip.address.to_string())
            .collect::<Vec<_>>()
            .join(" "))
    }

    fn del(&self, container: &str) {
        let config = self.config("n", Verb::Del, r#""ranges": []"#, "");
        self.run(del, container, &config).expect("DEL");
    }

    fn leases(&self) -> BTreeSet<String> {
        let folder = self.0.path().join("networks/n");
        let names = fs::read_dir(folder).expect("list");
        names
            .map(|entry| {
                entry
                    .expect("entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .filter(|name| name.parse::<IpAddr>().is_ok())
            .collect()
    }
}

fn invocation(container: &str, args: &str) -> Invocation {
    let environment = |name: &str| {
        let value = match name {
            "CNI_COMMAND" => "ADD",
            "CNI_CONTAINERID" => container,
            "CNI_NETNS" => "/run/netns/x",
            "CNI_IFNAME" => "eth0",
            "CNI_PATH" => "/opt/cni/bin",
            "CNI_ARGS" => args,
            _ => return None,
        };
        Some(value.to_owned())
    };
    Invocation::from_environment(environment)
        .expect("environment")
        .expect("verb")
}

#[track_caller]
fn given(outcome: Result<String, String>, expected: &str) {
    assert_eq!(outcome.unwrap_or_else(|error| error), expected);
}

const SMALL: &str = r#""subnet": "10.0.0.0/29""#;

#[test]
fn round_robin_until_full() {
    let host = Host::new();
    given(host.add("a", SMALL), "10.0.0.2/29");
    given(host.add("b", SMALL), "10.0.0.3/29");
    host.del("a");
    host.del("a");
    given(host.add("c", SMALL), "10.0.0.4/29");
    given(host.add("d", SMALL), "10.0.0.5/29");
    given(host.add("e", SMALL), "10.0.0.6/29");
    given(host.add("f", SMALL), "10.0.0.2/29");
    given(
        host.add("g", SMALL),
        "101 failed to allocate for range 0: no IP addresses available in range set: 10.0.0.1-10.0.0.6",
    );
    let config = host.config("n", Verb::Status, SMALL, "");
    let error = host.run(status, "x", &config).expect_err("full");
    assert_eq!(error.code, code::NOT_AVAILABLE, "{error}");
    host.del("d");
    host.run(status, "x", &config).expect("room again");
    given(host.add("g", SMALL), "10.0.0.5/29");
}

#[test]
fn status_of_a_network_that_was_never_used() {
    let host = Host::new();
    host.run(status, "x", &host.config("n", Verb::Status, SMALL, ""))
        .expect("room");
    let none = r#""subnet": "10.0.0.0/29", "exclude": ["10.0.0.0/29"]"#;
    let error = host
        .run(status, "x", &host.config("n", Verb::Status, none, ""))
        .expect_err("none");
    assert_eq!(error.code, code::NOT_AVAILABLE, "{error}");
    assert!(!host.0.path().join("networks").exists());
}

#[test]
fn duplicates_are_refused_in_the_reference_words() {
    let host = Host::new();
    given(host.add("a", SMALL), "10.0.0.2/29");
    given(
        host.add("a", SMALL),
        "101 failed to allocate for range 0: 10.0.0.2 has been allocated to a, duplicate allocation is not allowed",
    );
    given(host.add("a", r#""subnet": "10.0.1.0/29""#), "10.0.1.2/29");
}

#[test]
fn two_sets_or_none() {
    let host = Host::new();
    let two = r#""ranges": [[{"subnet": "fd00::/64"}], [{"subnet": "10.0.0.0/30"}]]"#;
    given(host.add("a", two), "fd00::2/64 10.0.0.2/30");
    given(
        host.add("b", two),
        "101 failed to allocate for range 1: no IP addresses available in range set: 10.0.0.1-10.0.0.2",
    );
    assert_eq!(
        host.leases(),
        ["10.0.0.2".to_owned(), "fd00::2".to_owned()].into()
    );
    host.del("a");
    assert_eq!(host.leases(), BTreeSet::new());
    given(host.add("b", two), "fd00::4/64 10.0.0.2/30");
}

#[test]
fn a_failed_add_keeps_what_the_attachment_had_before() {
    let host = Host::new();
    given(host.add("a", SMALL), "10.0.0.2/29");
    let more = r#""ranges": [[{"subnet": "10.9.0.0/29"}], [{"subnet": "10.0.0.0/29"}]]"#;
    assert!(host.add("a", more).is_err());
    assert_eq!(host.leases(), ["10.0.0.2".to_owned()].into());
}

#[track_caller]
fn requests(args: &str, ipam: &str, expected: &str) {
    let host = Host::new();
    given(host.add("first", ipam), "10.0.0.2/24");
    given(host.add_to("n", "a", args, ipam, ""), expected);
}

#[test]
fn requested_addresses() {
    let plain = r#""subnet": "10.0.0.0/24", "exclude": ["10.0.0.64/28"]"#;
    requests("IP=10.0.0.77", r#""subnet": "10.0.0.0/24""#, "10.0.0.77/24");
    requests(
        "IP=10.0.0.2",
        plain,
        "101 failed to allocate for range 0: requested IP address 10.0.0.2 is not available in range set 10.0.0.1-10.0.0.254",
    );
    requests(
        "IP=10.0.0.1",
        plain,
        "101 failed to allocate for range 0: requested ip 10.0.0.1 is subnet's gateway",
    );
    requests(
        "IP=10.9.0.1",
        plain,
        "101 failed to allocate all requested IPs: 10.9.0.1",
    );
    requests(
        "IP=10.0.0.70",
        plain,
        "101 failed to allocate for range 0: requested ip 10.0.0.70 is excluded: the network's configuration lists it under \"exclude\"",
    );
}

#[test]
fn a_request_skips_the_duplicate_check_and_moves_the_cursor() {
    let host = Host::new();
    given(host.add("a", SMALL), "10.0.0.2/29");
    given(
        host.add_to("n", "a", "IP=10.0.0.5", SMALL, ""),
        "10.0.0.5/29",
    );
    given(host.add("b", SMALL), "10.0.0.6/29");
    host.del("a");
    assert_eq!(host.leases(), ["10.0.0.6".to_owned()].into());
}

#[test]
fn routes_and_resolver_are_passed_on() {
    let host = Host::new();
    let file = host.0.path().join("resolv.conf");
    fs::write(&file, "nameserver 10.0.0.1\nsearch a.org\n").expect("write");
    let ipam = format!(
        r#""subnet": "10.0.0.0/29", "routes": [{{"dst": "0.0.0.0/0", "gw": "10.0.0.1", "mtu": 1400}}], "resolvConf": "{}""#,
        file.display()
    );
    let config = host.config("n", Verb::Add, &ipam, "");
    let given = host.run(add, "a", &config).expect("ADD");
    assert_eq!(given.routes.len(), 1);
    assert_eq!(given.routes[0].mtu, Some(1400));
    assert_eq!(given.dns.nameservers, ["10.0.0.1"]);
    assert_eq!(
        given.ips[0].gateway,
        Some("10.0.0.1".parse().expect("address"))
    );
    assert!(given.interfaces.is_empty());
    fs::remove_file(&file).expect("remove");
    assert_eq!(
        host.run(add, "b", &config).expect_err("no file").code,
        code::IO
    );
    assert_eq!(host.leases().len(), 1);
}

#[test]
fn check_and_gc() {
    let host = Host::new();
    given(host.add("a", SMALL), "10.0.0.2/29");
    given(host.add("b", SMALL), "10.0.0.3/29");
    let config = host.config("n", Verb::Del, SMALL, "");
    host.run(check, "a", &config).expect("there");
    let error = host.run(check, "unknown", &config).expect_err("not there");
    assert_eq!(
        error.msg,
        "host-local: Failed to find address added by container unknown"
    );
    host.run(gc, "x", &host.config("n", Verb::Gc, SMALL, ""))
        .expect("GC without a list");
    assert_eq!(host.leases().len(), 2);
    let valid = r#""cni.dev/valid-attachments": [{"containerID": "b", "ifname": "eth0"}],"#;
    host.run(gc, "x", &host.config("n", Verb::Gc, SMALL, valid))
        .expect("GC");
    assert_eq!(host.leases(), ["10.0.0.3".to_owned()].into());
    let none = r#""cni.dev/valid-attachments": [],"#;
    host.run(gc, "x", &host.config("n", Verb::Gc, SMALL, none))
        .expect("GC");
    assert_eq!(host.leases(), BTreeSet::new());
}

#[test]
fn auto_subnets_differ_and_are_remembered() {
    let host = Host::new();
    let auto = r#""subnet": "auto""#;
    let subnet = |given: &str| {
        given
            .rsplit_once('.')
            .map(|(net, _)| net.to_owned())
            .expect("address")
    };
    let first = host.add_to("one", "a", "", auto, "").expect("one");
    let second = host.add_to("two", "a", "", auto, "").expect("two");
    let again = host.add_to("one", "b", "", auto, "").expect("one again");
    assert_eq!(subnet(&first), subnet(&again));
    assert_ne!(subnet(&first), subnet(&second));
    // A third that is the reference's own, and one with its subnet written out.
    let reference = host.0.path().join("networks/reference");
    fs::create_dir_all(&reference).expect("folder");
    let taken = facts::choose(&host.0.path().join("networks"), Path::new("/none")).expect("next");
    let inside = format!(
        "{}.9",
        taken.split_once(".0/").map(|(net, _)| net).expect("subnet")
    );
    fs::write(reference.join("last_reserved_ip.0"), inside).expect("write");
    let third = host.add_to("three", "a", "", auto, "").expect("three");
    assert!(
        !taken.starts_with(&subnet(&third)),
        "{third} lies in {taken}"
    );
}

#[test]
fn networks_that_choose_at_once_choose_differently() {
    let host = Host::new();
    let names: Vec<String> = (0..8).map(|number| format!("net{number}")).collect();
    let given: BTreeSet<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = names
            .iter()
            .map(|name| {
                scope.spawn(|| {
                    host.add_to(name, "a", "", r#""subnet": "auto""#, "")
                        .expect("ADD")
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("thread"))
            .collect()
    });
    assert_eq!(given.len(), 8, "{given:?}");
}
