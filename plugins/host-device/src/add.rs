//! ADD: addresses, then the device moves into the container, then it is configured there.

use pontoon_attach::{container_link, sockets};
use pontoon_conf::{AddResult, Error, Interface, Mac};
use pontoon_ipam::delegation;
use pontoon_ledger::{HostDeviceRecord, Key};
use pontoon_netlink::{Link, RouteSocket};
use pontoon_plugin::{Context, Undo, fault, kernel_error};

use crate::config::Config;
use crate::error::MoveError;
use crate::{device, plan, undo};

#[derive(Debug)]
enum Step {
    Lease,
    Device(Box<HostDeviceRecord>),
}

pub(crate) fn add(context: &Context) -> Result<AddResult, Error> {
    let config = Config::from_context(context)?;
    let key = context.key()?;
    let netns = context.netns()?;
    let (mut host, mut inside) = (sockets::of_host()?, sockets::of_container(netns)?);
    container_link::refuse_taken(context, &mut inside)?;
    let link = if device::is_userspace(&config.device) {
        None
    } else {
        let link = device::find(&mut host, &config.device)?;
        plan::refuse_loopback(&link)?;
        Some(link)
    };
    let record = HostDeviceRecord {
        sandbox: context.sandbox(),
        names: context.names(),
        dns: config.dns.clone(),
        leases: delegation::leases(context)?,
        device: link.as_ref().map(plan::before),
    };
    let mut steps = Undo::default();
    let sockets = (&mut host, &mut inside);
    match attach(
        context,
        &config,
        &key,
        link.as_ref(),
        &record,
        sockets,
        &mut steps,
    ) {
        Ok(result) => {
            steps.commit();
            Ok(result)
        }
        Err(error) => Err(steps.unwind(error, |step| match step {
            Step::Lease => delegation::release(context),
            Step::Device(record) => undo::give_back(context, &key, Some(&record)),
        })),
    }
}

fn attach(
    context: &Context,
    config: &Config,
    key: &Key,
    link: Option<&Link>,
    record: &HostDeviceRecord,
    (host, inside): (&mut RouteSocket, &mut RouteSocket),
    undo: &mut Undo<Step>,
) -> Result<AddResult, Error> {
    // From the lease until the record is written, GC does not take the lease for garbage.
    let network_lock = context.state.share_network(&key.network)?;
    let mut result = AddResult::default();
    undo.push(Step::Lease);
    if let Some(ipam) = &config.ipam {
        result = delegation::add(context, ipam)?;
    }
    fault::point("host-device.leased")?;
    undo.push(Step::Device(Box::new(record.clone())));
    context.state.write(key, record)?;
    drop(network_lock);
    fault::point("host-device.recorded")?;
    if let Some(link) = link {
        let name = &key.interface;
        let netns = context.netns()?;
        host.move_link(link.index, netns, name, &link.name)
            .map_err(|error| {
                kernel_error(
                    format!("failed to move link {} to {name}", link.name),
                    error,
                )
            })?;
        fault::point("host-device.moved")?;
        let moved = inside
            .link_by_name(name)
            .map_err(|error| kernel_error(format!("cannot look up {name}"), error))?
            .ok_or_else(|| MoveError::Lost {
                interface: name.clone(),
            })?;
        let advertisements = plan::advertisements(config);
        container_link::configure(netns, inside, moved.index, name, &result, advertisements)?;
        fault::point("host-device.configured")?;
        result.interfaces = vec![Interface {
            name: name.clone(),
            mac: moved.mac.map(|mac| Mac(mac).to_string()),
            mtu: Some(moved.mtu),
            sandbox: context.invocation.netns.clone(),
            ..Interface::default()
        }];
    } else {
        // The program that drives the device is told its name and addresses by the result alone.
        result.interfaces = vec![Interface {
            name: key.interface.clone(),
            mac: Some(String::new()),
            sandbox: context.invocation.netns.clone(),
            ..Interface::default()
        }];
    }
    for ip in &mut result.ips {
        ip.interface = Some(0);
    }
    if let Some(dns) = &config.dns {
        result.dns = dns.clone();
    }
    Ok(result)
}
