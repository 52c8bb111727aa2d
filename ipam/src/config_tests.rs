use pontoon_conf::Verb;

use super::*;

fn read(version: &str, args: &str, rest: &str) -> Result<(Settings, Pool), Error> {
    let text = format!(r#"{{"cniVersion": "{version}", "name": "n", "type": "bridge", {rest}}}"#);
    let config = NetworkConfig::parse(text.as_bytes(), Verb::Add).expect("configuration");
    let environment = |name: &str| {
        let value = match name {
            "CNI_COMMAND" => "ADD",
            "CNI_CONTAINERID" => "abc",
            "CNI_NETNS" => "/run/netns/x",
            "CNI_IFNAME" => "eth0",
            "CNI_PATH" => "/opt/cni/bin",
            "CNI_ARGS" => args,
            _ => return None,
        };
        Some(value.to_owned())
    };
    let invocation = Invocation::from_environment(environment)
        .expect("environment")
        .expect("verb");
    let settings = Settings::read(&invocation, &config)?;
    let chosen = settings.is_auto().then_some("172.20.0.0/16");
    let pool = settings.pool(chosen)?;
    Ok((settings, pool))
}

#[track_caller]
fn sets(version: &str, rest: &str, expected: &str) {
    let shown = match read(version, "", rest) {
        Ok((_, pool)) => pool
            .sets()
            .iter()
            .map(RangeSet::to_string)
            .collect::<Vec<_>>()
            .join(" | "),
        Err(error) => format!("{} {}", error.code, error.msg),
    };
    assert_eq!(shown, expected);
}

#[test]
fn range_sets_in_effective_order() {
    sets(
        "1.0.0",
        r#""ipam": {"type": "host-local"}"#,
        "172.17.0.1-172.17.255.254",
    );
    sets(
        "1.0.0",
        r#""ipam": {"Subnet": "10.0.0.0/24", "RANGESTART": "10.0.0.9"}"#,
        "10.0.0.9-10.0.0.254",
    );
    sets(
        "1.0.0",
        r#""ipam": {"subnet": null, "ranges": null, "gateway": "172.17.0.9"}"#,
        "172.17.0.1-172.17.255.254",
    );
    sets(
        "1.0.0",
        r#""ipam": {"subnet": "auto"}"#,
        "172.20.0.1-172.20.255.254",
    );
    sets(
        "1.0.0",
        r#""ipam": {"ranges": [[{"subnet": "auto"}], [{"subnet": "fd00::/120"}]]}"#,
        "172.20.0.1-172.20.255.254 | fd00::1-fd00::ff",
    );
    sets(
        "1.0.0",
        r#""ipam": {"subnet": "10.1.0.0/29", "ranges": [[{"subnet": "10.2.0.0/29"}, {"subnet": "10.3.0.0/29"}]]},
           "runtimeConfig": {"ipRanges": [[{"subnet": "10.4.0.0/29"}]]}"#,
        "10.4.0.1-10.4.0.6 | 10.1.0.1-10.1.0.6 | 10.2.0.1-10.2.0.6,10.3.0.1-10.3.0.6",
    );
}

#[test]
fn refused() {
    sets("1.0.0", r#""ipam": {}"#, "7 IPAM config missing 'ipam' key");
    sets(
        "1.0.0",
        r#""ipam": {"ranges": [[{"subnet": "10.0.0.0/31"}]]}"#,
        "7 invalid range set 0: Network 10.0.0.0/31 too small to allocate from",
    );
    sets(
        "1.0.0",
        r#""ipam": {"ranges": [[]]}"#,
        "7 invalid range set 0: empty range set",
    );
    let twice = r#""ipam": {"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "10.1.0.0/24"}]]}"#;
    sets(
        "0.2.0",
        twice,
        "7 CNI version 0.2.0 does not support more than 1 address per family",
    );
    sets("0.3.0", twice, "10.0.0.1-10.0.0.254 | 10.1.0.1-10.1.0.254");
    sets(
        "0.2.0",
        r#""ipam": {"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "fd00::/120"}]]}"#,
        "10.0.0.1-10.0.0.254 | fd00::1-fd00::ff",
    );
    sets(
        "1.0.0",
        r#""ipam": {"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "10.1.0.0/24"}], [{"subnet": "10.0.0.0/16"}]]}"#,
        "7 range set 0 overlaps with 2",
    );
    sets(
        "1.0.0",
        r#""ipam": {"subnet": "auto", "rangeStart": "172.17.0.9"}"#,
        "7 \"subnet\": \"auto\" cannot go with rangeStart, rangeEnd or gateway",
    );
    sets(
        "1.0.0",
        r#""ipam": {"ranges": [[{"subnet": "auto"}], [{"subnet": "auto"}]]}"#,
        "7 \"subnet\": \"auto\" stands more than once",
    );
}

#[track_caller]
fn asks(args: &str, rest: &str, expected: &[&str]) {
    let (settings, _) = read("1.0.0", args, rest).expect("good");
    assert_eq!(
        settings
            .requested
            .iter()
            .map(IpAddr::to_string)
            .collect::<Vec<_>>(),
        expected
    );
}

#[test]
fn requests_accumulate() {
    asks("", r#""ipam": {"type": "x"}"#, &[]);
    asks("IP=172.17.0.9", r#""ipam": {"type": "x"}"#, &["172.17.0.9"]);
    asks(
        "IgnoreUnknown=1;K8S_POD_NAME=p;IP=172.17.0.9/24,fd00::1",
        r#""ipam": {"type": "x"}"#,
        &["172.17.0.9", "fd00::1"],
    );
    // Both are one address.
    asks(
        "IP=::ffff:172.17.0.9,::ffff:172.17.0.9/112",
        r#""ipam": {"type": "x"}, "runtimeConfig": {"ips": ["::ffff:172.17.0.10/112"]}"#,
        &["172.17.0.9", "172.17.0.10"],
    );
    asks(
        "IP=172.17.0.9",
        r#""ipam": {"type": "x"}, "args": {"cni": {"ips": ["172.17.0.10", "172.17.0.9"]}},
           "runtimeConfig": {"ips": ["172.17.0.11/16"]}"#,
        &["172.17.0.9", "172.17.0.10", "172.17.0.11"],
    );
}

#[test]
fn bad_requests() {
    let code = |args: &str, rest: &str| read("1.0.0", args, rest).expect_err("bad").to_string();
    assert!(code("IP=nine", r#""ipam": {"type": "x"}"#).contains("\"nine\""));
    assert!(code("FOO=1", r#""ipam": {"type": "x"}"#).contains("FOO"));
    assert!(code("", r#""ipam": {"exclude": ["10.0.0.1-"]}"#).contains("\"10.0.0.1-\""));
}
