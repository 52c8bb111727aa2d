//! The keys of the plugin: the reference's, and Pontoon's own, of which `profile` chooses the stance
//! and each other overrides it.

use std::collections::HashSet;

use pontoon_conf::{ConfigError, Error, IfName, NameError, excerpt, keys};
use pontoon_ledger::LinkRequest;
use pontoon_netfilter::{Ingress, Policy, Protocol};
use pontoon_plugin::Context;
use serde::Deserialize;

/// The zone of firewalld in which everything passes, as the reference plugin has it.
const TRUSTED: &str = "trusted";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Runtime {
    links: Vec<keys::Link>,
}

/// Who makes the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    /// A backend by name, or the host's own choice.
    Rules(Option<String>),
    /// The host's own choice, with firewalld there to let pass what is let pass.
    Firewalld,
    /// No other network or machine.
    None,
}

/// The keys as they are meant.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) choice: Choice,
    /// The zone of firewalld that lets the network's packets pass.
    pub(crate) zone: String,
    pub(crate) profile: Option<String>,
    /// What the network lets pass. The bridge is filled in when it is known.
    pub(crate) policy: Policy,
    pub(crate) links: Vec<LinkRequest>,
}

impl Choice {
    /// The backend that is asked for, if any; nothing when there shall be no rules.
    pub(crate) fn asked(&self) -> Option<Option<&str>> {
        match self {
            Self::Rules(name) => Some(name.as_deref()),
            Self::Firewalld => Some(None),
            Self::None => None,
        }
    }
}

impl Config {
    pub(crate) fn from_context(context: &Context) -> Result<Self, Error> {
        let keys: keys::Firewall = context.config.keys()?;
        let runtime: Runtime = context.config.runtime()?;
        let choice = match keys.backend.as_deref().unwrap_or_default() {
            "" => Choice::Rules(None),
            name @ ("iptables" | "nftables") => Choice::Rules(Some(name.to_owned())),
            "firewalld" => Choice::Firewalld,
            "none" => Choice::None,
            other => {
                let known = "iptables, nftables, firewalld or none";
                return Err(ConfigError::unsupported("backend", other, known).into());
            }
        };
        let zone = keys.firewalld_zone.clone().filter(|zone| !zone.is_empty());
        let policy = policy(context.config.name.as_ref(), &keys)?;
        if choice == Choice::None && promises(&keys) {
            return Err(ConfigError::refused(
                "backend \"none\" makes no rules, and icc, isolation, directAccess, internal, hostAccess or \
                 ingressPolicy ask for some",
            )
            .with_next_step("leave those keys out, or choose another backend").into());
        }
        refuse_excess(keys.links.iter().chain(&runtime.links))?;
        let links = keys
            .links
            .iter()
            .chain(&runtime.links)
            .map(link_request)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            choice,
            zone: zone.unwrap_or_else(|| TRUSTED.to_owned()),
            profile: keys.profile.clone().filter(|profile| !profile.is_empty()),
            policy,
            links,
        })
    }
}

/// Whether a key, and not only the profile, wants something kept out.
fn promises(keys: &keys::Firewall) -> bool {
    keys.icc == Some(false)
        || keys.isolation == Some(true)
        || keys.direct_access.as_deref() == Some("closed")
        || keys.internal
        || keys.host_access == Some(false)
        || keys
            .ingress_policy
            .as_deref()
            .is_some_and(|policy| !matches!(policy, "" | "open"))
}

fn policy(network: &str, keys: &keys::Firewall) -> Result<Policy, ConfigError> {
    let mut policy = match keys.profile.as_deref().unwrap_or_default() {
        "" => Policy::open(network, ""),
        "docker" => Policy::docker(network, ""),
        other => return Err(ConfigError::unsupported("profile", other, "docker")),
    };
    policy.ingress = match keys.ingress_policy.as_deref().unwrap_or_default() {
        "" | "open" => Ingress::Open,
        "same-bridge" => Ingress::SameBridge,
        "isolated" => Ingress::Isolated,
        other => {
            return Err(ConfigError::unsupported(
                "ingressPolicy",
                other,
                "open, same-bridge or isolated",
            ));
        }
    };
    let direct = match keys.direct_access.as_deref().unwrap_or_default() {
        "" => None,
        "open" => Some(false),
        "closed" => Some(true),
        other => {
            return Err(ConfigError::unsupported(
                "directAccess",
                other,
                "open or closed",
            ));
        }
    };
    policy.icc = keys.icc.unwrap_or(policy.icc);
    policy.isolated = keys.isolation.unwrap_or(policy.isolated);
    policy.closed = direct.unwrap_or(policy.closed);
    policy.internal = keys.internal;
    policy.host_access = keys.host_access.unwrap_or(true);
    let mut trusted = HashSet::new();
    for name in &keys.trusted_interfaces {
        let name = IfName::try_from(name.as_str()).map_err(|error| {
            ConfigError::key(
                "trustedInterfaces",
                format!("\"{}\" is no interface name", excerpt(name)),
            )
            .because(error)
        })?;
        if trusted.insert(name.clone()) {
            policy.trusted.push(name.to_string());
        }
    }
    if let Some(chain) = keys
        .iptables_admin_chain_name
        .as_deref()
        .filter(|chain| !chain.is_empty())
    {
        policy.admin_chain = admin_chain(chain)?;
    }
    contradictions(keys, &policy)?;
    Ok(policy)
}

/// Keys of which one promises what another takes back.
fn contradictions(keys: &keys::Firewall, policy: &Policy) -> Result<(), ConfigError> {
    let clash = |what: &'static str, next_step: &'static str| {
        Err(ConfigError::refused(what).with_next_step(next_step))
    };
    if policy.internal && !policy.trusted.is_empty() {
        return clash(
            "an internal network cannot have trustedInterfaces: no traffic comes in",
            "set \"internal\": false, and \"directAccess\": \"closed\" with trustedInterfaces",
        );
    }
    if policy.internal && keys.direct_access.as_deref() == Some("open") {
        return clash(
            "an internal network cannot have directAccess open: no traffic comes in",
            "leave one of the two keys out",
        );
    }
    if policy.internal && keys.isolation == Some(false) {
        return clash(
            "an internal network cannot do without isolation",
            "leave one of the two keys out",
        );
    }
    if !policy.trusted.is_empty() && !policy.closed {
        return clash(
            "trustedInterfaces without directAccess closed: every interface is trusted already",
            "set \"directAccess\": \"closed\", or leave trustedInterfaces out",
        );
    }
    if keys.icc == Some(true) && policy.ingress == Ingress::Isolated {
        return clash(
            "icc true contradicts ingressPolicy isolated",
            "leave one of the two keys out",
        );
    }
    if keys.icc == Some(false) && policy.ingress == Ingress::SameBridge {
        return clash(
            "icc false contradicts ingressPolicy same-bridge, which lets containers of one bridge reach each other",
            "leave one of the two keys out; \"isolation\": true keeps networks apart",
        );
    }
    if keys.isolation == Some(false) && policy.ingress != Ingress::Open {
        return clash(
            "isolation false contradicts ingressPolicy same-bridge and isolated",
            "leave one of the two keys out",
        );
    }
    Ok(())
}

/// What iptables takes as the name of a chain (28 bytes, XT_EXTENSION_MAXNAMELEN).
fn admin_chain(name: &str) -> Result<String, ConfigError> {
    let plain = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if plain && name.len() <= 28 && !name.starts_with('-') {
        return Ok(name.to_owned());
    }
    Err(ConfigError::key(
        "iptablesAdminChainName",
        format!("\"{}\" is no name of a chain", excerpt(name)),
    )
    .with_next_step("at most 28 letters, digits, `-`, `_` and `.`, not starting with `-`"))
}

/// Links of one container, and ports of all of them together: each is a rule.
const MOST_LINKS: usize = 1024;
const MOST_PORTS: usize = 65_536;

fn refuse_excess<'a>(links: impl Iterator<Item = &'a keys::Link>) -> Result<(), ConfigError> {
    let (mut count, mut ports) = (0, 0);
    for link in links {
        count += 1;
        ports += link.ports.len();
    }
    if count <= MOST_LINKS && ports <= MOST_PORTS {
        return Ok(());
    }
    Err(ConfigError::refused(format!(
        "links: {count} links with {ports} ports are more than {MOST_LINKS} or {MOST_PORTS}"
    ))
    .with_next_step("link the container to fewer others, or set \"icc\": true"))
}

fn link_request(keys: &keys::Link) -> Result<LinkRequest, ConfigError> {
    let container = keys.container.parse().map_err(|error: NameError| {
        ConfigError::refused(format!(
            "links: \"{}\" is no name of a container",
            excerpt(&keys.container)
        ))
        .because(error)
    })?;
    let (mut ports, mut known) = (Vec::new(), HashSet::new());
    for keys in &keys.ports {
        let port = u16::try_from(keys.port)
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| {
                ConfigError::refused(format!("links: {} is no port", keys.port))
                    .with_next_step("ports are numbers from 1 to 65535")
            })?;
        let name = keys.protocol.as_deref().unwrap_or_default();
        let protocol = match name.to_ascii_lowercase().as_str() {
            "" | "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => {
                return Err(ConfigError::unsupported(
                    "links.ports.protocol",
                    name,
                    "tcp, udp or sctp",
                ));
            }
        };
        if known.insert((protocol, port)) {
            ports.push((protocol, port));
        }
    }
    Ok(LinkRequest { container, ports })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: Value) -> Result<Policy, Error> {
        Ok(policy(
            "net",
            &pontoon_conf::decode(&value).expect("decodes"),
        )?)
    }

    #[track_caller]
    fn check(value: Value, change: impl FnOnce(&mut Policy)) {
        let mut expected = Policy::open("net", "");
        change(&mut expected);
        assert_eq!(read(value).unwrap(), expected);
    }

    #[track_caller]
    fn refused(value: Value, part: &str) {
        let error = read(value).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn one_word_chooses_and_each_key_overrides() {
        check(json!({}), |_| {});
        check(json!({"profile": "docker"}), |policy| {
            (policy.isolated, policy.closed) = (true, true);
        });
        check(
            json!({"profile": "docker", "icc": false, "isolation": false, "directAccess": "open"}),
            |policy| policy.icc = false,
        );
        check(
            json!({"directAccess": "closed", "trustedInterfaces": ["eth1", "eth1"]}),
            |policy| {
                policy.closed = true;
                policy.trusted = vec!["eth1".into()];
            },
        );
        check(json!({"internal": true, "hostAccess": false}), |policy| {
            (policy.internal, policy.host_access) = (true, false);
        });
        check(
            json!({"ingressPolicy": "same-bridge", "iptablesAdminChainName": "MINE"}),
            |policy| {
                policy.ingress = Ingress::SameBridge;
                policy.admin_chain = "MINE".into();
            },
        );
    }

    #[test]
    fn contradictory_keys_are_refused() {
        refused(json!({"profile": "dokcer"}), "profile");
        refused(json!({"ingressPolicy": "closed"}), "ingressPolicy");
        refused(json!({"directAccess": "no"}), "directAccess");
        refused(
            json!({"internal": true, "directAccess": "closed", "trustedInterfaces": ["eth1"]}),
            "no traffic comes in",
        );
        refused(
            json!({"internal": true, "directAccess": "open"}),
            "no traffic",
        );
        refused(json!({"internal": true, "isolation": false}), "isolation");
        refused(json!({"trustedInterfaces": ["eth1"]}), "every interface");
        refused(
            json!({"profile": "docker", "trustedInterfaces": [""]}),
            "no interface name",
        );
        refused(json!({"icc": true, "ingressPolicy": "isolated"}), "icc");
        refused(json!({"icc": false, "ingressPolicy": "same-bridge"}), "icc");
        refused(
            json!({"isolation": false, "ingressPolicy": "isolated"}),
            "isolation",
        );
        refused(json!({"iptablesAdminChainName": "a b"}), "chain");
        refused(json!({"iptablesAdminChainName": "-j"}), "chain");
    }

    #[test]
    fn links_name_containers_and_ports() {
        let read = |value: Value| link_request(&pontoon_conf::decode(&value).expect("decodes"));
        let link = read(
            json!({"container": "DB", "alias": "x", "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53}]}),
        );
        assert_eq!(
            link.unwrap(),
            LinkRequest {
                container: "db".parse().unwrap(),
                ports: vec![(Protocol::Udp, 53), (Protocol::Tcp, 53)],
            }
        );
        for bad in [
            json!({"ports": [{"port": 1}]}),
            json!({"container": "../x", "ports": []}),
            json!({"container": "a", "ports": [{"port": 0}]}),
            json!({"container": "a", "ports": [{"port": 65536}]}),
            json!({"container": "a", "ports": [{"port": 1, "protocol": "icmp"}]}),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }
}
