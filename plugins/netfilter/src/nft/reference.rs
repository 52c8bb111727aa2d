//! Rules of the reference plugins' own tables, found by their comments and deleted by their handles.

use std::os::fd::OwnedFd;

use super::element;
use super::error::Error;
use super::message::{Batch, Family, NLM_F_CREATE, ask_chain};
use super::socket::Socket;
use super::uapi::*;
use crate::reference::{ReferenceAttachment, ReferencePlugin};

/// A chain in which a plugin has rules.
type Place = (Family, &'static str, &'static str);

const MASQUERADE: [Place; 1] = [(Family::Inet, "cni_plugins_masquerade", "masq_checks")];
const SPOOF_TABLE: &str = "nat";
const SPOOF: Place = (Family::Bridge, SPOOF_TABLE, "PREROUTING");
const HOSTPORT: &str = "cni_hostport";
const PORTS: [Place; 6] = [
    (Family::Ipv4, HOSTPORT, "hostports"),
    (Family::Ipv4, HOSTPORT, "hostip_hostports"),
    (Family::Ipv4, HOSTPORT, "masquerading"),
    (Family::Ipv6, HOSTPORT, "hostports"),
    (Family::Ipv6, HOSTPORT, "hostip_hostports"),
    (Family::Ipv6, HOSTPORT, "masquerading"),
];

/// Removes what a plugin has left of an attachment. Another process may remove the same at the same time:
/// then it is gone, and the rest is looked for again.
pub(super) fn remove(
    socket: &mut Socket,
    plugin: ReferencePlugin,
    attachment: &ReferenceAttachment,
) -> Result<(), Error> {
    const TRIES: usize = 5;
    for _ in 0..TRIES {
        let mut batch = Batch::default();
        match plugin {
            ReferencePlugin::BridgeOrPtp => {
                let masquerade = attachment.comment();
                for place in MASQUERADE {
                    find(socket, place, &mut batch, |comment| {
                        comment.starts_with(&masquerade)
                    })?;
                }
                guard(socket, attachment, &mut batch)?;
            }
            // Theirs tell containers apart, not networks.
            ReferencePlugin::Portmap => {
                for place in PORTS {
                    find(socket, place, &mut batch, |comment| {
                        comment == attachment.owner.container
                    })?;
                }
            }
            // It knows no nftables.
            ReferencePlugin::Firewall => {}
        }
        if socket.commit(batch)?.is_ok() {
            break;
        }
    }
    Ok(())
}

/// `macspoofchk`: the jump, then the chain that it leads to, then the one behind that.
fn guard(
    socket: &mut Socket,
    attachment: &ReferenceAttachment,
    batch: &mut Batch,
) -> Result<(), Error> {
    let comment = format!("macspoofchk-{}", attachment.guarded());
    if !find(socket, SPOOF, batch, |found| found == comment)? {
        return Ok(());
    }
    for suffix in ["", "-mac"] {
        let chain = format!("cni-br-iface-{}{suffix}", attachment.guarded());
        let object = format!("chain {chain}");
        batch.push(NFT_MSG_DELCHAIN, Family::Bridge, 0, object, |out| {
            out.cstr(NFTA_CHAIN_TABLE, SPOOF_TABLE);
            out.cstr(NFTA_CHAIN_NAME, &chain);
        });
    }
    Ok(())
}

/// Makes an empty chain in these tables of one name. `false`: nothing was changed.
pub(crate) fn make_chain(v4: bool, v6: bool, table: &str, chain: &str) -> bool {
    let mut batch = Batch::default();
    for family in families(v4, v6) {
        let object = format!("chain {chain}");
        batch.push(NFT_MSG_NEWCHAIN, family, NLM_F_CREATE, object, |out| {
            out.cstr(NFTA_CHAIN_TABLE, table);
            out.cstr(NFTA_CHAIN_NAME, chain);
        });
    }
    let done = Socket::open().and_then(|mut socket| socket.commit(batch));
    matches!(done, Ok(Ok(())))
}

/// Deletes a chain that nothing leads to from the tables of this name. `None`: it could not be done, and
/// nothing was changed. The socket is better closed later.
pub(crate) fn delete_chain(table: &str, chain: &str) -> Option<Option<OwnedFd>> {
    let mut socket = Socket::open().ok()?;
    let both = [Family::Ipv4, Family::Ipv6];
    let answers = socket
        .ask(both.len(), |frames, index| {
            ask_chain(frames, both[index], table, chain);
        })
        .ok()?;
    let mut batch = Batch::default();
    for (family, there) in both.into_iter().zip(&answers) {
        if there.is_some() {
            let object = format!("chain {chain}");
            batch.push(NFT_MSG_DELCHAIN, family, 0, object, |out| {
                out.cstr(NFTA_CHAIN_TABLE, table);
                out.cstr(NFTA_CHAIN_NAME, chain);
            });
        }
    }
    if batch.is_empty() {
        return Some(None);
    }
    match socket.commit(batch) {
        Ok(Ok(())) => Some(Some(socket.into_fd())),
        _ => None,
    }
}

fn families(v4: bool, v6: bool) -> impl Iterator<Item = Family> {
    let v4 = v4.then_some(Family::Ipv4);
    v4.into_iter().chain(v6.then_some(Family::Ipv6))
}

/// Orders the deletion of the rules of a chain whose comment is wanted; whether there were any.
fn find(
    socket: &mut Socket,
    (family, table, chain): Place,
    batch: &mut Batch,
    wanted: impl Fn(&str) -> bool,
) -> Result<bool, Error> {
    let rules = socket.list(NFT_MSG_GETRULE, family, |out| {
        out.cstr(NFTA_RULE_TABLE, table);
        out.cstr(NFTA_RULE_CHAIN, chain);
    })?;
    let mut any = false;
    for rule in rules.unwrap_or_default() {
        let comment = rule.attrs().get(NFTA_RULE_USERDATA);
        let comment = comment.and_then(element::comment);
        let handle = rule.attrs().get(NFTA_RULE_HANDLE);
        if let (Some(comment), Some(handle)) = (comment, handle)
            && wanted(&comment)
        {
            any = true;
            let object = format!("rule of chain {chain} of table {} {table}", family.name());
            batch.push(NFT_MSG_DELRULE, family, 0, object, |out| {
                out.cstr(NFTA_RULE_TABLE, table);
                out.cstr(NFTA_RULE_CHAIN, chain);
                out.bytes(NFTA_RULE_HANDLE, handle.value);
            });
            batch.mark_deleting();
        }
    }
    Ok(any)
}
