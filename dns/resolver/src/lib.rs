//! What of the resolver decides: none of it has a socket, a clock or a file.
//!
//! - [`local`]: answers from records, in hickory's types.
//! - [`choose`]: which servers a question is asked; [`server`], [`health`]: what they are and how they do.
//! - [`forwarding`]: from a question to the cache, to an equal question under way ([`merge`]), or to a
//!   [`resolution`] of its own through the servers, which [`plan`] puts in order.
//! - [`stats`]: what is counted.
//!
//! The program `pontoon-dns` puts tasks around them.

pub mod choose;
pub mod forwarding;
pub mod health;
pub mod local;
pub mod merge;
pub mod plan;
pub mod resolution;
pub mod server;
pub mod stats;
