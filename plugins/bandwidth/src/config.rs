//! The keys of the plugin, all of them the reference's. Rates are bits a second and bursts bits, as
//! they are for the capability `bandwidth`.

use pontoon_conf::{ConfigError, Error, NetworkConfig, keys};
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Runtime {
    bandwidth: Option<keys::Bandwidth>,
}

/// What the container may receive and send; a direction without a limit is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) ingress: Option<Limit>,
    pub(crate) egress: Option<Limit>,
}

/// The limit of one direction, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    /// Bytes a second.
    pub(crate) rate: u64,
    /// Bytes.
    pub(crate) burst: u32,
}

/// The limits that the configuration sets; if it has none of the keys, those of the runtime.
pub(crate) fn limits(config: &NetworkConfig) -> Result<Limits, Error> {
    let keys: keys::Bandwidth = config.keys()?;
    let written = [
        keys.ingress_rate,
        keys.ingress_burst,
        keys.egress_rate,
        keys.egress_burst,
    ];
    let keys = if written.iter().any(Option::is_some) {
        keys
    } else {
        config.runtime::<Runtime>()?.bandwidth.unwrap_or_default()
    };
    Ok(Limits {
        ingress: limit("ingress", keys.ingress_rate, keys.ingress_burst)?,
        egress: limit("egress", keys.egress_rate, keys.egress_burst)?,
    })
}

fn limit(
    direction: &str,
    rate: Option<u64>,
    burst: Option<u64>,
) -> Result<Option<Limit>, ConfigError> {
    let invalid = |what: &'static str| {
        ConfigError::refused(what).with_next_step(format!(
            "keys \"{direction}Rate\" (bits a second) and \"{direction}Burst\" (bits)"
        ))
    };
    match (rate.unwrap_or_default(), burst.unwrap_or_default()) {
        (0, 0) => Ok(None),
        (_, 0) => Err(invalid("if rate is set, burst must also be set")),
        (0, _) => Err(invalid("if burst is set, rate must also be set")),
        (1..8, _) => Err(invalid("rate must be at least 8 bits a second")),
        (rate, burst) => match u32::try_from(burst / 8) {
            Ok(burst) if burst < u32::MAX => Ok(Some(Limit {
                rate: rate / 8,
                burst,
            })),
            _ => Err(invalid("burst cannot be more than 4GB")),
        },
    }
}

#[cfg(test)]
mod tests {
    use pontoon_conf::Verb;
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(keys: Value, expected: Result<[Option<(u64, u32)>; 2], &str>) {
        let mut document = json!({ "cniVersion": "1.0.0", "name": "net", "type": "bandwidth" });
        for (key, value) in keys.as_object().into_iter().flatten() {
            document[key] = value.clone();
        }
        let config = NetworkConfig::parse(document.to_string().as_bytes(), Verb::Add).unwrap();
        let pair = |limit: Option<Limit>| limit.map(|limit| (limit.rate, limit.burst));
        match (limits(&config), expected) {
            (Ok(got), Ok(expected)) => {
                assert_eq!([pair(got.ingress), pair(got.egress)], expected, "{keys}");
            }
            (Err(error), Err(part)) => assert!(error.msg.contains(part), "{error}"),
            (got, _) => panic!("{got:?} for {keys}"),
        }
    }

    #[test]
    fn bits_become_bytes() {
        let both = json!({ "ingressRate": 8000, "ingressBurst": 80, "egressRate": 16000, "egressBurst": 160 });
        check(both, Ok([Some((1000, 10)), Some((2000, 20))]));
        check(json!({}), Ok([None, None]));
        check(
            json!({ "ingressRate": 0, "ingressBurst": 0 }),
            Ok([None, None]),
        );
        check(
            json!({ "EgressRate": 8, "EgressBurst": 8 }),
            Ok([None, Some((1, 1))]),
        );
    }

    #[test]
    fn the_configuration_counts_before_the_runtime() {
        // As containerd sends it.
        let runtime = json!({ "bandwidth": { "IngressRate": 10_000_000, "IngressBurst": 4_294_967_295u64, "EgressRate": 0, "EgressBurst": 0 } });
        check(
            json!({ "runtimeConfig": runtime }),
            Ok([Some((1_250_000, 536_870_911)), None]),
        );
        check(
            json!({ "runtimeConfig": runtime, "ingressRate": 8000, "ingressBurst": 80 }),
            Ok([Some((1000, 10)), None]),
        );
        check(
            json!({ "runtimeConfig": { "bandwidth": null } }),
            Ok([None, None]),
        );
    }

    #[test]
    fn pairs_only() {
        check(
            json!({ "ingressRate": 8000 }),
            Err("if rate is set, burst must also be set"),
        );
        check(
            json!({ "egressBurst": 8000 }),
            Err("if burst is set, rate must also be set"),
        );
        check(
            json!({ "egressRate": 7, "egressBurst": 8 }),
            Err("at least 8 bits"),
        );
        check(
            json!({ "egressRate": 8, "egressBurst": 8 * u64::from(u32::MAX) }),
            Err("burst cannot be more than 4GB"),
        );
    }
}
