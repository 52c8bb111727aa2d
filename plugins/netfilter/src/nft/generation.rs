//! The number of the rule set: it grows with each transaction that changes something, whatever program sends
//! it (`NFT_MSG_GETGEN`). It tells whether a program that says success has changed anything.

use pontoon_netlink::NetfilterSocket;

use super::message::{Family, kind};
use super::uapi::{NFT_MSG_GETGEN, NFTA_GEN_ID};

/// The number of the rule set of the calling thread's namespace; `None` when the kernel does not tell.
pub(crate) fn generation() -> Option<u32> {
    let mut socket = NetfilterSocket::open_for_questions().ok()?;
    let header = Family::Ipv4.header();
    let answers = socket.request(kind(NFT_MSG_GETGEN), &header, |_| {}).ok()?;
    answers.first()?.attrs().get(NFTA_GEN_ID)?.u32be()
}
