//! DEL: the loopback interface goes down. The plugin keeps no record, so that GC has nothing to do.

use pontoon_conf::Error;
use pontoon_plugin::Context;

use crate::undo::{open, set};

/// Brings lo down, unless the namespace is gone with it.
pub(crate) fn del(context: &Context) -> Result<(), Error> {
    if context.netns_if_alive().is_none() {
        return Ok(());
    }
    let (mut inside, link) = open(context)?;
    set(&mut inside, &link, false)
}
