//! What the reference plugins have left in iptables' tables, and what they need of us to find.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use super::error::Error;
use super::family::FamilyTables;
use super::legacy::legacy_tables;
use super::restore::Variant;
use super::text::{Family, Rule, Table};
use super::{Iptables, hostport, quick_check};
use crate::nft::reference as nft;
use crate::reference::{ReferenceAttachment, ReferencePlugin};

/// The chain of the reference's firewall for what its containers may do.
const FORWARD: &str = "CNI-FORWARD";

impl Iptables {
    /// Removes what a plugin has left of an attachment. Costs no program where nothing is.
    ///
    /// # Errors
    /// A program failed.
    pub fn remove_reference_rules(
        &mut self,
        plugin: ReferencePlugin,
        attachment: &ReferenceAttachment,
    ) -> Result<(), Error> {
        match plugin {
            ReferencePlugin::BridgeOrPtp => {
                let chain = attachment.chain();
                self.installed(|tables| {
                    if tables.may_have(Table::Nat, &chain) {
                        tables.forget_masquerade(&chain)?;
                    }
                    Ok(())
                })
            }
            ReferencePlugin::Portmap => {
                let chain =
                    hostport::chain_name(&attachment.owner.network, &attachment.owner.container);
                let tag = attachment.owner.tag();
                self.installed(|tables| {
                    if tables.may_have(Table::Nat, &chain) {
                        tables.forget_ports(&chain, &tag)?;
                    }
                    Ok(())
                })
            }
            ReferencePlugin::Firewall => self.installed(|tables| {
                if attachment.addresses.is_empty() || !tables.may_have(Table::Filter, FORWARD) {
                    return Ok(());
                }
                tables.forget_forward(&attachment.addresses)
            }),
        }
    }

    /// Makes the chain that the reference's DEL flushes and deletes with its masquerade: without one
    /// it fails, and it could not delete an attachment that Pontoon made. One for each family in which the
    /// container has an address.
    ///
    /// # Errors
    /// A program failed.
    pub fn create_reference_chain(
        &mut self,
        attachment: &ReferenceAttachment,
        v4: bool,
        v6: bool,
    ) -> Result<(), Error> {
        let chain = attachment.chain();
        if self.variant() == Variant::Nft && nft::make_chain(v4, v6, Table::Nat.name(), &chain) {
            return Ok(());
        }
        self.installed(|tables| match tables.family() {
            Family::V4 if v4 => tables.create_empty(&chain),
            Family::V6 if v6 => tables.create_empty(&chain),
            _ => Ok(()),
        })
    }

    /// Removes the chain of [`Iptables::create_reference_chain`]. A socket is better closed later.
    ///
    /// # Errors
    /// A program failed.
    pub fn delete_reference_chain(
        &mut self,
        attachment: &ReferenceAttachment,
    ) -> Result<Option<OwnedFd>, Error> {
        if self.variant() == Variant::Nft
            && let Some(done) = nft::delete_chain(Table::Nat.name(), &attachment.chain())
        {
            return Ok(done);
        }
        let chain = attachment.chain();
        self.installed(|tables| {
            if !tables.may_have(Table::Nat, &chain) || tables.delete_empty(&chain)? {
                return Ok(());
            }
            tables.forget_masquerade(&chain)
        })
        .map(|()| None)
    }
}

impl FamilyTables<'_> {
    /// Whether there may be such a chain: `false` is certain.
    fn may_have(&self, table: Table, chain: &str) -> bool {
        match self.variant() {
            Variant::Nft => quick_check::has_chain(self.family(), table, chain) != Some(false),
            Variant::Legacy => {
                let tables = legacy_tables(self.family() == Family::V4);
                tables.is_none_or(|names| names.iter().any(|name| name == table.name()))
            }
        }
    }

    /// The two rules that the reference's firewall makes for an address. They name no owner; ours
    /// carry a comment.
    fn forget_forward(&self, addresses: &[IpAddr]) -> Result<(), Error> {
        let family = self.family();
        let mut wanted = Vec::new();
        for address in addresses {
            let prefix = match (family, address) {
                (Family::V4, IpAddr::V4(_)) => 32,
                (Family::V6, IpAddr::V6(_)) => 128,
                _ => continue,
            };
            wanted.extend([
                format!(
                    "-d {address}/{prefix} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
                ),
                format!("-s {address}/{prefix} -j ACCEPT"),
            ]);
        }
        let wanted = wanted.into_iter().map(|spec| Rule::new(FORWARD, spec));
        self.delete_rules(
            Table::Filter,
            wanted,
            "remove rules of the reference's firewall",
        )
    }
}
