//! Beside filters that drop: names get past INPUT, attachments without a bridge past FORWARD and through the
//! admin's chain, and STATUS says what a packet would meet, in either order of start.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use pontoon_lab::{
    Attachment, BOTH, Backend, Container, Failure, Network, OUTSIDE_V4, OUTSIDE_V6, Outcome, Site,
    same,
};
use serde_json::{Value, json};

const WAIT: Duration = Duration::from_secs(2);
const SUBNETS: [&str; 2] = ["10.86.0.0/24", "fd00:86::/64"];

fn on_host(site: &Site, line: &str) -> Outcome<String> {
    site.host.command(Command::new("sh").args(["-c", line]))
}

/// Both families' INPUT, or FORWARD, chains drop; neighbours find each other all the same.
fn drop_in(site: &Site, tool: &str, chain: &str) -> Outcome {
    on_host(
        site,
        &format!(
            "iptables-{tool} -P {chain} DROP && ip6tables-{tool} -P {chain} DROP && \
             ip6tables-{tool} -A {chain} -p ipv6-icmp -j ACCEPT"
        ),
    )
    .map(drop)
}

/// A table of an administrator's own, with a chain at this hook that drops.
fn theirs(site: &Site, hook: &str, rules: &[&str]) -> Outcome {
    let mut lines = vec![
        "nft add table inet theirs".to_owned(),
        format!(
            "nft 'add chain inet theirs gate {{ type filter hook {hook} priority 10; policy drop; }}'"
        ),
    ];
    let rules = rules.iter();
    lines.extend(rules.map(|rule| format!("nft 'add rule inet theirs gate {rule}'")));
    on_host(site, &lines.join(" && ")).map(drop)
}

fn gateway(attachment: &Attachment, v6: bool) -> Outcome<String> {
    let found = attachment.gateway(v6);
    found.ok_or_else(|| Failure::new("no gateway"))
}

/// Every way of asking for a container's own name.
#[track_caller]
fn finds(container: &Container, attachment: &Attachment, name: &str, what: &str) -> Outcome {
    for v6 in [false, true] {
        let server = format!("@{}", gateway(attachment, v6)?);
        let address = attachment
            .address(false)
            .ok_or_else(|| Failure::new("no address"))?;
        for tcp in ["+notcp", "+tcp"] {
            let answer = container.dig(&["+tries=2", "+time=2", tcp, &server, name, "A"])?;
            same(
                &format!("{what}: {tcp} {server}"),
                &answer,
                &format!("NOERROR {address}"),
            )?;
        }
    }
    Ok(())
}

fn told(site: &Site, network: &Network, words: &[&str]) -> Outcome {
    match site.runtime().status(network) {
        Err(error)
            if error.code == 51
                && words
                    .iter()
                    .all(|word| format!("{} {}", error.msg, error.details).contains(word)) =>
        {
            Ok(())
        }
        other => Err(Failure::new(format!(
            "instead of code 51 with {words:?}: {other:?}"
        ))),
    }
}

/// ufw's default, and Debian's: INPUT drops before the network's first container.
fn names_past_input(backend: Backend, tool: &str) -> Outcome {
    let site = Site::new(backend)?;
    let what = format!("{backend} beside iptables-{tool}");
    drop_in(&site, tool, "INPUT")?;
    let before = site.snapshot()?;
    let network = site.named_network("named", 86, json!({}));
    let other = site.named_network("other", 87, json!({}));
    let (web, attachment) = site.join_named("web", &network)?;
    let (next, second) = site.join_named("next", &network)?;
    let (stranger, third) = site.join_named("stranger", &other)?;
    finds(&web, &attachment, "web", &what)?;
    let server = format!("@{}", gateway(&attachment, false)?);
    let quick = ["+tries=1", "+time=1"];
    let answer = next.dig(&[&quick[..], &[&server, "web", "A"]].concat())?;
    let address = attachment.address(false).unwrap_or_default();
    same(&what, &answer, &format!("NOERROR {address}"))?;
    // Nothing else of the host is open, and not for others.
    let answer = stranger.dig(&[&quick[..], &[&server, "stranger", "A"]].concat())?;
    if answer.contains("NOERROR") {
        return Err(Failure::new(format!(
            "{what}: another network's container: {answer}"
        )));
    }
    site.runtime().status(&network)?;
    site.runtime().check(&network, &attachment)?;
    for (network, attachment) in [
        (&network, &attachment),
        (&network, &second),
        (&other, &third),
    ] {
        site.runtime().del(network, attachment)?;
    }
    site.nothing_left(&before, &[&network, &other], &what)
}

#[test]
fn names_get_past_an_input_chain_that_drops_nftables() -> Outcome {
    ["nft", "legacy"]
        .into_iter()
        .try_for_each(|tool| names_past_input(Backend::Nftables, tool))
}

#[test]
fn names_get_past_an_input_chain_that_drops_iptables() -> Outcome {
    names_past_input(Backend::IptablesNft, "nft")?;
    names_past_input(Backend::IptablesNft, "legacy")?;
    names_past_input(Backend::IptablesLegacy, "legacy")?;
    names_past_input(Backend::IptablesLegacy, "nft")
}

/// The end of INPUT rejects, without a policy.
#[test]
fn names_get_past_a_rule_that_rejects_the_rest() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    for family in ["iptables", "ip6tables"] {
        on_host(
            &site,
            &format!(
                "{family}-nft -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT && \
                 {family}-nft -A INPUT -p icmp -j ACCEPT && {family}-nft -A INPUT -p ipv6-icmp -j ACCEPT && \
                 {family}-nft -A INPUT -j REJECT"
            ),
        )?;
    }
    let before = site.snapshot()?;
    let network = site.named_network("named", 86, json!({}));
    let (web, attachment) = site.join_named("web", &network)?;
    finds(&web, &attachment, "web", "beside a REJECT")?;
    site.runtime().del(&network, &attachment)?;
    site.nothing_left(&before, &[&network], "DEL")
}

/// `ufw enable` when containers are there: STATUS tells, one command mends, DEL takes all away.
fn ufw_comes_later(backend: Backend, tool: &str) -> Outcome {
    let site = Site::new(backend)?;
    let what = format!("{backend}, iptables-{tool} later");
    let empty = site.snapshot()?;
    let _beyond = site.host.serve_outside(80)?;
    let named = site.named_network("named", 86, json!({}));
    let mut list = named.list().clone();
    if let Some(plugins) = list["plugins"].as_array_mut() {
        plugins.push(json!({ "type": "firewall", "backend": backend.key() }));
    }
    let network = Network::from_list(list);
    let (web, attachment) = site.join_named("web", &network)?;
    finds(&web, &attachment, "web", &what)?;
    site.runtime().status(&network)?;
    drop_in(&site, tool, "INPUT")?;
    told(&site, &network, &["INPUT", "pontoon repair"])?;
    drop_in(&site, tool, "FORWARD")?;
    let own = matches!(
        (backend, tool),
        (Backend::IptablesNft, "nft") | (Backend::IptablesLegacy, "legacy")
    );
    if !own {
        reaches(&web, &what, false);
    }
    site.pontoon_ends(&["repair"], 0)?;
    finds(&web, &attachment, "web", &what)?;
    reaches(&web, &what, true);
    site.runtime().status(&network)?;
    site.runtime().check(&network, &attachment)?;
    site.runtime().del(&network, &attachment)?;
    for family in ["iptables", "ip6tables"] {
        for chain in ["INPUT", "FORWARD"] {
            on_host(&site, &format!("{family}-{tool} -P {chain} ACCEPT"))?;
        }
    }
    for chain in ["INPUT", "FORWARD"] {
        on_host(
            &site,
            &format!("ip6tables-{tool} -D {chain} -p ipv6-icmp -j ACCEPT"),
        )?;
    }
    site.nothing_left(&empty, &[&network], &what)
}

#[track_caller]
fn reaches(container: &Container, what: &str, wanted: bool) {
    for outside in [OUTSIDE_V4, OUTSIDE_V6] {
        for (name, ask) in BOTH {
            let target = SocketAddr::new(outside, 80);
            let answer = container.run(|| ask(target, WAIT)).unwrap();
            assert_eq!(answer.is_ok(), wanted, "{what}: {name} to {target}");
        }
    }
}

#[test]
fn a_filter_that_comes_later_is_told_and_mended_nftables() -> Outcome {
    ufw_comes_later(Backend::Nftables, "nft")?;
    ufw_comes_later(Backend::Nftables, "legacy")
}

#[test]
fn a_filter_that_comes_later_is_told_and_mended_iptables() -> Outcome {
    ufw_comes_later(Backend::IptablesNft, "nft")?;
    ufw_comes_later(Backend::IptablesLegacy, "nft")
}

/// A drop in an administrator's own table: only they can open it, so ADD, and STATUS, say it.
#[test]
fn an_input_chain_that_cannot_be_passed_is_named() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    theirs(&site, "input", &["ct state established,related accept"])?;
    let named = site.named_network("named", 86, json!({}));
    let mut list = named.list().clone();
    let dns = list["plugins"]
        .as_array_mut()
        .and_then(Vec::pop)
        .ok_or_else(|| Failure::new("no plugins"))?;
    let bare = Network::from_list(list);
    let container = Container::new("web")?;
    let mut attachment = Attachment::new(&container).named("web");
    site.runtime().add(&bare, &mut attachment)?;
    let mut stdin = dns;
    stdin["cniVersion"] = named.list()["cniVersion"].clone();
    stdin["name"] = json!("named");
    stdin["prevResult"] = attachment.result.clone().unwrap_or(Value::Null);
    let call = site.runtime().attachment_call("ADD", &stdin, &attachment);
    let finished = site
        .runtime()
        .call("dns", &call)
        .map_err(|error| Failure::new(error.to_string()))?;
    for word in ["chain gate of table inet theirs", "21053"] {
        if !finished.stderr.contains(word) {
            return Err(Failure::new(format!("no {word}: {}", finished.stderr)));
        }
    }
    told(
        &site,
        &named,
        &["chain gate of table inet theirs", "port 21053"],
    )?;
    on_host(
        &site,
        "nft insert rule inet theirs gate iifname 'named*' meta l4proto { tcp, udp } th dport 21053 accept && \
         nft insert rule inet theirs gate meta l4proto ipv6-icmp accept",
    )?;
    site.runtime().status(&named)?;
    finds(&container, &attachment, "web", "opened by the admin")?;
    site.runtime().del(&named, &attachment)?;
    Ok(())
}

/// STATUS goes by what a packet would meet, not by names.
#[test]
fn status_judges_the_rules_of_others() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let _beyond = site.host.serve_outside(80)?;
    let network = site.firewalled("bon", &SUBNETS, json!({}));
    let (web, attachment) = site.join("web", &network)?;
    let always = [
        "ct state established,related accept",
        "ct status dnat accept",
    ];
    let clear = "nft delete table inet theirs";
    for accept in [
        "iifname \"br-b*\" accept",
        "iifname { \"br-bon\", \"eth9\" } accept",
        "ip saddr 10.86.0.0/16 accept; nft add rule inet theirs gate ip6 saddr fd00:86::/64 accept",
        "iifname != \"eth0\" accept",
        "iif != \"lo\" accept",
        "limit rate 3/minute log; nft add rule inet theirs gate iifname br-bon counter accept",
    ] {
        let (first, more) = accept.split_once("; ").unwrap_or((accept, "true"));
        theirs(&site, "forward", &[always[0], always[1], first])?;
        on_host(&site, more)?;
        reaches(&web, accept, true);
        site.runtime()
            .status(&network)
            .map_err(|error| Failure::new(format!("{accept}: {error}")))?;
        on_host(&site, clear)?;
    }
    theirs(&site, "forward", &always)?;
    on_host(
        &site,
        "nft add set inet theirs ours '{ type ifname; elements = { br-bon }; }' && \
         nft add chain inet theirs deep && nft add rule inet theirs deep iifname @ours accept && \
         nft add rule inet theirs gate jump deep",
    )?;
    reaches(&web, "a named set behind a jump", true);
    site.runtime().status(&network)?;
    on_host(&site, clear)?;
    // Rules that name the bridge, and drop.
    for drop in [
        "iifname br-bon drop",
        "oifname br-bon drop",
        "iifname br-bon reject",
        "meta nfproto ipv6 iifname br-bon drop",
    ] {
        theirs(&site, "forward", &[drop, "accept"])?;
        told(
            &site,
            &network,
            &[
                "chain gate of table inet theirs",
                drop.rsplit(' ').next().unwrap_or(""),
            ],
        )?;
        on_host(&site, clear)?;
    }
    // A rule in another chain of the table, which nothing leads to.
    theirs(&site, "forward", &always)?;
    on_host(
        &site,
        "nft add chain inet theirs idle && nft add rule inet theirs idle iifname br-bon accept",
    )?;
    told(&site, &network, &["chain gate of table inet theirs"])?;
    on_host(&site, clear)?;
    // What cannot be judged is no failure.
    theirs(&site, "forward", &[always[0], "meta cgroup 0 accept"])?;
    site.runtime().status(&network)?;
    on_host(&site, clear)?;
    // What the admin drops in the chain that is theirs is as they wish.
    on_host(&site, "nft add rule inet pontoon admin iifname br-bon drop")?;
    site.runtime().status(&network)?;
    on_host(&site, "nft flush chain inet pontoon admin")?;
    site.runtime().del(&network, &attachment)?;
    Ok(())
}

fn routed(site: &Site, keys: Value) -> Network {
    let mut firewall = json!({ "type": "firewall", "backend": site.backend.key() });
    if let (Value::Object(own), Value::Object(keys)) = (&mut firewall, keys) {
        own.extend(keys);
    }
    Network::from_list(json!({
        "cniVersion": "1.1.0", "name": "pair",
        "plugins": [
            {
                "type": "ptp", "ipMasq": true, "ipMasqBackend": site.backend.key(),
                "ipam": {
                    "type": "host-local", "dataDir": site.leases.path(),
                    "ranges": [[{ "subnet": SUBNETS[0] }], [{ "subnet": SUBNETS[1] }]],
                    "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
                },
            },
            firewall,
        ],
    }))
}

/// The admin's chain comes before all rules, for who is on no bridge too.
#[test]
fn the_admins_chain_holds_without_a_bridge() -> Outcome {
    for backend in Backend::ALL {
        let site = Site::new(backend)?;
        let _beyond = site.host.serve_outside(80)?;
        let before = site.snapshot()?;
        let what = format!("{backend}");
        let chain = match backend {
            Backend::Nftables => "admin",
            _ => "MY-ADMIN",
        };
        let network = routed(&site, json!({ "iptablesAdminChainName": "MY-ADMIN" }));
        let (one, attachment) = site.join("one", &network)?;
        reaches(&one, &what, true);
        let rule = |verb: &str| match backend {
            Backend::Nftables if verb == "-A" => {
                format!(
                    "nft add rule inet pontoon {chain} meta l4proto {{ tcp, udp }} th dport 80 drop"
                )
            }
            Backend::Nftables => format!("nft flush chain inet pontoon {chain}"),
            _ => {
                let tool = if backend == Backend::IptablesNft {
                    "nft"
                } else {
                    "legacy"
                };
                ["iptables", "ip6tables"]
                    .map(|family| format!("{family}-{tool} {verb} {chain} -o eth0 -j DROP"))
                    .join(" && ")
            }
        };
        // The host's link to the outside, whatever it is called.
        let uplink = on_host(
            &site,
            "ip -o route get 198.18.7.2 | sed 's/.* dev //; s/ .*//'",
        )?;
        let line = |verb: &str| rule(verb).replace("eth0", uplink.trim());
        on_host(&site, &line("-A"))?;
        reaches(&one, &what, false);
        // One that comes later is held as well.
        let (two, second) = site.join("two", &network)?;
        reaches(&two, &what, false);
        site.runtime().check(&network, &attachment)?;
        site.runtime().status(&network)?;
        on_host(&site, &line("-D"))?;
        reaches(&two, &what, true);
        site.runtime().del(&network, &attachment)?;
        site.runtime().del(&network, &second)?;
        site.nothing_left(&before, &[], &what)?;
    }
    Ok(())
}

/// A FORWARD chain that drops, whatever the backend: who is on no bridge gets out all the same.
fn out_without_a_bridge(backend: Backend, tool: &str) -> Outcome {
    let site = Site::new(backend)?;
    let what = format!("{backend} beside iptables-{tool}");
    drop_in(&site, tool, "FORWARD")?;
    let before = site.snapshot()?;
    let _beyond = site.host.serve_outside(80)?;
    let network = routed(&site, json!({}));
    let (one, attachment) = site.join("one", &network)?;
    let (two, second) = site.join("two", &network)?;
    for container in [&one, &two] {
        reaches(container, &what, true);
    }
    site.runtime().check(&network, &attachment)?;
    site.runtime().status(&network)?;
    // Flushed: CHECK sees it, one command mends it.
    for family in ["iptables", "ip6tables"] {
        on_host(&site, &format!("{family}-{tool} -F CNI-FORWARD"))?;
    }
    if site.runtime().check(&network, &attachment).is_ok() {
        return Err(Failure::new(format!("{what}: CHECK saw nothing")));
    }
    site.pontoon_ends(&["repair"], 0)?;
    site.runtime().check(&network, &attachment)?;
    reaches(&one, &what, true);
    site.runtime().del(&network, &second)?;
    reaches(&one, &what, true);
    // GC takes what a lost container had.
    site.runtime().gc(&network, &[])?;
    let address: IpAddr = attachment
        .address(false)
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Failure::new("no address"))?;
    let rules = site.snapshot()?;
    let left = rules.lines("rules").into_iter();
    let left: Vec<_> = left
        .filter(|line| line.contains(&address.to_string()))
        .collect();
    same(&what, &left.join("\n"), "")?;
    site.runtime().del(&network, &attachment)?;
    site.nothing_left(&before, &[], &what)
}

#[test]
fn a_way_out_without_a_bridge() -> Outcome {
    out_without_a_bridge(Backend::Nftables, "nft")?;
    out_without_a_bridge(Backend::Nftables, "legacy")?;
    out_without_a_bridge(Backend::IptablesNft, "nft")?;
    out_without_a_bridge(Backend::IptablesLegacy, "nft")
}

/// A drop in an administrator's table, and an attachment without a bridge: STATUS names both.
#[test]
fn a_chain_that_holds_who_is_on_no_bridge_is_named() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    theirs(&site, "forward", &[])?;
    let network = routed(&site, json!({}));
    let (_one, attachment) = site.join("one", &network)?;
    told(
        &site,
        &network,
        &["chain gate of table inet theirs", "no way out"],
    )?;
    on_host(&site, "nft add rule inet theirs gate accept")?;
    site.runtime().status(&network)?;
    site.runtime().del(&network, &attachment)?;
    Ok(())
}
