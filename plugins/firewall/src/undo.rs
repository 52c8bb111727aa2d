//! Taking back what ADD has made: for an ADD that fails, for DEL and for GC.

use pontoon_attach::{backends, policy, rules, sockets};
use pontoon_conf::Error;
use pontoon_ledger::{FirewallRecord, Key, kinds};
use pontoon_netfilter::Ruleset;
use pontoon_netlink::conntrack::{Conntrack, Filter};
use pontoon_plugin::{Context, fault};

use crate::{links, plan, separate, zones};

/// Removes an attachment and, if it was the last one, the network's policy.
pub(crate) fn remove(context: &Context, key: &Key, record: &FirewallRecord) -> Result<(), Error> {
    let last = context.state.remove_attachment("firewall", key, || {
        withdraw(context, key, record)?;
        fault::point("firewall.withdrawn")
    })?;
    if last {
        retire(context)?;
    }
    fault::point("firewall.retired")
}

/// Takes away what an attachment has in the kernel and in the index.
pub(crate) fn withdraw(context: &Context, key: &Key, record: &FirewallRecord) -> Result<(), Error> {
    let mut done = links::unlink(context, key, record);
    if record.separation.is_some() {
        let mut host = sockets::of_host()?;
        done = done.and(separate::join(context, &mut host, record));
    }
    let mut backend = rules::open(context, record.backend)?;
    let own = Ruleset {
        member: plan::member(key, record),
        ..Ruleset::default()
    };
    let mut withdrawn = backend.withdraw(&own).map_err(rules::error);
    if let Some(kind) = record.companion {
        let beside = rules::open(context, kind).and_then(|mut backend| {
            let done = backend.withdraw(&own);
            rules::close_in_detached_child(backend.into_sockets());
            done.map_err(rules::error)
        });
        withdrawn = withdrawn.and(beside);
    }
    zones::leave(record);
    let addresses = record.addresses.clone();
    // A flow that was let in once is let in until it ends, and the address may soon be another
    // container's. Addresses rest before they are given out again, so no call has to wait for this.
    rules::linger_after(backend.into_sockets(), || {
        let Ok(mut conntrack) = Conntrack::open() else {
            return;
        };
        for address in &addresses {
            let ends = Filter {
                v4: address.is_ipv4(),
                ..Filter::default()
            };
            let _ = conntrack.cut(&Filter {
                original_source: Some(*address),
                ..ends
            });
            let _ = conntrack.cut(&Filter {
                reply_source: Some(*address),
                ..ends
            });
        }
    });
    done.and(withdrawn)
}

/// Removes the policy of a network without attachments. With a bridge plugin before us in the list
/// there is one still: its DEL comes last, waits a little whether a container comes, and does the same.
pub(crate) fn retire(context: &Context) -> Result<(), Error> {
    let state = &context.state;
    let network = context.config.name.as_ref();
    if state.records_of::<FirewallRecord>().has_network(network)
        || kinds::with_bridge()
            .filter_map(|kind| kind.records)
            .any(|folder| state.records(folder).has_network(network))
    {
        return Ok(());
    }
    let lock = state.lock_network(network)?;
    policy::retire(context)?;
    lock.remove();
    backends::retire(context, "firewall")
}
