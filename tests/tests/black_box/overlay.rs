//! Networks of several hosts: hosts are namespaces on a switch, their files are written by the tests, and there is no
//! agent. Packets decide.

mod admin;
mod files;
mod life;
mod matrix;
mod policies;
pub(crate) mod scene;
