//! The plugin has no keys of its own; what it must not be asked for is refused.

use pontoon_conf::{ConfigError, Error};
use pontoon_plugin::Context;

/// Refuses published ports.
pub(crate) fn refuse_ports(context: &Context) -> Result<(), Error> {
    if context.port_mappings()? == 0 {
        return Ok(());
    }
    let what = "ports cannot be published of a container without network (type none)";
    let next_step = "leave the ports out, or attach the container to a bridge";
    Err(ConfigError::refused(what).with_next_step(next_step).into())
}
