//! The conversation with nf_tables: a batch and its verdict, questions and their answers.
//!
//! Framing, attributes and extended acknowledgements are those of `pontoon_netlink`. This adds what
//! a refusal is about, and that "there is no such object" is an answer.

use std::os::fd::OwnedFd;

use pontoon_netlink::attr::Attrs;
use pontoon_netlink::{Errno, Frames, NetfilterError, NetfilterSocket, Refusal, Reply};

use super::error::Error;
use super::message::{Batch, Family, MessageSubject, kind};
use super::uapi::*;

/// How often an operation is begun again when others change the same objects meanwhile.
pub(super) const TRIES: usize = 32;

/// A socket of NETLINK_NETFILTER. It stays in the network namespace it was opened in.
pub(super) struct Socket {
    inner: NetfilterSocket,
    deleted: bool,
}

/// Why a batch was not applied.
#[derive(Debug)]
pub(super) struct RefusedBatch {
    /// The kernel's reason, with its words if it has any.
    pub(super) why: Refusal,
    /// The first message refused; `None` when it was the batch as a whole.
    pub(super) subject: Option<MessageSubject>,
}

impl From<RefusedBatch> for Error {
    fn from(refused: RefusedBatch) -> Self {
        let RefusedBatch { why, subject } = refused;
        match (why.errno, subject) {
            (Errno::EPERM, _) => Self::Permission,
            (errno @ Errno::EOPNOTSUPP, None) => Self::NoNftables { errno },
            (_, Some(MessageSubject { message, object })) => Self::Refused {
                action: action(message),
                object: object.into_owned(),
                why,
            },
            (_, None) => Self::Refused {
                action: "to commit",
                object: "a transaction".to_owned(),
                why,
            },
        }
    }
}

fn action(message: u16) -> &'static str {
    match message {
        NFT_MSG_NEWTABLE | NFT_MSG_NEWCHAIN | NFT_MSG_NEWSET => "to make",
        NFT_MSG_NEWRULE | NFT_MSG_NEWSETELEM => "to add",
        NFT_MSG_DELTABLE | NFT_MSG_DELCHAIN | NFT_MSG_DELRULE | NFT_MSG_DELSETELEM => "to remove",
        _ => "to show",
    }
}

impl Socket {
    pub(super) fn open() -> Result<Self, Error> {
        let inner = NetfilterSocket::open().map_err(|source| match source.errno() {
            Some(errno @ (Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT)) => {
                Error::NoNftables { errno }
            }
            _ => Error::OpenSocket { source },
        })?;
        Ok(Self {
            inner,
            deleted: false,
        })
    }

    /// A batch that deleted something has been applied.
    pub(super) fn deleted(&self) -> bool {
        self.deleted
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        self.inner.into_fd()
    }

    /// Applies a batch as a whole, or says which message the kernel would not have. The outer
    /// error is about the socket.
    pub(super) fn commit(&mut self, batch: Batch) -> Result<Result<(), RefusedBatch>, Error> {
        if batch.is_empty() {
            return Ok(Ok(()));
        }
        let deletes = batch.deletes();
        let (mut frames, subjects) = batch.finish();
        let failure = match self.inner.send_batch(&mut frames) {
            Ok(()) => {
                self.deleted |= deletes;
                return Ok(Ok(()));
            }
            Err(NetfilterError::Socket(source)) => return Err(Error::Socket { source }),
            Err(NetfilterError::Refused(failures)) => failures.into_iter().next(),
        };
        let Some(failure) = failure else {
            return Ok(Ok(()));
        };
        // The first message only opens the transaction: no permission, no subsystem, a failed commit.
        let position = frames.position(failure.sequence).unwrap_or_default();
        let subject = position.checked_sub(1);
        Ok(Err(RefusedBatch {
            subject: subject.and_then(|index| subjects.into_iter().nth(index)),
            why: failure.into(),
        }))
    }

    /// Asks for single objects, many at a time: `count` questions, written by `build`. `None` when
    /// there is no such object.
    pub(super) fn ask(
        &mut self,
        count: usize,
        build: impl FnMut(&mut Frames, usize),
    ) -> Result<Vec<Option<Reply>>, Error> {
        let answers = self.inner.questions(count, build);
        let answers = answers.map_err(|source| Error::Socket { source })?;
        answers
            .into_iter()
            .map(|answer| match answer {
                Ok(reply) => Ok(Some(reply)),
                Err(failure) if failure.errno == Errno::ENOENT => Ok(None),
                Err(failure) => Err(Error::asking(failure.into())),
            })
            .collect()
    }

    /// Lists objects; `None` when what is to be listed does not exist. Starts over when the ruleset
    /// changes meanwhile.
    pub(super) fn list(
        &mut self,
        message: u16,
        family: Family,
        fill: impl Fn(&mut Attrs),
    ) -> Result<Option<Vec<Reply>>, Error> {
        match self.inner.dump(kind(message), &family.header(), fill) {
            Ok(found) => Ok(Some(found)),
            Err(NetfilterError::Socket(pontoon_netlink::Error::Unstable)) => Err(Error::Unstable {
                what: "a listing of the ruleset".to_owned(),
            }),
            Err(NetfilterError::Socket(source)) => Err(Error::Socket { source }),
            Err(NetfilterError::Refused(failures)) => match failures.into_iter().next() {
                Some(failure) if failure.errno == Errno::ENOENT => Ok(None),
                Some(failure) => Err(Error::asking(failure.into())),
                None => Ok(None),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::nft::chain::new_chain;
    use crate::nft::message::{NLM_F_APPEND, NLM_F_CREATE, table};
    use crate::nft::uapi::{
        NFT_MSG_NEWRULE, NFT_MSG_NEWTABLE, NFTA_RULE_CHAIN, NFTA_RULE_USERDATA,
    };

    /// User data of a rule may have 256 bytes (`NFT_USERDATA_MAXLEN`): the kernel refuses more in words.
    fn refused_rule() -> Error {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: this test needs root");
        let mut socket = Socket::open().expect("a socket");
        let mut batch = Batch::default();
        batch.push(NFT_MSG_NEWTABLE, Family::Inet, NLM_F_CREATE, "t", table);
        new_chain(&mut batch, Family::Inet, "c", None, None);
        let flags = NLM_F_CREATE | NLM_F_APPEND;
        let object = "a rule in chain c";
        batch.push(NFT_MSG_NEWRULE, Family::Inet, flags, object, |out| {
            table(out);
            out.cstr(NFTA_RULE_CHAIN, "c");
            out.bytes(NFTA_RULE_USERDATA, &[0; 300]);
        });
        match socket.commit(batch).expect("an answer") {
            Err(refused) => refused.into(),
            Ok(()) => panic!("300 bytes of user data were taken"),
        }
    }

    #[test]
    fn a_refused_rule_carries_the_kernels_words_and_its_name() {
        let error = std::thread::spawn(refused_rule).join().expect("no panic");
        let Error::Refused {
            action,
            object,
            why,
        } = &error
        else {
            panic!("{error:?}");
        };
        assert_eq!((*action, object.as_str()), ("to add", "a rule in chain c"));
        let words = why.message.as_deref().expect("words of the kernel");
        assert!(words.contains("policy validation"), "{words}");
        assert!(error.to_string().contains(words), "{error}");
    }
}
