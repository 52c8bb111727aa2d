//! Whether containers of a network have a way out, where the configuration promises one.

use pontoon_conf::Cidr;

use super::Finding;
use super::ranges;
use super::source::{Member, Node};

/// Judges `ipMasq` (and `snat`) beside what makes a way: a gateway, and a default route to it.
pub(super) fn judge(plugin: &Node, kind: &str, findings: &mut Vec<Finding>) {
    let on = |key: &str| plugin.get(key).filter(|member| member.value.is_true());
    let Some(ipam) = plugin.get("ipam").map(|ipam| &ipam.value) else {
        return;
    };
    let snat = plugin
        .get("snat")
        .filter(|snat| !snat.value.items().is_empty());
    let Some(masquerade) = on("ipMasq").or(snat) else {
        return;
    };
    if !matches!(kind, "bridge" | "ptp") || on("internal").is_some() {
        return;
    }
    if kind == "bridge" {
        if on("isDefaultGateway").is_some() {
            return;
        }
        if on("isGateway").is_none() {
            findings.push(told(
                masquerade,
                "without \"isGateway\" the bridge has no address: unless something else on it is the gateway, \
                 containers have no way out; set \"isDefaultGateway\": true",
            ));
            return;
        }
    }
    for (v4, family, default) in [(true, "IPv4", "0.0.0.0/0"), (false, "IPv6", "::/0")] {
        if has_family(ipam, v4) && !has_default(ipam, v4) {
            let key = if kind == "bridge" {
                "set \"isDefaultGateway\": true, or add"
            } else {
                "add"
            };
            findings.push(told(
                masquerade,
                &format!(
                    "containers get no default route for {family}, and have no way out; {key} \
                     {{ \"dst\": \"{default}\" }} to \"routes\" of \"ipam\""
                ),
            ));
        }
    }
}

fn told(key: &Member, why: &str) -> Finding {
    Finding::warning(key.place, format!("\"{}\": {why}", key.key))
}

/// Whether the address plugin gives addresses of a family, as far as the configuration tells.
fn has_family(ipam: &Node, v4: bool) -> bool {
    let is = |text: Option<&str>| {
        let address = text.and_then(|text| text.parse::<Cidr>().ok());
        address.is_some_and(|address| address.is_ipv4() == v4)
    };
    match ipam.get("type").and_then(|kind| kind.value.text()) {
        Some("host-local") => {
            let all = ranges::subnets(ipam);
            let chosen = ipam.get("ranges").is_none() && all.is_empty();
            all.iter().any(|range| range.subnet.is_ipv4() == v4) || (v4 && chosen)
        }
        Some("static") => {
            let all = ipam.get("addresses").map(|all| all.value.items());
            let text = |one: &Node| {
                let text = one.get("address")?.value.text()?;
                Some(text.to_owned())
            };
            let mut all = all.unwrap_or_default().iter();
            all.any(|one| is(text(one).as_deref()))
        }
        _ => false,
    }
}

fn has_default(ipam: &Node, v4: bool) -> bool {
    let routes = ipam.get("routes").map(|routes| routes.value.items());
    let mut all = routes.unwrap_or_default().iter();
    all.any(|route| {
        let dst = route.get("dst").and_then(|dst| dst.value.text());
        let dst = dst.and_then(|dst| dst.parse::<Cidr>().ok());
        // Two halves are a default too, as some networks have it.
        dst.is_some_and(|dst| dst.is_ipv4() == v4 && dst.prefix() <= 1)
    })
}
