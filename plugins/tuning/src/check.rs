//! CHECK: every setting is as it was ordered. STATUS: the host's list allows them.

use pontoon_attach::container_link::differs;
use pontoon_conf::{Error, Mac, code};
use pontoon_plugin::Context;

use crate::config::Config;
use crate::inside::ContainerAccess;
use crate::{allowlist, plan};

pub(crate) fn check(context: &Context) -> Result<(), Error> {
    let config = Config::from_context(context)?;
    let (_, name) = context.attachment()?;
    context.required_prev_result()?;
    let mut inside = ContainerAccess::open(context.netns()?)?;
    let values = inside.read(&config.sysctls)?;
    for (sysctl, current) in config.sysctls.iter().zip(values) {
        if let Some(current) = current
            && !plan::same(&current, &sysctl.value)
        {
            return Err(differs(format!(
                "Error: Tuning configured value of /proc/sys/{} is {}, current value is {current}",
                sysctl.path, sysctl.value
            )));
        }
    }
    // What ADD has passed over is not missed.
    if !config.needs_link() || context.mode()?.is_some() {
        return Ok(());
    }
    let link = inside
        .link(name.as_ref())?
        .ok_or_else(|| differs(format!("Cannot find container link {name}")))?;
    if let Some(mac) = config.mac.filter(|mac| link.mac != Some(mac.0)) {
        let current = link.mac.map(|mac| Mac(mac).to_string()).unwrap_or_default();
        return Err(differs(format!(
            "Error: Tuning configured Ethernet of {name} is {mac}, current value is {current}"
        )));
    }
    if let Some(on) = config.promisc.filter(|on| link.promisc != *on) {
        return Err(differs(format!(
            "Error: Tuning link {name} configured promisc is {on}, current value is {}",
            i32::from(link.promisc)
        )));
    }
    if let Some(mtu) = config.mtu.filter(|mtu| link.mtu != *mtu) {
        return Err(differs(format!(
            "Error: Tuning configured MTU of {name} is {mtu}, current value is {}",
            link.mtu
        )));
    }
    if let Some(on) = config.allmulti.filter(|on| link.allmulti != *on) {
        return Err(differs(format!(
            "Error: Tuning configured all-multicast mode of {name} is {on}, current value is {}",
            link.allmulti
        )));
    }
    let queue = config.tx_queue_length;
    if let Some(packets) = queue.filter(|packets| link.tx_queue_length != *packets) {
        return Err(differs(format!(
            "Error: Tuning configured Transmit Queue Length of {name} is {packets}, current value is {}",
            link.tx_queue_length
        )));
    }
    Ok(())
}

/// Without an attachment `IFNAME` is any name.
pub(crate) fn status(context: &Context) -> Result<(), Error> {
    let config = Config::of_network(context)?;
    allowlist::ask(&config.sysctls)
        .map_err(|error| Error::from(error).with_code(code::NOT_AVAILABLE))
}
