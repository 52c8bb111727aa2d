//! The plugin has no keys of its own; what it must not be asked for is refused.

use pontoon_conf::{Error, code};
use pontoon_plugin::Context;

/// Refuses published ports.
pub(crate) fn refuse_ports(context: &Context) -> Result<(), Error> {
    if context.port_mappings()? == 0 {
        return Ok(());
    }
    Err(Error::new(
        code::INVALID_CONFIG,
        "ports cannot be published of a container without network (type none)",
    )
    .with_details("leave the ports out, or attach the container to a bridge"))
}
