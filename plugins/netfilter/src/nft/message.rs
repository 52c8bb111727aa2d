//! Transactions of nf_tables, and the questions that are asked again and again. One batch is one
//! transaction of the kernel, applied as a whole or not at all.

use std::borrow::Cow;

use pontoon_netlink::Frames;
use pontoon_netlink::attr::Attrs;

use super::uapi::{
    NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END, NFNL_SUBSYS_NFTABLES, NFPROTO_BRIDGE, NFPROTO_INET,
    NFPROTO_IPV4, NFPROTO_IPV6, NFPROTO_UNSPEC, NFT_MSG_DELCHAIN, NFT_MSG_DELSETELEM,
    NFT_MSG_DELTABLE, NFT_MSG_GETCHAIN, NFTA_CHAIN_NAME, NFTA_CHAIN_TABLE,
};

/// Address families of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Family {
    Unspecified = NFPROTO_UNSPEC,
    Inet = NFPROTO_INET,
    Ipv4 = NFPROTO_IPV4,
    Ipv6 = NFPROTO_IPV6,
    Bridge = NFPROTO_BRIDGE,
}

impl Family {
    /// The family of this number, as nft writes it.
    pub(super) fn named(number: u8) -> &'static str {
        let all = [Self::Inet, Self::Ipv4, Self::Ipv6, Self::Bridge];
        let found = all.into_iter().find(|family| *family as u8 == number);
        found.unwrap_or(Self::Unspecified).name()
    }

    /// As nft writes it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "",
            Self::Inet => "inet",
            Self::Ipv4 => "ip",
            Self::Ipv6 => "ip6",
            Self::Bridge => "bridge",
        }
    }

    /// `struct nfgenmsg`: family, version, resource.
    pub(super) fn header(self) -> [u8; 4] {
        [self as u8, 0, 0, 0]
    }
}

/// Flags of a message that makes something (linux/netlink.h).
pub(super) const NLM_F_EXCL: u16 = 0x200;
pub(super) const NLM_F_CREATE: u16 = 0x400;
pub(super) const NLM_F_APPEND: u16 = 0x800;

/// `nlmsg_type` of a message of nf_tables (`NFT_MSG_…`).
pub(super) const fn kind(message: u16) -> u16 {
    NFNL_SUBSYS_NFTABLES << 8 | message
}

/// A transaction in the making. Remembers what each message is about, so that a refusal can name
/// it.
#[derive(Default)]
pub(super) struct Batch {
    frames: Frames,
    subjects: Vec<MessageSubject>,
    deletes: bool,
}

/// What a message of a batch is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MessageSubject {
    /// What was tried: `NFT_MSG_…`.
    pub(super) message: u16,
    /// The object's name in nft's words.
    pub(super) object: Cow<'static, str>,
}

impl Batch {
    /// Appends a message (`NFT_MSG_…`) about an object.
    pub(super) fn push(
        &mut self,
        message: u16,
        family: Family,
        flags: u16,
        object: impl Into<Cow<'static, str>>,
        fill: impl FnOnce(&mut Attrs),
    ) {
        if self.subjects.is_empty() {
            self.bracket(NFNL_MSG_BATCH_BEGIN);
        }
        self.frames
            .push(kind(message), flags, &family.header(), fill);
        self.subjects.push(MessageSubject {
            message,
            object: object.into(),
        });
        self.deletes |= matches!(
            message,
            NFT_MSG_DELTABLE | NFT_MSG_DELCHAIN | NFT_MSG_DELSETELEM
        );
    }

    /// One of the two messages around a transaction: `struct nfgenmsg` carries the subsystem.
    fn bracket(&mut self, message: u16) {
        let [high, low] = NFNL_SUBSYS_NFTABLES.to_be_bytes();
        self.frames
            .push(message, 0, &[NFPROTO_UNSPEC, 0, high, low], |_| {});
    }

    pub(super) fn is_empty(&self) -> bool {
        self.subjects.is_empty()
    }

    /// Something in it makes the kernel wait for a grace period when the socket is closed.
    pub(super) fn deletes(&self) -> bool {
        self.deletes
    }

    /// For rules that are flushed on the way, which is only a delete when there were any.
    pub(super) fn mark_deleting(&mut self) {
        self.deletes = true;
    }

    /// The messages to send, and what those between the first and the last are about.
    pub(super) fn finish(mut self) -> (Frames, Vec<MessageSubject>) {
        self.bracket(NFNL_MSG_BATCH_END);
        (self.frames, self.subjects)
    }
}

/// Name of our table in each family.
pub(super) const TABLE: &str = "pontoon";

/// Names the table, first attribute of nearly every message: `NFTA_…_TABLE` is 1 in all of them.
pub(super) fn table(out: &mut Attrs) {
    out.cstr(NFTA_CHAIN_TABLE, TABLE);
}

/// Asks for a chain by its name.
pub(super) fn ask_chain(frames: &mut Frames, family: Family, table: &str, chain: &str) {
    frames.push(kind(NFT_MSG_GETCHAIN), 0, &family.header(), |out| {
        out.cstr(NFTA_CHAIN_TABLE, table);
        out.cstr(NFTA_CHAIN_NAME, chain);
    });
}
