//! ADD: the loopback interface goes up.

use pontoon_conf::{AddResult, Cidr, Error};
use pontoon_plugin::{Context, kernel_error};

use crate::error::UpError;
use crate::plan;
use crate::undo::{open, set};

pub(crate) fn add(context: &Context) -> Result<AddResult, Error> {
    let (mut inside, link) = open(context)?;
    if !link.up {
        set(&mut inside, &link, true)?;
    }
    let addresses = inside
        .addresses(link.index)
        .map_err(|error| kernel_error("cannot list the addresses of lo in the container", error))?;
    let addresses: Vec<Cidr> = addresses
        .iter()
        .map(|address| Cidr::from(address.cidr))
        .collect();
    if let Some(address) = plan::foreign_address(&addresses) {
        if !link.up {
            set(&mut inside, &link, false)?;
        }
        return Err(UpError::OtherAddress { address }.into());
    }
    if let Some(previous) = &context.config.prev_result {
        return Ok(previous.clone());
    }
    Ok(plan::result(context.invocation.netns.clone(), addresses))
}
