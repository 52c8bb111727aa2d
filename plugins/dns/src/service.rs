//! `args.cni.service`: the service that the container is one of. The record says so, and the agent of a host among several
//! does the rest.

use pontoon_conf::{ConfigError, Error, KnownAs, excerpt};
use pontoon_dns::name::Name;
use pontoon_dns::record::{Service, ServiceMode, ServicePort};
use pontoon_netfilter::Protocol;
use pontoon_plugin::Context;
use serde::Deserialize;

/// What stands before a service's name for the addresses of its containers.
const TASKS: &str = "tasks.";
const KEY: &str = "args.cni.service";
/// As many ports as one service may have.
const MOST: usize = 64;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Args {
    service: Option<Said>,
}

/// A name, or a name with more.
#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    Name(String),
    Keys(Keys),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Keys {
    name: String,
    #[serde(default)]
    ports: Vec<PortKeys>,
    #[serde(default)]
    mode: Option<String>,
    #[serde(default)]
    affinity: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PortKeys {
    port: u16,
    target_port: Option<u16>,
    protocol: Option<String>,
}

/// The service that the runtime names; `None` when it names none.
///
/// # Errors
/// Code 7 with what of it cannot be.
pub(crate) fn service(context: &Context) -> Result<Option<Service>, Error> {
    let args: Args = context.config.args_cni()?;
    let keys = match args.service {
        None => return Ok(None),
        Some(Said::Name(name)) => Keys {
            name,
            ports: Vec::new(),
            mode: None,
            affinity: false,
        },
        Some(Said::Keys(keys)) => keys,
    };
    Ok(Some(keys.judged()?))
}

impl Keys {
    fn judged(self) -> Result<Service, ConfigError> {
        let fit = |name: &KnownAs| Name::parse(name.as_str()).is_some();
        let known: Option<KnownAs> = self.name.parse().ok();
        let Some(name) = known.filter(fit) else {
            return Err(refused(format!(
                "\"{}\" can be no domain name",
                excerpt(&self.name)
            )));
        };
        if name.as_str().starts_with(TASKS) {
            return Err(refused(format!(
                "\"{name}\" begins with \"{TASKS}\", which stands before the name of a service for its containers"
            )));
        }
        if self.ports.len() > MOST {
            let count = self.ports.len();
            return Err(refused(format!("{count} ports, where {MOST} are allowed")));
        }
        let mode = match self.mode.as_deref() {
            None | Some("" | "vip") => ServiceMode::Vip,
            Some("dnsrr") => ServiceMode::Dnsrr,
            Some(other) => {
                let key = format!("{KEY}.mode");
                return Err(ConfigError::unsupported(key, other, "vip or dnsrr"));
            }
        };
        let ports = self.ports.iter().map(PortKeys::judged);
        let mut ports = ports.collect::<Result<Vec<_>, _>>()?;
        ports.sort_unstable();
        let same = |pair: &[ServicePort]| {
            pair[0].port == pair[1].port && pair[0].protocol == pair[1].protocol
        };
        if let Some(pair) = ports.windows(2).find(|pair| same(pair)) {
            let ServicePort { port, protocol, .. } = pair[0];
            return Err(refused(format!("port {port}/{protocol} is there twice")));
        }
        if mode == ServiceMode::Dnsrr && !ports.is_empty() {
            let what = "\"ports\" are those of an address of its own, which mode \"dnsrr\" has not";
            return Err(refused(what.to_owned()));
        }
        Ok(Service {
            name: name.to_string(),
            ports,
            mode,
            affinity: self.affinity,
        })
    }
}

impl PortKeys {
    fn judged(&self) -> Result<ServicePort, ConfigError> {
        let protocol = match self.protocol.as_deref() {
            None | Some("" | "tcp") => Protocol::Tcp,
            Some("udp") => Protocol::Udp,
            Some("sctp") => Protocol::Sctp,
            Some(other) => {
                let key = format!("{KEY}.ports.protocol");
                return Err(ConfigError::unsupported(key, other, "tcp, udp or sctp"));
            }
        };
        let target = self.target_port.unwrap_or(self.port);
        if self.port == 0 || target == 0 {
            return Err(refused("0 can be no port".to_owned()));
        }
        Ok(ServicePort {
            protocol,
            port: self.port,
            target,
        })
    }
}

fn refused(why: String) -> ConfigError {
    ConfigError::key(KEY, why).with_next_step(
        "it is a name, or an object with \"name\", \"ports\", \"mode\" and \"affinity\": see the README of pontoon-node",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(said: Value) -> Result<Option<Service>, String> {
        let config = json!({
            "cniVersion": "1.0.0", "name": "lan", "type": "dns", "args": { "cni": { "service": said } },
        });
        let context = Context::to_judge(config.to_string().as_bytes()).unwrap();
        service(&context).map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_is_enough() {
        let service = read(json!("Web")).unwrap().unwrap();
        assert_eq!((service.name.as_str(), service.affinity), ("web", false));
        assert!(service.ports.is_empty());
        assert_eq!(service.mode, ServiceMode::Vip);
        assert_eq!(read(Value::Null), Ok(None));
    }

    #[test]
    fn ports_have_a_target_and_a_protocol() {
        let ports = json!([{ "port": 80, "targetPort": 8080 }, { "port": 80, "protocol": "udp" }]);
        let said = json!({ "name": "web", "ports": ports, "affinity": true });
        let service = read(said).unwrap().unwrap();
        let port = |protocol, target| ServicePort {
            protocol,
            port: 80,
            target,
        };
        assert_eq!(
            service.ports,
            [port(Protocol::Tcp, 8080), port(Protocol::Udp, 80)]
        );
        assert!(service.affinity);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let twice = json!([{ "port": 80 }, { "port": 80, "targetPort": 81 }]);
        for (said, part) in [
            (json!("no name"), "no domain name"),
            (json!("tasks.web"), "tasks."),
            (
                json!({ "name": "web", "ports": [{ "port": 0 }] }),
                "no port",
            ),
            (json!({ "name": "web", "ports": twice }), "twice"),
            (json!({ "name": "web", "mode": "ipvs" }), "vip or dnsrr"),
            (
                json!({ "name": "web", "mode": "dnsrr", "ports": [{ "port": 80 }] }),
                "dnsrr",
            ),
            (json!({ "name": "web", "port": 80 }), "service"),
            (json!(5), "service"),
        ] {
            let error = read(said).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
