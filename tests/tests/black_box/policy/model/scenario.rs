//! What is right: who is attached, and who may reach what. It knows nothing of rules.

use pontoon_lab::Protocol;
use proptest::prelude::*;

/// How many containers there are, attached or not.
pub(crate) const CONTAINERS: usize = 20;
/// How many networks.
pub(crate) const NETWORKS: usize = 3;
/// The port that links allow.
pub(crate) const LINKED: u16 = 80;
/// Another one that every container listens at.
pub(crate) const UNLINKED: u16 = 81;

/// What a network promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PolicyCase {
    Open,
    Docker,
    IccOff,
    Internal,
}

/// One step of a sequence. Containers and networks are numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// ADD. One that is attached already leaves first: its successor has the same name.
    Join {
        who: usize,
        network: usize,
        link: Option<usize>,
        publish: bool,
    },
    /// DEL, also of one that is not attached or was killed.
    Leave(usize),
    /// The namespace goes, without a DEL.
    Kill(usize),
    /// All tables are flushed.
    Flush,
}

/// A sequence, and the host that it happens on.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) stances: [PolicyCase; NETWORKS],
    pub(crate) bridge_nf_call: bool,
    /// What is flushed at the end is repaired by the command, or by one more ADD of each network.
    pub(crate) repair: bool,
    pub(crate) steps: Vec<Step>,
}

pub(crate) fn scenarios() -> impl Strategy<Value = Scenario> {
    let stance = prop_oneof![
        2 => Just(PolicyCase::Open),
        2 => Just(PolicyCase::Docker),
        3 => Just(PolicyCase::IccOff),
        1 => Just(PolicyCase::Internal),
    ];
    let who = 0..CONTAINERS;
    let link = proptest::option::weighted(0.6, 0..CONTAINERS);
    let join = (who.clone(), 0..NETWORKS, link, any::<bool>()).prop_map(
        |(who, network, link, publish)| Step::Join {
            who,
            network,
            link,
            publish,
        },
    );
    let step = prop_oneof![
        12 => join,
        3 => who.clone().prop_map(Step::Leave),
        1 => who.prop_map(Step::Kill),
        1 => Just(Step::Flush),
    ];
    let steps = proptest::collection::vec(step, 8..30);
    (
        [stance.clone(), stance.clone(), stance],
        any::<bool>(),
        any::<bool>(),
        steps,
    )
        .prop_map(|(stances, bridge_nf_call, repair, steps)| Scenario {
            stances,
            bridge_nf_call,
            repair,
            steps,
        })
}

/// One container that is attached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guest {
    pub(crate) network: usize,
    pub(crate) link: Option<usize>,
    pub(crate) published: bool,
}

/// Who is where, by the container's number.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) stances: [PolicyCase; NETWORKS],
    pub(crate) guests: [Option<Guest>; CONTAINERS],
}

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// Beyond the uplink; it sends containers' addresses to the host too.
    Outside,
    Host,
    Container(usize),
}

/// What it sends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    /// A container's own address.
    Container(usize, u16),
    /// The host's address, at the port that this container publishes.
    Published(usize),
    World,
}

impl Model {
    /// Whether it must arrive. Where not, it must not.
    pub(crate) fn arrives(&self, from: From, to: To, protocol: Protocol) -> bool {
        let of = |who: usize| self.guests[who].map(|guest| self.stances[guest.network]);
        let kept_in =
            |from| matches!(from, From::Container(who) if of(who) == Some(PolicyCase::Internal));
        match to {
            To::World => !kept_in(from),
            To::Published(who) => {
                self.guests[who].is_some_and(|guest| guest.published) && !kept_in(from)
            }
            To::Container(who, port) => match (from, self.guests[who]) {
                (_, None) => false,
                (From::Host, Some(_)) => true,
                (From::Outside, Some(_)) => of(who) == Some(PolicyCase::Open),
                (From::Container(sender), Some(guest)) => {
                    self.between(sender, who, guest, protocol, port)
                }
            },
        }
    }

    fn between(
        &self,
        sender: usize,
        receiver: usize,
        there: Guest,
        protocol: Protocol,
        port: u16,
    ) -> bool {
        let Some(here) = self.guests[sender] else {
            return false;
        };
        if sender == receiver {
            return true;
        }
        if here.network != there.network {
            return [here, there]
                .iter()
                .all(|guest| self.stances[guest.network] == PolicyCase::Open);
        }
        let linked = here.link == Some(receiver) && port == LINKED && protocol != Protocol::Icmp;
        self.stances[here.network] != PolicyCase::IccOff || linked
    }
}
