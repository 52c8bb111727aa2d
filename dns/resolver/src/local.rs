//! The resolver's own answers in hickory's types: everything but the prepared ones. Knows neither socket nor
//! clock.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};

use hickory_proto::op::{Edns, Metadata, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR, SOA};
use hickory_proto::rr::{Name, RData, Record};
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::net::NetError;
use hickory_server::net::runtime::{Time, TokioTime};
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::{MessageResponse, MessageResponseBuilder};
use pontoon_dns::answer::Verdict;
use pontoon_dns::name::labels;
use pontoon_dns::wire::{self, HEADER, Query, Rcode, UDP_MOST};

/// Bytes of our OPT record.
const OPT: usize = 11;
/// The option that stands for those that hickory cannot read: the first one for local use (RFC 6891
/// section 9).
const UNREAD: u16 = 65_001;

/// Why a packet is no query that can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidQuery {
    /// No DNS message, or a response: to be dropped.
    Drop,
    /// A message that deserves this code, with nothing else in the reply.
    Reply(Rcode),
}

/// Reads a packet with hickory's decoder. What stands behind the question is for the server that is
/// asked: where hickory cannot read it, the request says the question and the fields of EDNS alone.
///
/// # Errors
/// What is to be done instead of answering.
pub fn read(packet: &[u8], from: SocketAddr, by_udp: bool) -> Result<Request, InvalidQuery> {
    if packet.len() < HEADER || wire::flags(packet) & wire::flag::QR != 0 {
        return Err(InvalidQuery::Drop);
    }
    if wire::flags(packet) & wire::flag::OPCODE != 0 {
        return Err(InvalidQuery::Reply(Rcode::NotImp));
    }
    if packet.get(4..6) != Some(&[0, 1]) {
        return Err(InvalidQuery::Reply(Rcode::FormErr));
    }
    // Who cannot spell a question is no resolver.
    if wire::question(packet).is_none() {
        return Err(InvalidQuery::Drop);
    }
    let protocol = if by_udp { Protocol::Udp } else { Protocol::Tcp };
    let read = |packet| Request::from_bytes(packet, from, protocol);
    read(packet.to_vec())
        .ok()
        .or_else(|| read(plain(packet)?).ok())
        .ok_or(InvalidQuery::Reply(Rcode::FormErr))
}

/// The same question without records, but for an OPT record with one empty option in the place of
/// those that are there. `None` when the records do not fill the packet, or two of them are OPT (RFC
/// 6891 section 6.1.1).
fn plain(packet: &[u8]) -> Option<Vec<u8>> {
    let (.., end) = wire::question(packet)?;
    let records = wire::entries(packet)?;
    let mut options = records.iter().filter(|entry| entry.kind == wire::kind::OPT);
    let mut plain = packet.get(..end)?.to_vec();
    plain.get_mut(6..HEADER)?.fill(0);
    if let Some(entry) = options.next() {
        *plain.get_mut(HEADER - 1)? = 1;
        plain.extend_from_slice(&[0]);
        plain.extend_from_slice(&entry.kind.to_be_bytes());
        plain.extend_from_slice(&entry.class.to_be_bytes());
        plain.extend_from_slice(&entry.ttl.to_be_bytes());
        plain.extend_from_slice(&[0, 4]);
        plain.extend_from_slice(&UNREAD.to_be_bytes());
        plain.extend_from_slice(&[0, 0]);
    }
    options.next().is_none().then_some(plain)
}

/// The question of a request that was read from `packet`, as the parts see it that decide.
#[must_use]
pub fn query<'a>(request: &Request, packet: &'a [u8]) -> Option<Query<'a>> {
    let edns = request.edns.as_ref().map(|edns| wire::Edns {
        size: edns.max_payload(),
        version: edns.version(),
        dnssec: edns.flags().dnssec_ok,
        options: edns
            .options()
            .as_ref()
            .iter()
            .any(|(code, _)| u16::from(*code) != wire::COOKIE),
    });
    Query::new(packet, edns)
}

/// What is said, in hickory's types: the handler of one request.
pub struct Local {
    metadata: Metadata,
    edns: Option<Edns>,
    answers: Vec<Record>,
    soa: Vec<Record>,
}

impl Local {
    fn new(request: &Request, code: ResponseCode) -> Self {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.recursion_available = true;
        metadata.response_code = code;
        let edns = request.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_MOST as u16);
            edns.set_dnssec_ok(asked.flags().dnssec_ok);
            edns
        });
        Self {
            metadata,
            edns,
            answers: Vec::new(),
            soa: Vec::new(),
        }
    }

    /// The answer of a verdict; `None` when another server gives it. `rotation` says which of
    /// several addresses comes first; what does not fit into `limit` bytes is left out, and the reply
    /// says so.
    #[must_use]
    pub fn of(request: &Request, verdict: &Verdict, rotation: usize, limit: usize) -> Option<Self> {
        let code = match verdict {
            Verdict::Forward => return None,
            Verdict::NoName { .. } => ResponseCode::NXDomain,
            Verdict::Refused(_) => ResponseCode::Refused,
            Verdict::BadVersion => ResponseCode::BADVERS,
            _ => ResponseCode::NoError,
        };
        let mut local = Self::new(request, code);
        local.metadata.authoritative =
            !matches!(verdict, Verdict::Refused(_) | Verdict::BadVersion);
        let query = request.queries.queries().first()?;
        let name = query.original().name();
        match verdict {
            Verdict::Addresses { addresses, ttl } => {
                let (tail, head) = addresses.split_at(rotation % addresses.len().max(1));
                let records = head.iter().chain(tail).map(|address| {
                    let data = match address {
                        std::net::IpAddr::V4(ip) => RData::A(A(*ip)),
                        std::net::IpAddr::V6(ip) => RData::AAAA(AAAA(*ip)),
                    };
                    Record::from_rdata(name.clone(), *ttl, data)
                });
                local.answers.extend(records);
                local.fit(request, limit);
            }
            Verdict::Pointer { name: target, ttl } => {
                let target = Name::from_labels(labels(target.wire())).ok()?;
                let data = RData::PTR(PTR(target));
                local
                    .answers
                    .push(Record::from_rdata(name.clone(), *ttl, data));
            }
            Verdict::Authority { ttl } => {
                local.answers.push(soa(name.clone(), *ttl)?);
            }
            Verdict::NoData { apex, ttl } | Verdict::NoName { apex, ttl } => {
                local.soa.push(soa(below(name, *apex), *ttl)?);
            }
            Verdict::Refused(_) | Verdict::BadVersion | Verdict::Forward => {}
        }
        Some(local)
    }

    /// A reply without records.
    #[must_use]
    pub fn bare(request: &Request, code: ResponseCode, truncated: bool) -> Self {
        let mut local = Self::new(request, code);
        local.metadata.truncation = truncated;
        local
    }

    /// Leaves out the addresses that have no room: hickory would drop the OPT record with them.
    fn fit(&mut self, request: &Request, limit: usize) {
        let one = 12
            + match self.answers.first().map(|record| &record.data) {
                Some(RData::A(_)) => 4,
                _ => 16,
            };
        let edns = if self.edns.is_some() { OPT } else { 0 };
        let room = limit.saturating_sub(HEADER + request.queries.as_bytes().len() + edns);
        if self.answers.len() > room / one {
            self.answers.truncate(room / one);
            self.metadata.truncation = true;
        }
    }

    /// Writes the reply into `out`.
    pub fn write(&self, request: &Request, limit: usize, out: &mut Vec<u8>) {
        let buffer = Buffer {
            bytes: Arc::default(),
            name: name(request).into(),
            limit,
        };
        let outcome = self.handle_request::<_, TokioTime>(request, buffer.clone());
        // It waits for nothing, so that one look is enough.
        let done = pin!(outcome).poll(&mut Context::from_waker(Waker::noop()));
        out.clear();
        if done.is_ready() {
            let mut bytes = buffer.bytes.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(out, &mut bytes);
        }
    }
}

/// The last labels of a name: from byte `apex` of its wire format on.
fn below(name: &Name, apex: usize) -> Name {
    let mut skipped = 0;
    let rest = name.iter().skip_while(|label| {
        let skip = skipped < apex;
        skipped += 1 + label.len();
        skip
    });
    Name::from_labels(rest).unwrap_or_else(|_| Name::root())
}

/// Our SOA record (RFC 1035 section 3.3.13): we ourselves, a mailbox, and a time for which what is
/// not there may be remembered (RFC 2308). This zone is not copied.
fn soa(apex: Name, ttl: u32) -> Option<Record> {
    let mailbox = apex
        .prepend_label("hostmaster")
        .unwrap_or_else(|_| apex.clone());
    let data = SOA::new(apex.clone(), mailbox, 1, 3600, 600, 86_400, ttl);
    Some(Record::from_rdata(apex, ttl, RData::SOA(data)))
}

#[async_trait::async_trait]
impl RequestHandler for Local {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response_handle: R,
    ) -> ResponseInfo {
        let builder = MessageResponseBuilder::new(&request.queries, self.edns.as_ref());
        let response = builder.build(self.metadata, &self.answers, [], &self.soa, []);
        match response_handle.send_response(response).await {
            Ok(info) => info,
            // What cannot be encoded is not said: the caller finds no bytes.
            Err(_) => hickory_proto::op::Header {
                metadata: self.metadata,
                counts: Default::default(),
            }
            .into(),
        }
    }
}

/// Takes a reply as bytes.
#[derive(Clone)]
struct Buffer {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// The name asked for, without the root's zero.
    name: Arc<[u8]>,
    limit: usize,
}

/// The name that a request asks for, as it came, without the root's zero.
fn name(request: &Request) -> &[u8] {
    let question = request.queries.as_bytes();
    let end = question.len().saturating_sub(5);
    question.get(..end).unwrap_or_default()
}

#[async_trait::async_trait]
impl ResponseHandler for Buffer {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(u16::try_from(self.limit).unwrap_or(u16::MAX));
        // hickory writes the question as it came and remembers it with its type and class, so that no
        // record's name is found in it. It is written before, for its labels to be remembered.
        let mut at = HEADER;
        encoder.emit_vec(&[0; HEADER])?;
        encoder.emit_vec(&self.name)?;
        for label in labels(&self.name) {
            encoder.store_label_pointer(at, HEADER + self.name.len());
            at += 1 + label.len();
        }
        encoder.set_offset(0);
        Ok(response.destructive_emit(&mut encoder)?)
    }
}
