//! Finding the device on the host.

use std::fs;
use std::path::{Path, PathBuf};

use pontoon_conf::Error;
use pontoon_netlink::{Link, RouteSocket};
use pontoon_plugin::kernel_error;

use crate::config::{AUXILIARY, PCI, Selector};
use crate::error::DeviceError;

/// Drivers that hand a device to a program: there is no interface to move.
const USERSPACE: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];

/// Whether the device belongs to a userspace driver, such as DPDK's.
pub(crate) fn is_userspace(selector: &Selector) -> bool {
    let Selector::Pci(address) = selector else {
        return false;
    };
    driver(Path::new(PCI), address).is_some_and(|name| USERSPACE.contains(&name.as_str()))
}

fn driver(root: &Path, address: &str) -> Option<String> {
    let target = fs::read_link(root.join(address).join("driver")).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}

/// The interface that the selector means.
pub(crate) fn find(host: &mut RouteSocket, selector: &Selector) -> Result<Link, Error> {
    let failed = |error| kernel_error("failed to find host device", error);
    let found = match selector {
        Selector::Name(name) => host.link_by_name(name.as_ref()).map_err(failed)?,
        Selector::Mac(mac) => host
            .links()
            .map_err(failed)?
            .into_iter()
            .find(|link| link.mac == Some(mac.0)),
        Selector::KernelPath(path) => first_of(host, &path.join("net"))?,
        Selector::Pci(address) => {
            let buses = [PCI, AUXILIARY].map(Path::new);
            let dir = bus_net(buses, address).ok_or_else(|| DeviceError::NotOnBus {
                address: address.clone(),
            })?;
            first_of(host, &dir)?
        }
    };
    Ok(found.ok_or_else(|| DeviceError::None {
        selector: format!("{selector:?}"),
    })?)
}

/// Where sysfs lists the interfaces of a device of the PCI bus, else of the auxiliary bus.
fn bus_net([pci, auxiliary]: [&Path; 2], device: &str) -> Option<PathBuf> {
    if pci.join(device).exists() {
        return Some(pci_net(pci, device));
    }
    let part = auxiliary.join(device);
    part.exists().then(|| part.join("net"))
}

/// Where sysfs lists the interfaces of a PCI device; those of virtio are one deeper.
fn pci_net(root: &Path, address: &str) -> PathBuf {
    let device = root.join(address);
    let direct = device.join("net");
    if direct.exists() {
        return direct;
    }
    let entries = fs::read_dir(&device).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("virtio"))
        .map(|entry| entry.path().join("net"))
        .find(|path| path.exists())
        .unwrap_or(direct)
}

fn first_of(host: &mut RouteSocket, dir: &Path) -> Result<Option<Link>, Error> {
    let entries = fs::read_dir(dir).map_err(|source| DeviceError::Unlisted {
        dir: dir.to_owned(),
        source,
    })?;
    for entry in entries {
        let entry = entry.map_err(|source| DeviceError::Unread {
            dir: dir.to_owned(),
            source,
        })?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let found = host
            .link_by_name(&name)
            .map_err(|error| kernel_error("failed to find host device", error))?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn sysfs_of_pci_devices() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("a/net/eth7")).unwrap();
        fs::create_dir_all(root.join("b/virtio3/net/eth8")).unwrap();
        symlink("../../drivers/vfio-pci", root.join("a/driver")).unwrap();
        assert_eq!(pci_net(root, "a"), root.join("a/net"));
        assert_eq!(pci_net(root, "b"), root.join("b/virtio3/net"));
        assert_eq!(pci_net(root, "c"), root.join("c/net"));
        assert_eq!(driver(root, "a").as_deref(), Some("vfio-pci"));
        assert_eq!(driver(root, "b"), None);
        // A subfunction is on the bus of parts.
        let (pci, auxiliary) = (root.join("pci"), root.join("auxiliary"));
        fs::create_dir_all(pci.join("0000:00:01.0/net/eth0")).unwrap();
        fs::create_dir_all(auxiliary.join("mlx5_core.sf.4/net/eth9")).unwrap();
        let found = |device: &str| bus_net([&pci, &auxiliary], device);
        assert_eq!(found("0000:00:01.0"), Some(pci.join("0000:00:01.0/net")));
        assert_eq!(
            found("mlx5_core.sf.4"),
            Some(auxiliary.join("mlx5_core.sf.4/net"))
        );
        assert_eq!(found("mlx5_core.sf.5"), None);
    }
}
