//! Chains of others that forwarded packets have to pass as well: an accept of ours does not override a
//! drop of theirs, whatever the order.

use std::fmt;

use super::attr::{self, Attributes, put_str};
use super::error::Error;
use super::expression::interface;
use super::message::{Family, Verb, message};
use super::socket::Socket;

/// Table and chain that iptables-nft keeps.
const FILTER: &str = "filter";
const FORWARD: &str = "FORWARD";
/// The table of firewalld, which rejects by a rule, not by a policy.
const FIREWALLD: &str = "firewalld";
const FIREWALLD_FORWARD: &str = "filter_FORWARD";

/// A chain of somebody else that drops what it does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// Address family of the table, as nft writes it.
    pub family: &'static str,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
}

impl Obstacle {
    /// Whether it is iptables' own FORWARD chain, in which rules of ours can stand.
    #[must_use]
    pub fn is_iptables(&self) -> bool {
        self.table == FILTER && self.chain == FORWARD && self.family != "inet"
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "chain {} of table {} {}",
            self.chain, self.family, self.table
        )
    }
}

/// Whose rules a packet of ours has to pass as well, as far as we can do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Others {
    /// iptables-nft's FORWARD chain drops, in either family.
    pub forward_drops: bool,
    /// firewalld is there.
    pub firewalld: bool,
}

/// Looks for both: three questions by name.
pub(super) fn others(socket: &mut Socket) -> Result<Others, Error> {
    let chains = [
        (Family::Ipv4, FILTER, FORWARD),
        (Family::Ipv6, FILTER, FORWARD),
        (Family::Inet, FIREWALLD, FIREWALLD_FORWARD),
    ];
    let answers = socket.ask(chains.len(), |out, index, sequence| {
        let (family, table, chain) = chains[index];
        message(out, Verb::GetChain, family, 0, sequence, |out| {
            put_str(out, 1, table);
            put_str(out, 3, chain);
        });
    })?;
    let (iptables, firewalld) = answers.split_at(2);
    Ok(Others {
        forward_drops: iptables.iter().flatten().any(|chain| drops(chain)),
        firewalld: firewalld.iter().any(Option::is_some),
    })
}

/// All chains of others on the way of forwarded packets that drop by policy, and firewalld's, in whose
/// tables no rule names the bridge: whoever wrote one has taken care of it. They are listed: for
/// STATUS and the first container of a network.
pub(super) fn obstacles(socket: &mut Socket, bridge: &str) -> Result<Vec<Obstacle>, Error> {
    const HOOK_FORWARD: u32 = 2;
    let mut found = Vec::new();
    for family in [Family::Inet, Family::Ipv4, Family::Ipv6] {
        let chains = socket.list(Verb::GetChain, family, |_| {})?;
        for chain in chains.unwrap_or_default() {
            let text = |kind| Attributes::find(&chain, kind).map(attr::text);
            let hook = Attributes::path(&chain, &[4, 1]).and_then(attr::number);
            let (Some(table), Some(name), Some(HOOK_FORWARD)) = (text(1), text(3), hook) else {
                continue;
            };
            let filter = text(7).is_some_and(|kind| kind == "filter");
            let drops = drops(&chain) || table == FIREWALLD;
            if filter && table != super::TABLE && drops && !names(socket, family, &table, bridge)? {
                found.push(Obstacle {
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
    let rules = socket.list(Verb::GetRule, family, |out| put_str(out, 1, table))?;
    let name = interface(bridge);
    let found = |rule: &Vec<u8>| rule.windows(name.len()).any(|window| window == name);
    Ok(rules.unwrap_or_default().iter().any(found))
}

fn drops(chain: &[u8]) -> bool {
    const NF_DROP: u32 = 0;
    Attributes::find(chain, 5).and_then(attr::number) == Some(NF_DROP)
}
