//! The plugin has no keys of its own, and ignores what a container on the host's network cannot
//! have.

use pontoon_conf::Error;
use pontoon_plugin::{Context, warn};

/// Published ports are nothing that would have to be made: the container's ports are the host's.
pub(crate) fn ignore_ports(context: &Context) -> Result<(), Error> {
    if context.port_mappings()? > 0 {
        warn(format_args!(
            "host: warning: published ports are ignored, since the container's ports are the host's own"
        ));
    }
    Ok(())
}
