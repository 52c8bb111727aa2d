//! Whether the host has lost its IPv6 default route by forwarding IPv6.

use pontoon_attach::forwarding;

use super::{CheckInput, Finding};
use crate::report::Failure;

pub(crate) fn check(ground: &mut CheckInput, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    for lost_router_advertisements in
        forwarding::lost_router_advertisements(&mut ground.host.socket)?
    {
        findings.push(
            Finding::new("router-advertisements-ignored", &lost_router_advertisements.interface)
                .means("neither this host nor its containers reach the outside by IPv6: a host that forwards IPv6 takes no default route by router advertisement")
                .seen(format!(
                    "no IPv6 default route; forwarding and accept_ra of {} are 1; {}",
                    lost_router_advertisements.interface, lost_router_advertisements.evidence
                ))
                // Its exit code is about all that stands in the way.
                .mend("pontoon ip-forward --fix || true")
                .safe(),
        );
    }
    Ok(())
}
