//! A table that one part of Pontoon writes as a whole, in one transaction, when what it was made of has changed. A digest
//! of that is its comment.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use nix::errno::Errno;
use sha2::{Digest, Sha256};

use super::chain::{Hook, new_chain_of};
use super::element::{Data, comment, put_comment, write_data};
use super::error::Error;
use super::expression::Rule;
use super::message::{Batch, Family, NLM_F_APPEND, NLM_F_CREATE, kind};
use super::sets::{ElementData, Field, write_shape};
use super::socket::Socket;
use super::uapi::*;

/// Elements in one message.
const PER_MESSAGE: usize = 200;

/// What had to be done about a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableChange {
    /// It was as it should be.
    None,
    /// There was none.
    Made,
    /// It held something else.
    Replaced,
}

/// A set or map with its elements.
pub(super) struct OwnSet {
    pub(super) name: String,
    pub(super) key: &'static [Field],
    pub(super) carries: ElementData,
    pub(super) elements: BTreeMap<Vec<u8>, Data>,
}

/// A chain with its rules; one without a hook is jumped to.
pub(super) struct OwnChain {
    pub(super) name: String,
    pub(super) hook: Option<Hook>,
    pub(super) rules: Vec<Rule>,
}

/// All that a table holds.
pub(super) struct OwnTable {
    pub(super) name: String,
    pub(super) sets: Vec<OwnSet>,
    pub(super) chains: Vec<OwnChain>,
}

impl OwnTable {
    /// The same for the same contents.
    fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for set in &self.sets {
            hash.update(&set.name);
            for (key, data) in &set.elements {
                hash.update(key);
                hash.update(format!("{data:?}"));
            }
        }
        for chain in &self.chains {
            hash.update(&chain.name);
            if let Some(hook) = &chain.hook {
                hash.update(hook.priority.to_be_bytes());
            }
            for rule in &chain.rules {
                hash.update(rule.0.as_bytes());
                hash.update([0]);
            }
        }
        let mut text = String::from("pontoon ");
        for byte in hash.finalize().iter().take(8) {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// Makes the kernel's table this one.
    pub(super) fn apply(&self, socket: &mut Socket) -> Result<TableChange, Error> {
        let digest = self.digest();
        let there = comment_of(socket, &self.name)?;
        if there.as_ref() == Some(&digest) {
            return Ok(TableChange::None);
        }
        let table = self.name.as_str();
        let mut batch = Batch::default();
        if there.is_some() {
            remove_table(&mut batch, table);
        }
        batch.push(
            NFT_MSG_NEWTABLE,
            Family::Inet,
            NLM_F_CREATE,
            format!("the table {table}"),
            |out| {
                out.cstr(NFTA_TABLE_NAME, table);
                out.u32be(NFTA_TABLE_FLAGS, 0);
                put_comment(out, NFTA_TABLE_USERDATA, &digest);
            },
        );
        // Elements lead to chains, rules to sets.
        for chain in &self.chains {
            let hook = chain.hook.as_ref();
            new_chain_of(&mut batch, table, Family::Inet, &chain.name, hook, None);
        }
        for (id, set) in (1u32..).zip(&self.sets) {
            let object = format!("set {}", set.name);
            batch.push(NFT_MSG_NEWSET, Family::Inet, NLM_F_CREATE, object, |out| {
                out.cstr(NFTA_CHAIN_TABLE, table);
                out.cstr(NFTA_SET_NAME, &set.name);
                write_shape(out, set.key, set.carries, 0, id);
            });
            self.push_elements(&mut batch, set);
        }
        for chain in &self.chains {
            for rule in &chain.rules {
                let object = format!("a rule in chain {} of {table}", chain.name);
                let flags = NLM_F_CREATE | NLM_F_APPEND;
                batch.push(NFT_MSG_NEWRULE, Family::Inet, flags, object, |out| {
                    out.cstr(NFTA_RULE_TABLE, table);
                    out.cstr(NFTA_RULE_CHAIN, &chain.name);
                    out.nested(NFTA_RULE_EXPRESSIONS, |out| out.append(rule.0.as_bytes()));
                });
            }
        }
        socket.commit(batch)??;
        Ok(match there {
            Some(_) => TableChange::Replaced,
            None => TableChange::Made,
        })
    }

    fn push_elements(&self, batch: &mut Batch, set: &OwnSet) {
        let elements: Vec<_> = set.elements.iter().collect();
        for elements in elements.chunks(PER_MESSAGE) {
            let object = format!("elements of set {}", set.name);
            let flags = NLM_F_CREATE;
            batch.push(NFT_MSG_NEWSETELEM, Family::Inet, flags, object, |out| {
                out.cstr(NFTA_CHAIN_TABLE, &self.name);
                out.cstr(NFTA_SET_ELEM_LIST_SET, &set.name);
                out.nested(NFTA_SET_ELEM_LIST_ELEMENTS, |out| {
                    for (key, data) in elements {
                        out.nested(NFTA_LIST_ELEM, |out| {
                            out.nested(NFTA_SET_ELEM_KEY, |out| out.bytes(NFTA_DATA_VALUE, key));
                            write_data(out, data);
                        });
                    }
                });
            });
        }
    }
}

/// The comment of a table; `None` when there is no such table.
fn comment_of(socket: &mut Socket, table: &str) -> Result<Option<String>, Error> {
    let answers = socket.ask(1, |frames, _| {
        let header = Family::Inet.header();
        frames.push(kind(NFT_MSG_GETTABLE), 0, &header, |out| {
            out.cstr(NFTA_TABLE_NAME, table);
        });
    })?;
    let Some(Some(reply)) = answers.into_iter().next() else {
        return Ok(None);
    };
    let user_data = reply.attrs().get(NFTA_TABLE_USERDATA);
    Ok(Some(user_data.and_then(comment).unwrap_or_default()))
}

fn remove_table(batch: &mut Batch, table: &str) {
    batch.push(
        NFT_MSG_DELTABLE,
        Family::Inet,
        0,
        format!("the table {table}"),
        |out| out.cstr(NFTA_TABLE_NAME, table),
    );
}

/// Removes a table. False when there was none.
pub(super) fn remove(socket: &mut Socket, table: &str) -> Result<bool, Error> {
    if comment_of(socket, table)?.is_none() {
        return Ok(false);
    }
    let mut batch = Batch::default();
    remove_table(&mut batch, table);
    match socket.commit(batch)? {
        Ok(()) => Ok(true),
        Err(refusal) if refusal.subject.is_some() && refusal.why.errno == Errno::ENOENT => {
            Ok(false)
        }
        Err(refusal) => Err(refusal.into()),
    }
}
