//! Traffic control: a token bucket on the way out of a link, and a redirection of what comes in by one, so that another
//! link's bucket holds it.

use netlink_packet_core::{Emitable, NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL};
use nix::errno::Errno;

use crate::attr::{self, Attrs};
use crate::error::Error;
use crate::frame::Frame;
use crate::route::RouteSocket;

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;
/// `struct tcmsg`.
const HEADER: usize = 20;

const ROOT: u32 = 0xffff_ffff;
const INGRESS: u32 = 0xffff_fff1;
/// The handle of Pontoon's token bucket, `1:`, as the reference plugin has it.
const BUCKET: u32 = 0x0001_0000;
/// The handle that an ingress qdisc has, `ffff:`.
const INGRESS_HANDLE: u32 = 0xffff_0000;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
const TCA_U32_CLASSID: u16 = 1;
const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_MIRRED_PARMS: u16 = 2;

/// `TC_LINKLAYER_ETHERNET`: the kernel computes what the old tables told it.
const ETHERNET: u8 = 1;
/// Of a u32 selector: a match ends the search.
const TERMINAL: u8 = 1;
/// The packet is the other link's now.
const STOLEN: u32 = 4;
const EGRESS_REDIRECT: u32 = 1;
/// Of a filter: priority 1, every protocol.
const EVERY_PROTOCOL: u32 = 1 << 16 | (libc::ETH_P_ALL as u16).to_be() as u32;

/// A token bucket filter (tc-tbf(8)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenBucket {
    /// Bytes per second.
    pub rate: u64,
    /// Size of the bucket in bytes. A packet that is larger never passes.
    pub burst: u32,
    /// How many bytes may wait, the bucket's size included.
    pub limit: u32,
}

/// What the way out of a link is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qdisc {
    /// `tbf`, `noqueue`, `pfifo_fast`, ...
    pub kind: String,
    /// The rate in bytes per second, of a token bucket.
    pub rate: Option<u64>,
    /// How many bytes may wait, of a token bucket.
    pub limit: Option<u32>,
    /// Time that fills the bucket, in ticks of 64 ns, of a token bucket.
    pub buffer: Option<u32>,
}

/// A message of traffic control, ready to be sent.
struct Message(Vec<u8>);

impl Emitable for Message {
    fn buffer_len(&self) -> usize {
        self.0.len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        buffer[..self.0.len()].copy_from_slice(&self.0);
    }
}

fn message(
    index: u32,
    handle: u32,
    parent: u32,
    info: u32,
    fill: impl FnOnce(&mut Attrs),
) -> Message {
    let mut bytes = vec![0; 4];
    for word in [index, handle, parent, info] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    let mut attrs = Attrs::continuing(bytes);
    fill(&mut attrs);
    Message(attrs.into_bytes())
}

fn bucket(index: u32, bucket: &TokenBucket) -> Message {
    message(index, BUCKET, ROOT, 0, |out| {
        out.cstr(TCA_KIND, "tbf");
        out.nested(TCA_OPTIONS, |out| {
            // struct tc_tbf_qopt: rate and peak rate (struct tc_ratespec), limit, buffer, MTU. The size of the bucket
            // comes in bytes below, so that no tick of the clock rounds it or overflows.
            let mut options = [0; 36];
            options[1] = ETHERNET;
            let short = u32::try_from(bucket.rate).unwrap_or(u32::MAX);
            options[8..12].copy_from_slice(&short.to_ne_bytes());
            options[24..28].copy_from_slice(&bucket.limit.to_ne_bytes());
            out.bytes(TCA_TBF_PARMS, &options);
            if u64::from(short) != bucket.rate {
                out.bytes(TCA_TBF_RATE64, &bucket.rate.to_ne_bytes());
            }
            out.u32(TCA_TBF_BURST, bucket.burst);
        });
    })
}

fn redirection(from: u32, to: u32) -> Message {
    message(from, 0, INGRESS_HANDLE, EVERY_PROTOCOL, |out| {
        out.cstr(TCA_KIND, "u32");
        out.nested(TCA_OPTIONS, |out| {
            out.u32(TCA_U32_CLASSID, BUCKET | 1);
            out.nested(TCA_U32_ACT, |out| {
                out.nested(1, |out| {
                    out.cstr(TCA_ACT_KIND, "mirred");
                    out.nested(TCA_ACT_OPTIONS, |out| {
                        // struct tc_mirred: index, capabilities, action, two counts, what to do, link.
                        let mut options = Vec::new();
                        for word in [0, 0, STOLEN, 0, 0, EGRESS_REDIRECT, to] {
                            options.extend_from_slice(&word.to_ne_bytes());
                        }
                        out.bytes(TCA_MIRRED_PARMS, &options);
                    });
                });
            });
            // struct tc_u32_sel with one key whose mask is empty: everything matches.
            let mut selector = [0; 32];
            (selector[0], selector[2]) = (TERMINAL, 1);
            out.bytes(TCA_U32_SEL, &selector);
        });
    })
}

pub(crate) fn read_qdisc(frame: Frame<'_>) -> Option<Qdisc> {
    let attrs = attr::read(frame.payload.get(HEADER..)?);
    let mut qdisc = Qdisc {
        kind: attrs.clone().get(TCA_KIND)?.text(),
        rate: None,
        limit: None,
        buffer: None,
    };
    if frame.kind != RTM_NEWQDISC || qdisc.kind != "tbf" {
        return (frame.kind == RTM_NEWQDISC).then_some(qdisc);
    }
    let options = attrs.get(TCA_OPTIONS)?.nested();
    let parameters = options.clone().get(TCA_TBF_PARMS)?.value;
    let word = |at: usize| -> Option<u32> {
        let bytes = parameters.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_ne_bytes(bytes))
    };
    let long = options.get(TCA_TBF_RATE64);
    let long = long.and_then(|rate| Some(u64::from_ne_bytes(rate.value.try_into().ok()?)));
    qdisc.rate = long.or(word(8).map(u64::from));
    (qdisc.limit, qdisc.buffer) = (word(24), word(28));
    Some(qdisc)
}

/// The link that a filter redirects to.
pub(crate) fn read_redirection(frame: Frame<'_>) -> Option<u32> {
    let attrs = attr::read(frame.payload.get(HEADER..)?);
    let actions = attrs.get(TCA_OPTIONS)?.nested().get(TCA_U32_ACT)?;
    actions.nested().find_map(|action| {
        let options = action.nested().get(TCA_ACT_OPTIONS)?.nested();
        let parameters = options.clone().get(TCA_MIRRED_PARMS)?.value;
        Some(u32::from_ne_bytes(parameters.get(24..28)?.try_into().ok()?))
    })
}

impl RouteSocket {
    /// Puts a token bucket on the way out of a link that has none.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn add_token_bucket(&mut self, index: u32, spec: &TokenBucket) -> Result<(), Error> {
        self.new_qdisc("add a token bucket to", index, &bucket(index, spec))
    }

    /// Redirects all that comes in by a link to the way out of another.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn redirect_ingress(&mut self, from: u32, to: u32) -> Result<(), Error> {
        let ingress = message(from, INGRESS_HANDLE, INGRESS, 0, |out| {
            out.cstr(TCA_KIND, "ingress");
        });
        self.new_qdisc("add an ingress qdisc to", from, &ingress)?;
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        match self.act(RTM_NEWTFILTER, flags, &redirection(from, to))? {
            None => Ok(()),
            Some(failure) => Err(Error::kernel(
                "redirect what comes in by",
                format!("interface number {from}"),
                failure,
            )),
        }
    }

    fn new_qdisc(&mut self, action: &str, index: u32, message: &Message) -> Result<(), Error> {
        match self.act(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, message)? {
            None => Ok(()),
            Some(failure) => Err(Error::kernel(
                action,
                format!("interface number {index}"),
                failure,
            )),
        }
    }

    /// Takes our token bucket off the way out of a link; false when there is none.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn remove_token_bucket(&mut self, index: u32) -> Result<bool, Error> {
        self.delete_qdisc(index, BUCKET, ROOT)
    }

    /// Takes the redirection of what comes in by a link away, and every other filter there; false when there is none.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn remove_ingress(&mut self, index: u32) -> Result<bool, Error> {
        self.delete_qdisc(index, INGRESS_HANDLE, INGRESS)
    }

    fn delete_qdisc(&mut self, index: u32, handle: u32, parent: u32) -> Result<bool, Error> {
        let message = message(index, handle, parent, 0, |_| {});
        match self.act(RTM_DELQDISC, 0, &message)? {
            None => Ok(true),
            // No qdisc but the default; another one than ours; no link.
            Some(failure)
                if matches!(failure.errno, Errno::ENOENT | Errno::EINVAL | Errno::ENODEV) =>
            {
                Ok(false)
            }
            Some(failure) => Err(Error::kernel(
                "delete a qdisc of",
                format!("interface number {index}"),
                failure,
            )),
        }
    }

    /// The way out of a link; none when the link is gone.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn root_qdisc(&mut self, index: u32) -> Result<Option<Qdisc>, Error> {
        let question = message(index, 0, ROOT, 0, |_| {});
        // The answer is a notification, which the kernel sends to the asking socket only with NLM_F_ECHO.
        match self.ask(RTM_GETQDISC, NLM_F_ECHO, &question, read_qdisc)? {
            Ok(found) => Ok(found.into_iter().next()),
            Err(failure) if matches!(failure.errno, Errno::ENOENT | Errno::ENODEV) => Ok(None),
            Err(failure) => Err(Error::kernel(
                "find the qdisc of",
                format!("interface number {index}"),
                failure,
            )),
        }
    }

    /// Where what comes in by a link is redirected to.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn ingress_redirection(&mut self, index: u32) -> Result<Option<u32>, Error> {
        let question = message(index, 0, INGRESS_HANDLE, 0, |_| {});
        match self.dump("filters", RTM_GETTFILTER, &question, read_redirection) {
            Ok(found) => Ok(found.into_iter().next()),
            Err(error)
                if matches!(
                    error.errno(),
                    Some(Errno::ENOENT | Errno::EINVAL | Errno::ENODEV)
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(message: &Message, words: &[u32]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let got = |bytes: &[u8]| -> Vec<String> {
            bytes.chunks(4).map(|word| format!("{word:02x?}")).collect()
        };
        assert_eq!(got(&message.0), got(&bytes));
    }

    /// Words are written as they lie in memory on a little-endian machine.
    #[test]
    #[cfg(target_endian = "little")]
    fn a_bucket_as_tc_writes_it() {
        let spec = TokenBucket {
            rate: 125_000,
            burst: 0x8000,
            limit: 0x1_0000,
        };
        check(
            &bucket(7, &spec),
            &[
                0x0000_0000,
                0x0700_0000,
                0x0000_0100,
                0xffff_ffff,
                0x0000_0000, // tcmsg
                0x0800_0100,
                0x7462_6600, // "tbf"
                0x3400_0280,
                0x2800_0100, // options, parameters
                0x0001_0000,
                0x0000_0000,
                0x48e8_0100, // rate, Ethernet
                0x0000_0000,
                0x0000_0000,
                0x0000_0000, // peak rate
                0x0000_0100,
                0x0000_0000,
                0x0000_0000, // limit, buffer, MTU
                0x0800_0600,
                0x0080_0000, // burst
            ],
        );
        // 40 Gbit/s is more bytes a second than 32 bits hold.
        let fast = TokenBucket {
            rate: 5_000_000_000,
            ..spec
        };
        let bytes = bucket(7, &fast).0;
        assert!(bytes.windows(4).any(|word| word == u32::MAX.to_ne_bytes()));
        let long = [12, 0, TCA_TBF_RATE64 as u8, 0];
        let at = bytes
            .windows(4)
            .position(|word| word == long)
            .expect("the long rate");
        assert_eq!(bytes[at + 4..at + 12], 5_000_000_000u64.to_ne_bytes());
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_redirection_as_tc_writes_it() {
        check(
            &redirection(7, 9),
            &[
                0x0000_0000,
                0x0700_0000,
                0x0000_0000,
                0x0000_ffff,
                0x0003_0100, // tcmsg
                0x0800_0100,
                0x7533_3200, // "u32"
                0x6800_0280, // options
                0x0800_0100,
                0x0100_0100, // class 1:1
                0x3800_0780,
                0x3400_0180, // actions, the first
                0x0b00_0100,
                0x6d69_7272,
                0x6564_0000, // "mirred"
                0x2400_0280,
                0x2000_0200, // options, parameters
                0x0000_0000,
                0x0000_0000,
                0x0400_0000,
                0x0000_0000, // index, capabilities, stolen
                0x0000_0000,
                0x0100_0000,
                0x0900_0000, // redirect, to
                0x2400_0500, // selector with one empty key
                0x0100_0100,
                0x0000_0000,
                0x0000_0000,
                0x0000_0000,
                0x0000_0000,
                0x0000_0000,
                0x0000_0000,
                0x0000_0000,
            ],
        );
    }
}
