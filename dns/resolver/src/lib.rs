//! What of the resolver decides and knows hickory: [`local`] answers in its types, [`merge`] makes
//! equal questions one and bounds them, [`plan`] chooses servers and judges replies. None of them has a
//! socket or a clock. The program `pontoon-dns` puts tasks around them.

pub mod local;
pub mod merge;
pub mod plan;
