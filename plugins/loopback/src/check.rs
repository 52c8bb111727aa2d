//! CHECK: the loopback interface is up.

use pontoon_conf::Error;
use pontoon_plugin::Context;

use crate::error::Down;
use crate::undo::open;

pub(crate) fn check(context: &Context) -> Result<(), Error> {
    let (_, link) = open(context)?;
    if link.up {
        return Ok(());
    }
    Err(Down.into())
}
