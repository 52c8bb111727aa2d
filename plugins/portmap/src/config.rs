//! The keys of the plugin, and the capability `portMappings`.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use pontoon_conf::{ConfigError, Error, excerpt, keys};
use pontoon_netfilter::{Mark, Port, Protocol};
use pontoon_plugin::Context;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Runtime {
    port_mappings: Vec<Mapping>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Mapping {
    host_port: i64,
    container_port: i64,
    protocol: String,
    #[serde(rename = "hostIP")]
    host_ip: String,
    range: i64,
}

/// The keys as they are meant.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) backend: Option<String>,
    pub(crate) snat: bool,
    pub(crate) masquerade_all: bool,
    pub(crate) mark: Mark,
    pub(crate) conditions_v4: Vec<String>,
    pub(crate) conditions_v6: Vec<String>,
    /// Ranges expanded, in the order given, without repetitions.
    pub(crate) ports: Vec<Port>,
}

impl Config {
    pub(crate) fn from_context(context: &Context) -> Result<Self, Error> {
        let keys: keys::Portmap = context.config.keys()?;
        let runtime: Runtime = context.config.runtime()?;
        let backend = keys.backend.filter(|backend| !backend.is_empty());
        if let Some(other) = backend.as_deref()
            && !matches!(other, "iptables" | "nftables")
        {
            let takes = "iptables or nftables";
            return Err(ConfigError::unsupported("backend", other, takes).into());
        }
        let external = keys
            .external_set_mark_chain
            .filter(|chain| !chain.is_empty());
        let mark = match (external, keys.mark_masq_bit) {
            (Some(_), Some(_)) => {
                return Err(ConfigError::refused(
                    "Cannot specify externalSetMarkChain and markMasqBit",
                )
                .into());
            }
            (Some(_), None) if backend.as_deref() == Some("nftables") => {
                return Err(ConfigError::key(
                    "externalSetMarkChain",
                    "the nftables backend marks no packets",
                )
                .with_next_step("leave the key out, or set \"backend\": \"iptables\"")
                .into());
            }
            (Some(chain), None) => Mark::Chain(chain),
            (None, bit) => Mark::Bit(mark_bit(bit.unwrap_or(13))?),
        };
        Ok(Self {
            backend,
            snat: keys.snat.unwrap_or(true),
            masquerade_all: keys.masq_all,
            mark,
            conditions_v4: keys.conditions_v4.unwrap_or_default(),
            conditions_v6: keys.conditions_v6.unwrap_or_default(),
            ports: ports(&runtime.port_mappings)?,
        })
    }
}

impl Config {
    /// The backend that the configuration asks for: by its key, else by what only iptables can do.
    pub(crate) fn asked(&self) -> Option<&str> {
        let conditions = self.conditions_v4.iter().chain(&self.conditions_v6);
        let iptables = matches!(self.mark, Mark::Chain(_))
            || conditions.clone().any(|word| word.starts_with('-'));
        match &self.backend {
            Some(backend) => Some(backend),
            None if iptables => Some("iptables"),
            None if conditions.count() > 0 => Some("nftables"),
            None => None,
        }
    }
}

/// Ports of one request: every one of three protocols on two addresses of the host, and then some.
const MOST: i64 = 8 * 65_536;

/// Different host addresses of a request: those that share a port are looked through one by one.
const MOST_ADDRESSES: usize = 1024;

fn mark_bit(bit: i64) -> Result<u8, ConfigError> {
    u8::try_from(bit)
        .ok()
        .filter(|bit| *bit <= 31)
        .ok_or_else(|| ConfigError::refused("MasqMarkBit must be between 0 and 31"))
}

fn ports(mappings: &[Mapping]) -> Result<Vec<Port>, ConfigError> {
    let mut ports: Vec<Port> = Vec::with_capacity(mappings.len());
    // Before any range is expanded.
    let counts = mappings.iter().map(|mapping| mapping.range.max(1));
    if counts.fold(0, i64::saturating_add) > MOST {
        return Err(ConfigError::refused(format!(
            "portMappings: more than {MOST} ports are asked for"
        ))
        .with_next_step("give each port once: a protocol and a host address have 65535"));
    }
    let mut seen = HashMap::new();
    let mut addresses = HashSet::new();
    for mapping in mappings {
        let count = if mapping.range == 0 { 1 } else { mapping.range };
        let host = port("host", mapping.host_port, count)?;
        let container = port("container", mapping.container_port, count)?;
        let protocol = protocol(&mapping.protocol)?;
        let host_ip = host_ip(&mapping.host_ip)?;
        addresses.insert(host_ip);
        if addresses.len() > MOST_ADDRESSES {
            return Err(ConfigError::refused(format!(
                "portMappings: more than {MOST_ADDRESSES} different host addresses are asked for"
            ))
            .with_next_step("leave hostIP empty to publish at every address of the host"));
        }
        for (host_port, container_port) in host.zip(container) {
            match seen.insert((protocol, host_ip, host_port), container_port) {
                Some(other) if other == container_port => continue,
                Some(other) => {
                    return Err(ConfigError::refused(format!(
                        "host port {host_port}/{protocol} is mapped to the container ports {other} and {container_port}"
                    ))
                    .with_next_step("give each host port once"));
                }
                None => ports.push(Port {
                    protocol,
                    host_ip,
                    host_port,
                    container_port,
                }),
            }
        }
    }
    Ok(ports)
}

/// The ports of one side of a mapping.
fn port(side: &str, first: i64, count: i64) -> Result<std::ops::RangeInclusive<u16>, ConfigError> {
    let last = first.checked_add(count - 1);
    match (u16::try_from(first), last.map(u16::try_from)) {
        (Ok(first), Some(Ok(last))) if first > 0 && count > 0 => Ok(first..=last),
        _ if count <= 1 => Err(ConfigError::refused(format!(
            "Invalid {side} port number: {first}"
        ))
        .with_next_step("ports are numbers from 1 to 65535")),
        _ => Err(ConfigError::refused(format!(
            "Invalid range of {count} {side} ports from {first}"
        ))
        .with_next_step("ports are numbers from 1 to 65535")),
    }
}

fn protocol(name: &str) -> Result<Protocol, ConfigError> {
    match name.to_ascii_lowercase().as_str() {
        "" | "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Ok(Protocol::Sctp),
        _ => Err(ConfigError::unsupported(
            "portMappings.protocol",
            name,
            "tcp, udp or sctp",
        )),
    }
}

fn host_ip(text: &str) -> Result<Option<IpAddr>, ConfigError> {
    if text.is_empty() {
        return Ok(None);
    }
    pontoon_conf::address(text).map(Some).map_err(|error| {
        ConfigError::refused(format!(
            "portMappings: hostIP \"{}\" is no IP address",
            excerpt(text)
        ))
        .quoting(error)
        .with_next_step("leave it empty for every address of the host")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn expand(value: Value) -> Result<Vec<String>, Error> {
        let runtime: Runtime = pontoon_conf::decode(&value).expect("decodes");
        let ports = ports(&runtime.port_mappings)?;
        Ok(ports
            .iter()
            .map(|port| {
                let ip = port.host_ip.map_or_else(String::new, |ip| format!("{ip} "));
                format!(
                    "{ip}{}->{}/{}",
                    port.host_port, port.container_port, port.protocol
                )
            })
            .collect())
    }

    #[track_caller]
    fn check(value: Value, expected: &[&str]) {
        assert_eq!(expand(value).unwrap(), expected);
    }

    #[track_caller]
    fn refused(value: Value, part: &str) {
        let error = expand(value).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn mappings() {
        check(json!({}), &[]);
        check(json!({"portMappings": null}), &[]);
        check(
            json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}),
            &["8080->80/tcp"],
        );
        // As containerd writes them.
        check(
            json!({"portMappings": [{"HostPort": 53, "ContainerPort": 53, "Protocol": "UDP", "HostIP": ""}]}),
            &["53->53/udp"],
        );
        // Go programs write IPv4 addresses so; both are one address.
        check(
            json!({"portMappings": [
                {"hostPort": 1, "containerPort": 2, "hostIP": "::ffff:198.18.7.1"},
                {"hostPort": 1, "containerPort": 2, "hostIP": "198.18.7.1"},
            ]}),
            &["198.18.7.1 1->2/tcp"],
        );
        check(
            json!({"portMappings": [{"hostPort": 9000, "containerPort": 90, "range": 3, "hostIP": "::1"}]}),
            &["::1 9000->90/tcp", "::1 9001->91/tcp", "::1 9002->92/tcp"],
        );
        // The same mapping twice is one mapping.
        check(
            json!({"portMappings": [{"hostPort": 1, "containerPort": 2}, {"hostPort": 1, "containerPort": 2}]}),
            &["1->2/tcp"],
        );
    }

    #[test]
    fn refusals() {
        refused(
            json!({"portMappings": [{"hostPort": 0, "containerPort": 80}]}),
            "Invalid host port",
        );
        refused(
            json!({"portMappings": [{"hostPort": 80}]}),
            "Invalid container port",
        );
        refused(
            json!({"portMappings": [{"hostPort": 65536, "containerPort": 80}]}),
            "65536",
        );
        refused(
            json!({"portMappings": [{"hostPort": 65530, "containerPort": 80, "range": 10}]}),
            "range",
        );
        refused(
            json!({"portMappings": [{"hostPort": 1, "containerPort": 1, "range": -1}]}),
            "host port",
        );
        refused(
            json!({"portMappings": [{"hostPort": 1, "containerPort": 1, "protocol": "icmp"}]}),
            "icmp",
        );
        refused(
            json!({"portMappings": [{"hostPort": 1, "containerPort": 1, "hostIP": "'; x"}]}),
            "hostIP",
        );
        refused(
            json!({"portMappings": [{"hostPort": 1, "containerPort": 2}, {"hostPort": 1, "containerPort": 3}]}),
            "container ports 2 and 3",
        );
    }

    #[test]
    fn mark_bits() {
        assert_eq!(mark_bit(0).unwrap(), 0);
        assert_eq!(mark_bit(31).unwrap(), 31);
        assert!(mark_bit(32).is_err());
        assert!(mark_bit(-1).is_err());
    }
}
