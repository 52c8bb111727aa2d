//! VLANs of a bridge's port.

use netlink_packet_route::link::{BridgeVlanInfoFlags, LinkMessage};
use rtnetlink::LinkBridgeVlan;

use super::{RTM_DELLINK, RTM_SETLINK};
use crate::error::Error;
use crate::route::RouteSocket;

/// A run of VLANs on a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VlanRange {
    /// First VLAN, 1 to 4094.
    pub first: u16,
    /// Last VLAN; the first again for a single one.
    pub last: u16,
    /// Untagged frames that come in belong to it. The kernel allows this for a single VLAN only.
    pub pvid: bool,
    /// Frames leave without a tag.
    pub untagged: bool,
}

impl RouteSocket {
    /// Puts a bridge's port into VLANs and takes it out of others, in this order: removal first, so that the default
    /// VLAN can be replaced. Removing a VLAN that the port is not in succeeds, as the kernel has it.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn port_vlans(
        &mut self,
        index: u32,
        add: &[VlanRange],
        remove: &[VlanRange],
    ) -> Result<(), Error> {
        for (kind, action, ranges) in [
            (RTM_DELLINK, "remove VLANs of", remove),
            (RTM_SETLINK, "set VLANs of", add),
        ] {
            if ranges.is_empty() {
                continue;
            }
            if let Some(failure) = self.act(kind, 0, &message(index, ranges))? {
                return Err(Error::kernel(
                    action,
                    format!("bridge port number {index}"),
                    failure,
                ));
            }
        }
        Ok(())
    }
}

fn message(index: u32, ranges: &[VlanRange]) -> LinkMessage {
    let mut builder = LinkBridgeVlan::new(index);
    for range in ranges {
        let mut flags = BridgeVlanInfoFlags::empty();
        flags.set(BridgeVlanInfoFlags::Pvid, range.pvid);
        flags.set(BridgeVlanInfoFlags::Untagged, range.untagged);
        builder = if range.first == range.last {
            builder.vlan(range.first, flags)
        } else {
            builder
                .vlan_range_start(range.first, flags)
                .vlan_range_end(range.last, flags)
        };
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable;

    use super::*;

    /// The attributes behind `struct ifinfomsg`, as linux/if_bridge.h has them: IFLA_AF_SPEC (26), in it
    /// IFLA_BRIDGE_VLAN_INFO (2) with flags and VLAN.
    #[track_caller]
    fn check(range: VlanRange, expected: &[u8]) {
        let message = message(7, &[range]);
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        assert_eq!(
            (bytes[0], bytes[4]),
            (libc::AF_BRIDGE as u8, 7),
            "family and index"
        );
        assert_eq!(bytes[18] & 0x1f, 26, "IFLA_AF_SPEC");
        assert_eq!(&bytes[20..], expected);
    }

    #[test]
    fn one_vlan_is_one_attribute() {
        let plain = VlanRange {
            first: 100,
            last: 100,
            ..VlanRange::default()
        };
        check(plain, &[8, 0, 2, 0, 0, 0, 100, 0]);
        check(
            VlanRange {
                pvid: true,
                untagged: true,
                ..plain
            },
            &[8, 0, 2, 0, 6, 0, 100, 0],
        );
    }

    #[test]
    fn a_range_is_its_two_ends() {
        let range = VlanRange {
            first: 2,
            last: 4094,
            untagged: true,
            ..VlanRange::default()
        };
        check(
            range,
            &[8, 0, 2, 0, 12, 0, 2, 0, 8, 0, 2, 0, 20, 0, 0xfe, 0x0f],
        );
    }
}
