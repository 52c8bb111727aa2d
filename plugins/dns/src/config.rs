//! The keys of the plugin, and the capabilities `aliases`, `dns` and `links`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use pontoon_conf::{AddResult, ConfigError, Error, KnownAs, excerpt, keys};
use pontoon_dns::name::{Name, is_localhost};
use pontoon_dns::record::{Domain, Link, Service, Upstream};
use pontoon_dns::zone::DOMAIN;
use pontoon_plugin::Context;
use serde::Deserialize;
use serde_json::Value;

use crate::service;

/// Time to live of answers, in seconds, when the key is absent.
const TTL: u32 = 5;
/// Longest time to live, in seconds: a day.
const LONGEST_TTL: u32 = 86_400;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Runtime {
    dns: DnsKeys,
    links: Vec<keys::Link>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DnsKeys {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

/// The keys as they are meant.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) backend: Option<String>,
    pub(crate) domain: String,
    /// Names of the container, what it is called first.
    pub(crate) names: Vec<String>,
    pub(crate) links: Vec<Link>,
    pub(crate) ttl: u32,
    /// Servers of the container's own.
    pub(crate) servers: Vec<IpAddr>,
    pub(crate) searches: Vec<String>,
    pub(crate) options: Vec<String>,
    /// Servers of the network.
    pub(crate) upstreams: Vec<Upstream>,
    /// Servers of the network for names below a domain.
    pub(crate) domains: Vec<Domain>,
    /// File of the certificate authorities of servers over TLS.
    pub(crate) upstreams_ca: Option<PathBuf>,
    pub(crate) resolv_conf: PathBuf,
    pub(crate) probe: bool,
    /// Whether the embedded resolver serves this network.
    pub(crate) serve: bool,
    pub(crate) etc_netns: bool,
    /// The service that the container is one of.
    pub(crate) service: Option<Service>,
    /// What was given as a name and can be none.
    pub(crate) unfit: Vec<String>,
}

impl Config {
    pub(crate) fn from_context(context: &Context) -> Result<Self, Error> {
        let keys: keys::DnsPlugin = context.config.keys()?;
        let runtime: Runtime = context.config.runtime()?;
        for (what, list) in [
            ("servers", &runtime.dns.servers),
            ("searches", &runtime.dns.searches),
            ("options", &runtime.dns.options),
        ] {
            refuse_more_than_most(&format!("capability dns, {what}"), list.len())?;
        }
        let backend = keys.backend.filter(|backend| !backend.is_empty());
        if let Some(other) = backend.as_deref()
            && !matches!(other, "iptables" | "nftables")
        {
            return Err(ConfigError::unsupported("backend", other, "iptables or nftables").into());
        }
        let serve = match keys.serve.as_deref().unwrap_or("gateway") {
            "" | "gateway" => true,
            "none" => false,
            other => return Err(ConfigError::unsupported("serve", other, "gateway or none").into()),
        };
        let domain = [keys.domain, keys.domain_name]
            .into_iter()
            .flatten()
            .find(|domain| !domain.is_empty())
            .unwrap_or_else(|| DOMAIN.to_owned());
        match Name::parse(&domain) {
            None => {
                return Err(ConfigError::key(
                    "domain",
                    format!("\"{}\" is no domain name", excerpt(&domain)),
                )
                .into());
            }
            Some(name) if is_localhost(name.wire()) => {
                return Err(ConfigError::key(
                    "domain",
                    format!(
                        "\"{}\" always means the asking machine itself (RFC 6761)",
                        excerpt(&domain)
                    ),
                )
                .with_next_step("containers would never find names in it")
                .into());
            }
            Some(_) => {}
        }
        let ttl = keys.ttl.unwrap_or(TTL.into());
        let ttl = u32::try_from(ttl)
            .ok()
            .filter(|ttl| *ttl <= LONGEST_TTL)
            .ok_or_else(|| {
                ConfigError::key(
                    "ttl",
                    format!("{ttl} is not between 0 and {LONGEST_TTL} seconds"),
                )
            })?;
        let resolv_conf: PathBuf = keys
            .resolv_conf
            .filter(|path| !path.is_empty())
            .unwrap_or_else(|| "/etc/resolv.conf".to_owned())
            .into();
        absolute("resolvConf", &resolv_conf)?;
        let upstreams_ca = keys.upstreams_ca.filter(|path| !path.is_empty());
        let upstreams_ca = upstreams_ca.map(PathBuf::from);
        if let Some(path) = &upstreams_ca {
            absolute("upstreamsCa", path)?;
        }
        let (known, refused) = KnownAs::of(&context.invocation, &context.config);
        let mut unfit: Vec<String> = refused.iter().map(ToString::to_string).collect();
        let mut names = Vec::new();
        let id = context.invocation.container_id.as_ref();
        for name in known.iter().map(KnownAs::as_str) {
            if Name::parse(name).is_some() {
                names.push(name.to_owned());
            } else if id.is_none_or(|id| id.as_str() != name) {
                // A container id of 64 characters is longer than a label; its short form serves.
                unfit.push(format!("{} can be no domain name", excerpt(name)));
            }
        }
        let mut links = Vec::new();
        for link in keys.links.into_iter().chain(runtime.links) {
            if link.alias.is_empty() || link.container.is_empty() {
                continue;
            }
            let fit = |name: &str| Name::parse(name).is_some_and(|name| !is_localhost(name.wire()));
            if let Some(bad) = [&link.alias, &link.container]
                .into_iter()
                .find(|name| !fit(name))
            {
                unfit.push(format!(
                    "the link to {:?} as {:?} is left out: {:?} can be no name of a container",
                    excerpt(&link.container),
                    excerpt(&link.alias),
                    excerpt(bad)
                ));
                continue;
            }
            links.push(Link {
                target: link.container,
                alias: link.alias,
            });
        }
        let (servers, domains) = upstreams(keys.upstreams.as_ref())?;
        if !serve && !domains.is_empty() {
            unfit.push(
                "key \"upstreams\": servers of single domains are the resolver's to ask, and \"serve\" is \"none\""
                    .to_owned(),
            );
        }
        let config = Self {
            backend,
            domain,
            names,
            links,
            ttl,
            servers: addresses("runtimeConfig.dns.servers", &runtime.dns.servers)?,
            searches: runtime.dns.searches,
            options: runtime.dns.options,
            upstreams: servers,
            domains,
            upstreams_ca,
            resolv_conf,
            probe: keys.probe,
            serve,
            etc_netns: keys.etc_netns,
            service: service::service(context)?,
            unfit,
        };
        if !serve {
            config.refuse_unserved("\"serve\" is \"none\"")?;
        }
        Ok(config)
    }

    /// The first server that is asked over TLS.
    pub(crate) fn over_tls(&self) -> Option<&Upstream> {
        let of_domains = self.domains.iter().flat_map(|domain| &domain.servers);
        let mut servers = self.upstreams.iter().chain(of_domains);
        servers.find(|server| server.tls.is_some())
    }

    /// Refuses servers over TLS where the container asks its servers by itself, in plain text.
    ///
    /// # Errors
    /// When there is one. `why` says what the resolver is missing.
    pub(crate) fn refuse_unserved(&self, why: &str) -> Result<(), ConfigError> {
        let Some(server) = self.over_tls() else {
            return Ok(());
        };
        Err(
            ConfigError::key("upstreams", format!("only the resolver asks {server} over TLS, and {why}"))
                .with_next_step("without the resolver the container would ask in plain text: let it serve the network, or name plain addresses"),
        )
    }
}

/// A list is looked through for each of its entries.
fn refuse_more_than_most(what: &str, count: usize) -> Result<(), ConfigError> {
    if count > AddResult::MOST {
        let most = AddResult::MOST;
        return Err(ConfigError::refused(format!(
            "{what}: {count} entries, where {most} are allowed"
        ))
        .with_next_step("a server that is silent costs a question a second: name a few"));
    }
    Ok(())
}

/// A list of servers, or an object with a list for each domain; "." is everything else.
fn upstreams(value: Option<&Value>) -> Result<(Vec<Upstream>, Vec<Domain>), ConfigError> {
    let list = |key: &str, value: &Value| -> Result<Vec<Upstream>, ConfigError> {
        let texts: Option<Vec<String>> = value.as_array().and_then(|list| {
            list.iter()
                .map(|one| one.as_str().map(str::to_owned))
                .collect()
        });
        let texts = texts.ok_or_else(|| {
            ConfigError::refused(format!("key \"{key}\" is no list of IP addresses"))
                .with_next_step(
                    "it takes a list of addresses, or an object with a list for each domain",
                )
        })?;
        refuse_more_than_most(&format!("key \"{key}\""), texts.len())?;
        servers(key, &texts)
    };
    let Some(Value::Object(object)) = value else {
        return match value {
            None | Some(Value::Null) => Ok((Vec::new(), Vec::new())),
            Some(value) => Ok((list("upstreams", value)?, Vec::new())),
        };
    };
    let (mut rest, mut domains) = (Vec::new(), Vec::new());
    for (name, value) in object {
        let key = format!("upstreams.{}", excerpt(name));
        let servers = list(&key, value)?;
        if name == "." {
            rest = servers;
            continue;
        }
        if Name::parse(name).is_none() {
            return Err(ConfigError::key(
                "upstreams",
                format!("\"{}\" is no domain name", excerpt(name)),
            ));
        }
        if servers.is_empty() {
            return Err(ConfigError::refused(format!(
                "key \"{key}\" names no server"
            )));
        }
        domains.push(Domain {
            name: name.clone(),
            servers,
        });
    }
    Ok((rest, domains))
}

fn absolute(key: &str, path: &Path) -> Result<(), ConfigError> {
    if path.is_absolute() {
        return Ok(());
    }
    let path = path.display().to_string();
    Err(ConfigError::key(
        key.to_owned(),
        format!("{} is no absolute path", excerpt(&path)),
    ))
}

fn servers(key: &str, texts: &[String]) -> Result<Vec<Upstream>, ConfigError> {
    let texts = texts.iter().map(|text| text.trim());
    texts
        .filter(|text| !text.is_empty())
        .map(|text| {
            text.parse().map_err(|error| {
                ConfigError::key(key.to_owned(), format!("\"{}\" {error}", excerpt(text)))
                    .with_next_step(
                        "a server is an IP address, asked at port 53, or tls://ADDRESS[:PORT]#NAME",
                    )
            })
        })
        .collect()
}

fn addresses(key: &str, texts: &[String]) -> Result<Vec<IpAddr>, ConfigError> {
    let read = |text: &String| {
        pontoon_conf::address(text.trim()).map_err(|error| {
            ConfigError::key(
                key.to_owned(),
                format!("\"{}\" is no IP address", excerpt(text)),
            )
            .quoting(error)
            .with_next_step("servers are given by address, and asked at port 53")
        })
    };
    texts
        .iter()
        .filter(|text| !text.trim().is_empty())
        .map(read)
        .collect()
}
