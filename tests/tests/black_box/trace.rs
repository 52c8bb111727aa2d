//! `pontoon trace`.

mod answers;
mod matrix;
