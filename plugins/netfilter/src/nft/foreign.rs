//! Chains of others that forwarded packets have to pass as well: an accept in Pontoon's chains does not
//! override a drop in theirs, whatever the order.

use std::fmt;

use pontoon_netlink::Reply;

use super::error::Error;
use super::expression::interface;
use super::list::uses;
use super::message::{Family, TABLE, ask_chain};
use super::socket::Socket;
use super::uapi::*;

/// Table and chain that iptables-nft keeps.
const FILTER: &str = "filter";
const FORWARD: &str = "FORWARD";
const INPUT: &str = "INPUT";
/// The table of firewalld, which rejects by a rule, not by a policy.
const FIREWALLD: &str = "firewalld";
const FIREWALLD_FORWARD: &str = "filter_FORWARD";

/// A chain of another program that drops what it does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppingChain {
    /// Address family of the table, as nft writes it.
    pub family: &'static str,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
}

impl DroppingChain {
    /// Whether it is a chain of iptables itself, in which Pontoon can put its rules.
    #[must_use]
    pub fn is_iptables(&self) -> bool {
        self.table == FILTER
            && [FORWARD, INPUT].contains(&self.chain.as_str())
            && self.family != "inet"
    }
}

impl fmt::Display for DroppingChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "chain {} of table {} {}",
            self.chain, self.family, self.table
        )
    }
}

/// Where a packet meets the filters of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterHook {
    /// Into the host.
    Input = NF_INET_LOCAL_IN as isize,
    /// Through the host.
    Forward = NF_INET_FORWARD as isize,
}

impl FilterHook {
    /// The built-in chain of iptables.
    #[must_use]
    pub fn chain(self) -> &'static str {
        match self {
            Self::Input => INPUT,
            Self::Forward => FORWARD,
        }
    }
}

/// Filters of other programs that a container's packet has to pass as well, as far as a plugin can do something about
/// them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ForeignFilters {
    /// The policy of iptables-nft's FORWARD chain is to drop, in either family.
    pub forward_drops: bool,
    /// The policy of iptables-nft's INPUT chain is to drop, in either family.
    pub input_drops: bool,
    /// iptables-nft's FORWARD chain has rules, which may drop or not.
    pub forward_rules: bool,
    /// iptables-nft's INPUT chain has rules, which may drop or not.
    pub input_rules: bool,
    /// firewalld is there.
    pub firewalld: bool,
}

/// Looks for them: five questions by name, in one message.
pub(super) fn others(socket: &mut Socket) -> Result<ForeignFilters, Error> {
    let chains = [
        (Family::Ipv4, FILTER, FORWARD),
        (Family::Ipv6, FILTER, FORWARD),
        (Family::Ipv4, FILTER, INPUT),
        (Family::Ipv6, FILTER, INPUT),
        (Family::Inet, FIREWALLD, FIREWALLD_FORWARD),
    ];
    let answers = socket.ask(chains.len(), |frames, index| {
        let (family, table, chain) = chains[index];
        ask_chain(frames, family, table, chain);
    })?;
    let (iptables, firewalld) = answers.split_at(4);
    let (forward, input) = iptables.split_at(2);
    Ok(ForeignFilters {
        forward_drops: forward.iter().flatten().any(drops),
        input_drops: input.iter().flatten().any(drops),
        forward_rules: forward.iter().flatten().any(has_rules),
        input_rules: input.iter().flatten().any(has_rules),
        firewalld: firewalld.iter().any(Option::is_some),
    })
}

/// All chains of others at a hook that drop by policy, and firewalld's, in whose tables no rule names the
/// bridge. They are listed: for the first container of a network, and where the rules themselves cannot be
/// judged.
pub(super) fn obstacles(
    socket: &mut Socket,
    hook: FilterHook,
    bridge: &str,
) -> Result<Vec<DroppingChain>, Error> {
    let mut found = Vec::new();
    for family in [Family::Inet, Family::Ipv4, Family::Ipv6] {
        let chains = socket.list(NFT_MSG_GETCHAIN, family, |_| {})?;
        for chain in chains.unwrap_or_default() {
            let text = |kind| chain.attrs().get(kind).map(|attr| attr.text());
            let at = chain.attrs().path([NFTA_CHAIN_HOOK, NFTA_HOOK_HOOKNUM]);
            let at = at.and_then(|number| number.u32be());
            let (Some(table), Some(name)) = (text(NFTA_CHAIN_TABLE), text(NFTA_CHAIN_NAME)) else {
                continue;
            };
            if at != Some(hook as u32) {
                continue;
            }
            let filter = text(NFTA_CHAIN_TYPE).is_some_and(|kind| kind == "filter");
            let drops = drops(&chain) || table == FIREWALLD;
            if filter && table != TABLE && drops && !names(socket, family, &table, bridge)? {
                found.push(DroppingChain {
                    family: family.name(),
                    table,
                    chain: name,
                });
            }
        }
    }
    Ok(found)
}

/// Whether a rule of a table compares with the name of the bridge.
fn names(socket: &mut Socket, family: Family, table: &str, bridge: &str) -> Result<bool, Error> {
    let rules = socket.list(NFT_MSG_GETRULE, family, |out| {
        out.cstr(NFTA_RULE_TABLE, table)
    })?;
    let name = interface(bridge);
    let found = |rule: &Reply| {
        let mut windows = rule.payload.windows(name.len());
        windows.any(|window| window == name)
    };
    Ok(rules.unwrap_or_default().iter().any(found))
}

/// Nothing refers to a base chain, so what is counted are its rules.
fn has_rules(chain: &Reply) -> bool {
    uses(chain).is_some_and(|uses| uses > 0)
}

fn drops(chain: &Reply) -> bool {
    let policy = chain.attrs().get(NFTA_CHAIN_POLICY);
    policy.and_then(|policy| policy.u32be()) == Some(NF_DROP.cast_unsigned())
}
