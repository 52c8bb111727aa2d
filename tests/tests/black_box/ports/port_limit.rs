//! A Linux bridge has 1,023 ports. The ADD after that says so.

use pontoon_lab::{Backend, Failure, Outcome, Site, cable};
use pontoon_netlink::{Netns, RouteSocket, VethSpec};

const LIMIT: usize = 1023;

#[test]
fn the_kernels_limit_is_named() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = site.network("wide", "wide0", &["10.68.0.0/16"]);
    let (_first, _) = site.join("first", &network)?;

    // The other ports are bare pairs of interfaces, which is all that the bridge counts.
    let act = "fill the bridge";
    let beyond = Netns::create_unnamed().map_err(Failure::act(act))?;
    site.host.run(|| -> Outcome {
        let mut socket = RouteSocket::open().map_err(Failure::act(act))?;
        let bridge = socket
            .link_by_name("wide0")
            .map_err(Failure::act(act))?
            .map(|link| link.index);
        for port in 1..LIMIT {
            let name = format!("p{port}");
            let spec = VethSpec {
                master: bridge,
                ..cable(&name, &beyond, [2, 1, 0, 0, (port >> 8) as u8, port as u8])
            };
            socket
                .create_veth(&spec)
                .map_err(Failure::act(format!("{act}: port {port}")))?;
        }
        Ok(())
    })??;

    let before = site.snapshot()?;
    let error = site
        .join("last", &network)
        .err()
        .ok_or_else(|| Failure::new("the 1,024th port was made"))?;
    let text = error.to_string();
    if !(text.contains("wide0") && (text.contains("1,023") || text.contains("1023"))) {
        return Err(Failure::new(format!(
            "the limit or the bridge is not named: {text}"
        )));
    }
    before.same_as(&site.snapshot()?, "an ADD beyond the limit")
}
