//! Who may reach whom: the matrix of policies, a model, and the plugin firewall's keys.

mod firewall;
mod matrix;
mod model;
pub(crate) mod scene;
pub(crate) mod table;
mod words;
