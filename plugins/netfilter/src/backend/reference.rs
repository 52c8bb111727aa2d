//! Compatibility with the reference plugins, whose DEL must be able to delete an attachment that Pontoon made, and
//! whose attachments our DEL deletes.

use std::os::fd::OwnedFd;

use super::{Backend, Error};
use crate::Ruleset;
use crate::reference::{ReferenceAttachment, ReferencePlugin};

/// What a backend keeps for the reference plugins, and removes of theirs.
pub struct ReferenceRules<'a>(pub(super) &'a mut Backend);

impl ReferenceRules<'_> {
    /// Removes what a plugin of the reference has left of an attachment.
    ///
    /// # Errors
    /// The kernel or a program refused.
    pub fn remove(
        self,
        plugin: ReferencePlugin,
        attachment: &ReferenceAttachment,
    ) -> Result<(), Error> {
        match self.0 {
            Backend::Nftables(nft) => Ok(nft.remove_reference_rules(plugin, attachment)?),
            Backend::Iptables(iptables) => Ok(iptables.remove_reference_rules(plugin, attachment)?),
        }
    }

    /// Makes the chain that the reference's bridge and ptp must find to delete an attachment that Pontoon made
    /// with addresses of these families. Their nftables needs none.
    ///
    /// # Errors
    /// A program refused.
    pub fn create_chain(
        self,
        attachment: &ReferenceAttachment,
        v4: bool,
        v6: bool,
    ) -> Result<(), Error> {
        match self.0 {
            Backend::Nftables(_) => Ok(()),
            Backend::Iptables(iptables) => Ok(iptables.create_reference_chain(attachment, v4, v6)?),
        }
    }

    /// Removes the chain of [`Self::create_chain`]. The socket is better closed later: closing it may wait
    /// for a grace period of the kernel.
    ///
    /// # Errors
    /// The kernel or a program refused.
    pub fn delete_chain(self, attachment: &ReferenceAttachment) -> Result<Option<OwnedFd>, Error> {
        match self.0 {
            Backend::Nftables(_) => Ok(None),
            Backend::Iptables(iptables) => Ok(iptables.delete_reference_chain(attachment)?),
        }
    }

    /// As [`Backend::withdraw`]; with published ports goes the chain of [`Self::create_chain`], where that
    /// costs no program more.
    ///
    /// # Errors
    /// As [`Backend::withdraw`].
    pub fn withdraw_with_chain(
        self,
        ruleset: &Ruleset,
        attachment: Option<&ReferenceAttachment>,
    ) -> Result<(), Error> {
        match self.0 {
            Backend::Nftables(nft) => Ok(nft.withdraw(ruleset)?),
            Backend::Iptables(iptables) => {
                Ok(iptables.withdraw_with_reference_chain(ruleset, attachment)?)
            }
        }
    }
}
