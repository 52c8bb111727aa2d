//! Chains: what a fixed one is made of, and how chains are made, filled and removed.

use super::element::put_comment;
use super::expression::Rule;
use super::message::{Batch, Family, NLM_F_APPEND, NLM_F_CREATE, TABLE, table};
use super::uapi::*;

/// Where a base chain hangs.
pub(super) struct Hook {
    pub(super) kind: &'static str,
    pub(super) number: u32,
    pub(super) priority: i32,
}

/// A chain of fixed rules.
pub(super) struct Chain {
    pub(super) name: &'static str,
    pub(super) hook: Option<Hook>,
    /// How many other rules jump to it.
    pub(super) references: u32,
    /// `None`: the rules in it are the admin's and are left alone.
    pub(super) rules: Option<fn() -> Vec<Rule>>,
    /// How many that are: asked on every apply, when the rules themselves are not needed.
    pub(super) count: u32,
}

/// Makes a chain unless it is there.
pub(super) fn new_chain(
    batch: &mut Batch,
    family: Family,
    name: &str,
    hook: Option<&Hook>,
    comment: Option<&str>,
) {
    new_chain_of(batch, TABLE, family, name, hook, comment);
}

/// The same in a table of this name.
pub(super) fn new_chain_of(
    batch: &mut Batch,
    table: &str,
    family: Family,
    name: &str,
    hook: Option<&Hook>,
    comment: Option<&str>,
) {
    batch.push(
        NFT_MSG_NEWCHAIN,
        family,
        NLM_F_CREATE,
        format!("chain {name}"),
        |out| {
            out.cstr(NFTA_CHAIN_TABLE, table);
            out.cstr(NFTA_CHAIN_NAME, name);
            if let Some(hook) = hook {
                out.nested(NFTA_CHAIN_HOOK, |out| {
                    out.u32be(NFTA_HOOK_HOOKNUM, hook.number);
                    out.u32be(NFTA_HOOK_PRIORITY, hook.priority.cast_unsigned());
                });
                out.u32be(NFTA_CHAIN_POLICY, NF_ACCEPT.cast_unsigned());
                out.cstr(NFTA_CHAIN_TYPE, hook.kind);
            }
            if let Some(comment) = comment {
                put_comment(out, NFTA_CHAIN_USERDATA, comment);
            }
        },
    );
}

/// Empties a chain and writes its rules anew.
pub(super) fn refill(
    batch: &mut Batch,
    family: Family,
    chain: &str,
    rules: Vec<Rule>,
    comment: Option<&str>,
) {
    batch.push(
        NFT_MSG_DELRULE,
        family,
        0,
        format!("the rules of chain {chain}"),
        |out| {
            table(out);
            out.cstr(NFTA_RULE_CHAIN, chain);
        },
    );
    for rule in rules {
        let object = format!("a rule in chain {chain}");
        batch.push(
            NFT_MSG_NEWRULE,
            family,
            NLM_F_CREATE | NLM_F_APPEND,
            object,
            |out| {
                table(out);
                out.cstr(NFTA_RULE_CHAIN, chain);
                out.nested(NFTA_RULE_EXPRESSIONS, |out| out.append(rule.0.as_bytes()));
                if let Some(comment) = comment {
                    put_comment(out, NFTA_RULE_USERDATA, comment);
                }
            },
        );
    }
}

/// Removes a chain with its rules; refused with EBUSY while an element leads to it.
pub(super) fn remove_chain(batch: &mut Batch, family: Family, chain: &str) {
    batch.push(
        NFT_MSG_DELCHAIN,
        family,
        0,
        format!("chain {chain}"),
        |out| {
            table(out);
            out.cstr(NFTA_CHAIN_NAME, chain);
        },
    );
}
