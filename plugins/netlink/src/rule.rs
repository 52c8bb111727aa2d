//! Rules by which the kernel chooses a routing table: of those by source address.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use nix::errno::Errno;

use crate::attr;
use crate::error::Error;
use crate::frame::Frame;
use crate::route::RouteSocket;

/// Numbers of messages (linux/rtnetlink.h).
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;

/// Attributes of a rule (linux/fib_rules.h).
const FRA_SRC: u16 = 2;
const FRA_TABLE: u16 = 15;

/// `struct fib_rule_hdr`.
const HEADER: usize = 12;

/// A rule: packets from an address are looked up in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceRule {
    /// The source; `None` is a rule for any.
    pub source: Option<IpAddr>,
    /// The table.
    pub table: u32,
}

fn message(source: IpAddr, table: u32) -> RuleMessage {
    let mut message = RuleMessage::default();
    let (family, length) = if source.is_ipv4() {
        (AddressFamily::Inet, 32)
    } else {
        (AddressFamily::Inet6, 128)
    };
    message.header.family = family;
    message.header.src_len = length;
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![RuleAttribute::Source(source), RuleAttribute::Table(table)];
    message
}

fn read(frame: Frame<'_>) -> Option<SourceRule> {
    if frame.kind != RTM_NEWRULE {
        return None;
    }
    let header = frame.payload.get(..HEADER)?;
    let whole = if i32::from(header[0]) == libc::AF_INET {
        32
    } else {
        128
    };
    let mut rule = SourceRule {
        source: None,
        table: header[4].into(),
    };
    for attr in attr::read(&frame.payload[HEADER..]) {
        match attr.kind {
            // Of one address alone, not of a subnet.
            FRA_SRC if header[2] == whole => rule.source = attr.ip(),
            FRA_TABLE => rule.table = attr.u32().unwrap_or(rule.table),
            _ => {}
        }
    }
    Some(rule)
}

impl RouteSocket {
    /// The rules of one family, in their order.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn source_rules(&mut self, v4: bool) -> Result<Vec<SourceRule>, Error> {
        let mut question = RuleMessage::default();
        question.header.family = if v4 {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        };
        self.dump("rules", RTM_GETRULE, &question, read)
    }

    /// Adds a rule; false when this very rule is there.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn add_source_rule(&mut self, source: IpAddr, table: u32) -> Result<bool, Error> {
        let message = message(source, table);
        match self.act(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, &message)? {
            None => Ok(true),
            Some(failure) if failure.errno == Errno::EEXIST => Ok(false),
            Some(failure) => Err(Error::kernel("add the rule for", source, failure)),
        }
    }

    /// Removes a rule; false when it was gone.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn remove_source_rule(&mut self, source: IpAddr, table: u32) -> Result<bool, Error> {
        match self.act(RTM_DELRULE, 0, &message(source, table))? {
            None => Ok(true),
            Some(failure) if failure.errno == Errno::ENOENT => Ok(false),
            Some(failure) => Err(Error::kernel("remove the rule for", source, failure)),
        }
    }

    /// Every table of a family that has a route.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn tables(&mut self, v4: bool) -> Result<Vec<u32>, Error> {
        let mut tables: Vec<u32> = self
            .all_routes(v4)?
            .into_iter()
            .map(|route| route.table)
            .collect();
        tables.sort_unstable();
        tables.dedup();
        Ok(tables)
    }
}
