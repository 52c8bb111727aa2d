//! CHECK: the policy, the attachment's place in it and its links are there. STATUS: an ADD could
//! succeed.

use std::net::IpAddr;

use pontoon_attach::foreign_filters::{self, CheckOutcome};
use pontoon_attach::{backends, policy, reference, rules};
use pontoon_conf::Error;
use pontoon_ledger::FirewallRecord;
use pontoon_netfilter::nft::FilterHook;
use pontoon_netfilter::{BackendKind, Ruleset};
use pontoon_netlink::RouteSocket;
use pontoon_plugin::{Context, warn};

use crate::coexist;
use crate::config::{Choice, Config};
use crate::error::{Differences, StatusError};
use crate::links::{self, NameMatch};
use crate::{plan, request, zones};

pub(crate) fn check(context: &Context) -> Result<(), Error> {
    let config = Config::from_context(context)?;
    let key = context.key()?;
    let previous = context.required_prev_result()?;
    if config.choice == Choice::None {
        return Ok(());
    }
    let failed = |differences: Vec<String>| {
        Error::from(Differences {
            network: key.network.clone(),
            container: key.container.clone(),
            differences,
        })
    };
    let Some(record) = context.state.read::<FirewallRecord>(&key)? else {
        if reference::attached_by_another(context, "firewall", &key)? {
            return Ok(());
        }
        return Err(failed(vec!["firewall has no record of it".to_owned()]));
    };
    let mut differences = Vec::new();
    if record.addresses != plan::place(previous).addresses {
        differences.push("its addresses are others than at ADD".to_owned());
    }
    let policy = request::policy(context, &config, record.bridge.as_deref())?;
    let network_policy = policy::of(context)?;
    if policy.is_some()
        && network_policy
            .as_ref()
            .map(|network_policy| &network_policy.policy)
            != policy.as_ref()
    {
        differences.push("the configuration has changed since the last ADD".to_owned());
    }
    differences.extend(zones::differences(&record, network_policy.as_ref()));
    let mut links = Vec::new();
    if record.separation.is_some() {
        let _lock = links::lock(context)?;
        let index = links::index(context);
        links = links::of(context, &index, &key, &record, NameMatch::IdFirst)?.0;
    }
    let ruleset = Ruleset {
        policy,
        member: plan::member(&key, &record),
        links,
        ..Ruleset::default()
    };
    let apart = record.separation.map(|separation| Ruleset {
        separation: Some(separation),
        ..Ruleset::default()
    });
    let companion = network_policy.and_then(|network_policy| network_policy.companion);
    let beside = companion.map(|(kind, policy)| {
        let policy = Some(policy);
        let ruleset = Ruleset {
            policy,
            ..Ruleset::default()
        };
        (kind, ruleset)
    });
    let alone = record.companion.map(|kind| {
        let member = ruleset.member.clone();
        let ruleset = Ruleset {
            member,
            ..Ruleset::default()
        };
        (kind, ruleset)
    });
    let checks = std::iter::once((record.backend, ruleset))
        .chain(beside)
        .chain(alone)
        .chain(apart.map(|ruleset| (BackendKind::Nftables, ruleset)));
    for (kind, ruleset) in checks {
        let mut backend = rules::open(context, kind)?;
        let found = backend.verify(&ruleset);
        rules::close_in_detached_child(backend.into_sockets());
        match found {
            Ok(found) => differences.extend(found),
            // Kept apart by the bridge itself then.
            Err(error) if ruleset.separation.is_some() && error.is_unsupported() => {}
            Err(error) => return Err(rules::error(error)),
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(failed(differences))
}

/// Whether the host's filters let the network's packets pass. Before its first container there is nothing
/// to ask for. What cannot be judged is said, and no failure.
fn passes(context: &Context) -> Result<(), Error> {
    let network_policy = policy::of(context)?;
    if network_policy
        .as_ref()
        .is_some_and(|network_policy| network_policy.policy.internal)
    {
        return Ok(());
    }
    let records = context.state.records_of::<FirewallRecord>();
    let network = context.config.name.as_ref();
    let mut addresses: Vec<IpAddr> = Vec::new();
    for key in records.attachments(network)? {
        let record: Option<FirewallRecord> = context.state.read(&key)?;
        let own = record.into_iter().flat_map(|record| record.addresses);
        for address in own {
            let known = |other: &IpAddr| other.is_ipv4() == address.is_ipv4();
            if !addresses.iter().any(known) {
                addresses.push(address);
            }
        }
        if addresses.len() == 2 {
            break;
        }
    }
    let Ok(mut host) = RouteSocket::open() else {
        return Ok(());
    };
    let bridge = network_policy
        .map(|network_policy| network_policy.policy.bridge)
        .or_else(|| {
            let address = addresses.first()?;
            Some(foreign_filters::interface_to(&mut host, *address)?.name)
        });
    let Some(interface) = bridge else {
        return Ok(());
    };
    let checks = foreign_filters::forwarded(&mut host, &interface, &addresses);
    match foreign_filters::judge(&context.search, FilterHook::Forward, &checks) {
        CheckOutcome::Passes => Ok(()),
        CheckOutcome::Dropped(what, drop) => Err(StatusError::Dropped {
            advice: coexist::advice_about(&drop, &interface),
            drop: drop.to_string(),
            what,
            network: network.to_string(),
        }
        .into()),
        CheckOutcome::Unknown(why) => {
            warn(format_args!(
                "firewall: warning: packets of network {network} may not pass the host's filters: {}",
                why.join("; ")
            ));
            Ok(())
        }
        CheckOutcome::Unreadable(why) => match coexist::first_dropping_chain(&interface) {
            None => Ok(()),
            Some((chain, advice)) => Err(StatusError::MayDrop {
                chain: chain.to_string(),
                advice: format!("{advice}; judged by names alone, without {why}"),
                interface,
            }
            .into()),
        },
    }
}

pub(crate) fn status(context: &Context) -> Result<(), Error> {
    let config = Config::from_context(context)?;
    let Some(asked) = config.choice.asked() else {
        return Ok(());
    };
    passes(context)?;
    backends::follow(context, asked)
        .and_then(|kind| rules::open(context, kind))
        .map(|backend| rules::close_in_detached_child(backend.into_sockets()))
        .map_err(|cause| StatusError::NotHeld { cause }.into())
}
