//! What the host needs once, however many networks and containers it has: the table, its maps and
//! sets, and the chains of fixed rules that consult them.
//!
//! It is (re)made in one transaction that creates what is missing, empties the fixed chains and
//! fills them again. Two processes doing so at once therefore leave one skeleton, not two.

use super::chain::{Chain, Hook, new_chain, refill};
use super::expression::{Compare, Meta, Rule, Verdict};
use super::message::{Batch, Family, NLM_F_CREATE, table};
use super::policy_chains::{MARKING_CHAINS, POLICY_CHAINS, SEPARATION_CHAINS};
use super::sets::{
    ALLOWED, BRIDGES, GUARD_SETS, GUARDED, MARKING_SETS, POLICY_SETS, SEPARATION_SETS, Set,
    TRANSLATION_SETS, V4, V6, write_set,
};
use super::subnets::{LOOPBACK, LOOPBACK6, MULTICAST4, MULTICAST6};
use super::uapi::{
    NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING, NF_INET_PRE_ROUTING, NFT_MSG_NEWSET, NFT_MSG_NEWTABLE,
    NFTA_TABLE_FLAGS,
};

/// What is made and looked at together: the sets and chains of one purpose. Who publishes ports pays
/// nothing for policies, and the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Masquerade, fixed sources, published ports.
    Translation,
    /// What may pass.
    Policy,
    /// Marks redirected packets for `PortIsolation`.
    Marking,
    /// The source addresses of bridge ports.
    Guard,
    /// Bridge ports that are kept apart.
    Separation,
}

impl Part {
    pub(super) fn family(self) -> Family {
        match self {
            Self::Translation | Self::Policy | Self::Marking => Family::Inet,
            Self::Guard | Self::Separation => Family::Bridge,
        }
    }

    /// The fixed chains.
    pub(super) fn chains(self) -> &'static [Chain] {
        match self {
            Self::Translation => TRANSLATION_CHAINS,
            Self::Policy => POLICY_CHAINS,
            Self::Marking => MARKING_CHAINS,
            Self::Guard => GUARD_CHAINS,
            Self::Separation => SEPARATION_CHAINS,
        }
    }

    fn sets(self) -> &'static [Set] {
        match self {
            Self::Translation => TRANSLATION_SETS,
            Self::Policy => POLICY_SETS,
            Self::Marking => MARKING_SETS,
            Self::Guard => GUARD_SETS,
            Self::Separation => SEPARATION_SETS,
        }
    }
}

/// Ordered so that a chain comes before those that jump to it.
pub(super) const TRANSLATION_CHAINS: &[Chain] = &[
    Chain {
        name: "guard",
        hook: Some(Hook {
            kind: "filter",
            number: NF_INET_PRE_ROUTING,
            priority: -300,
        }),
        references: 0,
        rules: Some(guard),
        count: 2,
    },
    Chain {
        name: "published",
        hook: None,
        references: 2,
        rules: Some(published),
        count: 8,
    },
    Chain {
        name: "prerouting",
        hook: Some(Hook {
            kind: "nat",
            number: NF_INET_PRE_ROUTING,
            priority: -100,
        }),
        references: 0,
        rules: Some(to_this_host),
        count: 1,
    },
    Chain {
        name: "output",
        hook: Some(Hook {
            kind: "nat",
            number: NF_INET_LOCAL_OUT,
            priority: -100,
        }),
        references: 0,
        rules: Some(to_this_host),
        count: 1,
    },
    Chain {
        name: "postrouting",
        hook: Some(Hook {
            kind: "nat",
            number: NF_INET_POST_ROUTING,
            priority: 100,
        }),
        references: 0,
        rules: Some(postrouting),
        count: 7,
    },
];

pub(super) const GUARD_CHAINS: &[Chain] = &[Chain {
    name: "prerouting",
    hook: Some(Hook {
        kind: "filter",
        number: NF_INET_PRE_ROUTING,
        priority: -300,
    }),
    references: 0,
    rules: Some(spoof_guard),
    count: 1,
}];

/// `127.0.0.1:port` works on the host because route_localnet is on for our bridges, which would
/// also let a neighbour send to the host's loopback address: only the host itself may. The kernel
/// drops what comes from elsewhere for `::1` by itself, but not before a bridge has shown it to our
/// chains, which would lead it to a container.
fn guard() -> Vec<Rule> {
    [LOOPBACK, LOOPBACK6]
        .map(|loopback| {
            Rule::default()
                .named(Meta::InputName, Compare::Differs, "lo")
                .address(false, Compare::Equal, loopback)
                .verdict(Verdict::Drop)
        })
        .to_vec()
}

/// The narrower key first: a port at one address of the host wins over the same port everywhere.
fn published() -> Vec<Rule> {
    let mut rules = Vec::new();
    for (v6, maps) in [(false, &V4), (true, &V6)] {
        // The resolver before all: no container that publishes port 53 is in its way.
        rules.push(Rule::default().dnat_by_map(v6, true, maps.resolver));
        rules.push(Rule::default().port_verdict(v6, maps.conditional));
        rules.push(Rule::default().dnat_by_map(v6, true, maps.ports_at));
        rules.push(Rule::default().dnat_by_map(v6, false, maps.ports));
    }
    rules
}

fn to_this_host() -> Vec<Rule> {
    vec![
        Rule::default()
            .local_destination()
            .verdict(Verdict::Jump("published")),
    ]
}

/// Redirected connections are looked at before the exception for our bridges, because hairpin
/// traffic leaves by one.
fn postrouting() -> Vec<Rule> {
    vec![
        Rule::default()
            .was_redirected()
            .address_verdict(false, false, V4.hairpin),
        Rule::default()
            .was_redirected()
            .address_verdict(true, false, V6.hairpin),
        Rule::default()
            .meta(Meta::OutputName)
            .in_set(BRIDGES)
            .verdict(Verdict::Return),
        Rule::default()
            .address(false, Compare::Equal, MULTICAST4)
            .verdict(Verdict::Return),
        Rule::default()
            .address(false, Compare::Equal, MULTICAST6)
            .verdict(Verdict::Return),
        Rule::default().address_verdict(false, true, V4.egress),
        Rule::default().address_verdict(true, true, V6.egress),
    ]
}

fn spoof_guard() -> Vec<Rule> {
    vec![
        Rule::default()
            .meta(Meta::InputName)
            .in_set(GUARDED)
            .port_and_mac_not_in(ALLOWED)
            .verdict(Verdict::Drop),
    ]
}

/// Makes a part of a table whole, whatever is left of it. `flushes` says that there was something to
/// flush, which costs a grace period when the socket is closed.
pub(super) fn build(batch: &mut Batch, part: Part, flushes: bool) {
    let (family, sets, chains) = (part.family(), part.sets(), part.chains());
    batch.push(
        NFT_MSG_NEWTABLE,
        family,
        NLM_F_CREATE,
        "the table pontoon",
        |out| {
            table(out);
            out.u32be(NFTA_TABLE_FLAGS, 0);
        },
    );
    for (id, set) in (1u32..).zip(sets) {
        batch.push(
            NFT_MSG_NEWSET,
            family,
            NLM_F_CREATE,
            format!("set {}", set.name),
            |out| {
                write_set(out, set, id);
            },
        );
    }
    for chain in chains {
        new_chain(batch, family, chain.name, chain.hook.as_ref(), None);
    }
    for chain in chains {
        if let Some(rules) = chain.rules {
            refill(batch, family, chain.name, rules(), None);
        }
    }
    if flushes {
        batch.mark_deleting();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_are_right() {
        let parts = [
            Part::Translation,
            Part::Policy,
            Part::Marking,
            Part::Guard,
            Part::Separation,
        ];
        for chain in parts.into_iter().flat_map(Part::chains) {
            let rules = chain.rules.map(|rules| rules().len());
            assert_eq!(
                rules.unwrap_or_default(),
                chain.count as usize,
                "{}",
                chain.name
            );
        }
    }
}
