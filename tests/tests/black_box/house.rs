//! The repository itself: its layout, samples, schemas, and what README.md says.

mod dependencies;
mod import_circles;
mod known_faults;
mod layout;
mod lints;
mod plugin_files;
pub(crate) mod readme_commands;
mod readmes;
mod rulesets;
mod samples;
mod schemas;
