//! Why the rules could not be read.

/// The rules are there and could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The `nft` program ran and failed.
    #[error("nft cannot list the rules: {0}")]
    Listing(String),
    /// What the `nft` program printed is not its JSON.
    #[error("nft's listing: {0}")]
    Json(#[from] serde_json::Error),
}
