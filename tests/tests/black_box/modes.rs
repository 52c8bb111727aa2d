//! Docker's modes `none`, `host` and `container`.

mod chain;
mod cnitool;
mod kinds;
mod names;
