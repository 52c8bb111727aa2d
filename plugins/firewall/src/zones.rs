//! firewalld on the same host: the bridge goes into a zone that lets packets pass, `trusted` unless
//! the key `firewalldZone` names another, and out of it with the network. Who is on no bridge goes
//! there by address, as the reference plugin has it.

use std::net::IpAddr;

use pontoon_attach::rules;
use pontoon_conf::Error;
use pontoon_ledger::{FirewallRecord, Key, NetworkPolicyRecord};
use pontoon_netfilter::firewalld::Part;
use pontoon_plugin::{Context, fault, warn};

use crate::config::{Choice, Config};
use crate::error::{ZoneError, next_step};
use crate::plan;
use crate::request::{PolicyRequest, change};

/// Enters the zone where firewalld is there, or has to be. Noted before it is done. A firewalld that
/// only happens to be there and refuses is said; STATUS says it again.
pub(crate) fn enter(
    context: &Context,
    request: &mut PolicyRequest,
    there: bool,
) -> Result<(), Error> {
    let (zone, must) = request.zone.clone();
    if !there && !must {
        return Ok(());
    }
    let bridge = request.policy.as_ref().map(|policy| policy.bridge.clone());
    let former = request
        .network_policy
        .as_ref()
        .and_then(|network_policy| network_policy.zone.clone());
    let moves = former.as_ref() != Some(&zone);
    if bridge.is_none() {
        request.record.zone = Some(zone.clone());
        context.state.write(&request.key, &request.record)?;
    } else if moves {
        change(context, request, |network_policy| {
            network_policy.zone = Some(zone.clone())
        })?;
    }
    fault::point("firewall.zoned")?;
    let done = rules::firewalld().and_then(|mut bus| {
        let parts = parts(bridge.as_deref(), &request.record);
        if let Some(former) = former.filter(|_| moves) {
            parts
                .iter()
                .try_for_each(|part| bus.leave(&former, *part))?;
        }
        // Also when it is there as far as we know: a reload of firewalld forgets it.
        parts.iter().try_for_each(|part| bus.enter(&zone, *part))
    });
    match done {
        Ok(()) => Ok(()),
        Err(reason) if must => Err(ZoneError { zone, reason }.into()),
        Err(error) => {
            warn(format_args!(
                "firewall: zone {zone} of firewalld: {error}: {}",
                next_step(&error)
            ));
            Ok(())
        }
    }
}

/// Takes the addresses of an attachment out again.
pub(crate) fn leave(record: &FirewallRecord) {
    let Some(zone) = &record.zone else {
        return;
    };
    let done = rules::firewalld().and_then(|mut bus| {
        let mut parts = parts(None, record).into_iter();
        parts.try_for_each(|part| bus.leave(zone, part))
    });
    if let Err(error) = done {
        // One that does not answer has forgotten, or is not there any more.
        warn(format_args!("firewall: zone {zone} of firewalld: {error}"));
    }
}

/// Takes out what the reference plugin has put in: it keeps no record, but the result has the addresses. One
/// that an attachment of Pontoon has by now stays.
pub(crate) fn leave_unrecorded(context: &Context, key: &Key) {
    let (Ok(config), Some(previous)) = (Config::from_context(context), &context.config.prev_result)
    else {
        return;
    };
    let possible = matches!(config.choice, Choice::Firewalld | Choice::Rules(None));
    let Some(mut bus) = possible.then(rules::firewalld).and_then(Result::ok) else {
        return;
    };
    for address in plan::place(previous).addresses {
        let part = Part::Source(address);
        if !bus.holds(&config.zone, part).unwrap_or(false) || is_anothers(context, key, address) {
            continue;
        }
        if let Err(error) = bus.leave(&config.zone, part) {
            warn(format_args!(
                "firewall: zone {} of firewalld: {error}",
                config.zone
            ));
        }
    }
}

fn is_anothers(context: &Context, key: &Key, address: IpAddr) -> bool {
    let records = context.state.records_of::<FirewallRecord>();
    // Records that cannot be read may be of this address: then it stays.
    let Ok(others) = records.attachments(&key.network) else {
        return true;
    };
    let mut others = others.into_iter().filter(|other| other != key);
    others.any(|other| match context.state.read::<FirewallRecord>(&other) {
        Ok(record) => record
            .is_some_and(|record| record.zone.is_some() && record.addresses.contains(&address)),
        Err(_) => true,
    })
}

/// What is missing in the zone, in words.
pub(crate) fn differences(
    record: &FirewallRecord,
    network_policy: Option<&NetworkPolicyRecord>,
) -> Vec<String> {
    let noted = network_policy.and_then(|network_policy| {
        Some((network_policy.zone.as_ref()?, &network_policy.policy.bridge))
    });
    let (zone, bridge) = match (&record.zone, noted) {
        (Some(zone), _) => (zone, None),
        (None, Some((zone, bridge))) => (zone, Some(bridge.as_str())),
        (None, None) => return Vec::new(),
    };
    let mut bus = match rules::firewalld() {
        Ok(bus) => bus,
        Err(error) => return vec![error.to_string()],
    };
    let lacks = |part| match bus.holds(zone, part) {
        Ok(true) => None,
        Ok(false) => Some(format!("zone {zone} of firewalld lacks {}", name(part))),
        Err(error) => Some(error.to_string()),
    };
    parts(bridge, record)
        .into_iter()
        .filter_map(lacks)
        .collect()
}

fn parts<'a>(bridge: Option<&'a str>, record: &FirewallRecord) -> Vec<Part<'a>> {
    match bridge {
        Some(bridge) => vec![Part::Interface(bridge)],
        None => record.addresses.iter().copied().map(Part::Source).collect(),
    }
}

fn name(part: Part<'_>) -> String {
    match part {
        Part::Interface(name) => format!("interface {name}"),
        Part::Source(address) => format!("source {address}"),
    }
}
