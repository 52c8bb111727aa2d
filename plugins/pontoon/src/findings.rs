//! What the forwarding settings mean: facts in, verdict out.

use pontoon_attach::forwarding;
use serde::Serialize;

/// The settings that decide whether packets pass this host.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Facts {
    /// `net.ipv4.ip_forward`.
    pub(crate) ipv4_forward: Setting,
    /// `net.ipv6.conf.all.forwarding`.
    pub(crate) ipv6_forward: Setting,
    /// The bridges that Pontoon has made.
    pub(crate) bridges: Vec<Bridge>,
    /// Why nothing leaves this host itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) no_way_out: Option<String>,
    /// Interfaces that hear no routers since this host forwards IPv6, while it has no IPv6 default route.
    pub(crate) lost_router_advertisements: Vec<String>,
}

/// A bridge and the settings of its own.
#[derive(Debug, Serialize)]
pub(crate) struct Bridge {
    pub(crate) name: String,
    pub(crate) up: bool,
    pub(crate) addresses: Vec<String>,
    /// Its network has no way out: nothing has to be forwarded for it.
    pub(crate) internal: bool,
    /// `net.ipv4.conf.NAME.forwarding`.
    pub(crate) ipv4_forward: Setting,
    /// `net.ipv6.conf.NAME.forwarding`.
    pub(crate) ipv6_forward: Setting,
}

/// A switch of the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Setting {
    On,
    Off,
    /// The kernel has no such switch: IPv6 is disabled, or the interface is gone.
    #[default]
    Absent,
}

impl Setting {
    pub(crate) fn from_text(text: Option<&str>) -> Self {
        match text.map(str::trim) {
            None => Self::Absent,
            Some("0") => Self::Off,
            Some(_) => Self::On,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Absent => "absent",
        }
    }
}

/// What the facts mean for containers.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    /// Containers can reach the outside as far as forwarding goes.
    pub(crate) ok: bool,
    /// One line for a person.
    pub(crate) summary: String,
    /// Paths below /proc/sys to set, each to its [`value`].
    pub(crate) mend: Vec<String>,
}

/// What a parameter is mended with.
pub(crate) fn value(path: &str) -> &'static str {
    match path.ends_with("/accept_ra") {
        // Even if the interface forwards.
        true => "2",
        false => "1",
    }
}

/// Judges the facts. IPv6 counts only where a bridge has an IPv6 address: a host without IPv6
/// containers need not forward it.
pub(crate) fn judge(facts: &Facts) -> Verdict {
    let open = || facts.bridges.iter().filter(|bridge| !bridge.internal);
    if !facts.bridges.is_empty() && open().next().is_none() {
        return Verdict {
            ok: true,
            summary: "every network is internal: nothing has to be forwarded".to_owned(),
            mend: facts
                .lost_router_advertisements
                .iter()
                .map(|name| forwarding::accept_ra(name))
                .collect(),
        };
    }
    let mut reasons = Vec::new();
    let mut mend = Vec::new();
    let mut require = |setting: Setting, path: String, what: String| {
        if setting != Setting::On {
            reasons.push(what);
            if setting == Setting::Off {
                mend.push(path);
            }
        }
    };
    require(
        facts.ipv4_forward,
        "net/ipv4/ip_forward".into(),
        format!("net.ipv4.ip_forward is {}", facts.ipv4_forward.as_str()),
    );
    let has_v6 = |bridge: &Bridge| bridge.addresses.iter().any(|address| address.contains(':'));
    if open().any(has_v6) {
        require(
            facts.ipv6_forward,
            "net/ipv6/conf/all/forwarding".into(),
            format!(
                "net.ipv6.conf.all.forwarding is {}",
                facts.ipv6_forward.as_str()
            ),
        );
    }
    for bridge in open() {
        require(
            bridge.ipv4_forward,
            format!("net/ipv4/conf/{}/forwarding", bridge.name),
            format!(
                "net.ipv4.conf.{}.forwarding is {}",
                bridge.name,
                bridge.ipv4_forward.as_str()
            ),
        );
        if has_v6(bridge) {
            require(
                bridge.ipv6_forward,
                format!("net/ipv6/conf/{}/forwarding", bridge.name),
                format!(
                    "net.ipv6.conf.{}.forwarding is {}",
                    bridge.name,
                    bridge.ipv6_forward.as_str()
                ),
            );
        }
    }
    reasons.extend(facts.no_way_out.clone());
    // The host itself suffers even without IPv6 containers.
    mend.extend(
        facts
            .lost_router_advertisements
            .iter()
            .map(|name| forwarding::accept_ra(name)),
    );
    if open().any(has_v6) {
        reasons.extend(facts.lost_router_advertisements.iter().map(|name| {
            format!(
                "this host has no IPv6 default route, and {name} ignores router advertisements (accept_ra 1 while it forwards)"
            )
        }));
    }
    let summary = if reasons.is_empty() {
        "containers can reach the outside: this host forwards packets".to_owned()
    } else {
        format!(
            "containers cannot reach the outside: {}",
            reasons.join(", ")
        )
    };
    Verdict {
        ok: reasons.is_empty(),
        summary,
        mend,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bridge(v6: bool, ipv4_forward: Setting, ipv6_forward: Setting) -> Bridge {
        let mut addresses = vec!["172.17.0.1/16".to_owned()];
        if v6 {
            addresses.push("fd00::1/64".to_owned());
        }
        Bridge {
            name: "cni0".into(),
            up: true,
            addresses,
            internal: false,
            ipv4_forward,
            ipv6_forward,
        }
    }

    #[track_caller]
    fn check(v4: Setting, v6: Setting, bridges: Vec<Bridge>, ok: bool, mend: &[&str]) {
        let verdict = judge(&Facts {
            ipv4_forward: v4,
            ipv6_forward: v6,
            bridges,
            no_way_out: None,
            lost_router_advertisements: Vec::new(),
        });
        assert_eq!(verdict.ok, ok, "{}", verdict.summary);
        assert_eq!(verdict.mend, mend);
    }

    #[test]
    fn verdicts() {
        use Setting::{Absent, Off, On};
        check(On, Off, vec![], true, &[]);
        check(Off, Off, vec![], false, &["net/ipv4/ip_forward"]);
        check(On, Off, vec![bridge(false, On, Off)], true, &[]);
        check(
            On,
            Off,
            vec![bridge(true, On, Off)],
            false,
            &[
                "net/ipv6/conf/all/forwarding",
                "net/ipv6/conf/cni0/forwarding",
            ],
        );
        check(
            On,
            On,
            vec![bridge(true, Off, On)],
            false,
            &["net/ipv4/conf/cni0/forwarding"],
        );
        check(On, Absent, vec![bridge(true, On, Absent)], false, &[]);
        check(On, On, vec![bridge(true, On, On)], true, &[]);
    }

    #[test]
    fn a_host_without_a_way_out_forwards_to_nowhere() {
        let verdict = judge(&Facts {
            ipv4_forward: Setting::On,
            ipv6_forward: Setting::On,
            bridges: Vec::new(),
            no_way_out: Some("this host has no default route".into()),
            lost_router_advertisements: Vec::new(),
        });
        assert!(!verdict.ok && verdict.mend.is_empty());
        assert!(verdict.summary.contains("no default route"));
    }

    #[test]
    fn internal_networks_need_no_forwarding() {
        use Setting::{Off, On};
        let internal = |v6| Bridge {
            internal: true,
            ..bridge(v6, Off, Off)
        };
        check(Off, Off, vec![internal(true)], true, &[]);
        check(
            On,
            Off,
            vec![internal(true), bridge(false, On, Off)],
            true,
            &[],
        );
        check(
            Off,
            Off,
            vec![internal(true), bridge(false, On, Off)],
            false,
            &["net/ipv4/ip_forward"],
        );
    }

    #[test]
    fn a_lost_default_route_counts_for_ipv6() {
        use Setting::On;
        let facts = |v6| Facts {
            ipv4_forward: On,
            ipv6_forward: On,
            bridges: vec![bridge(v6, On, On)],
            no_way_out: None,
            lost_router_advertisements: vec!["eth0".to_owned()],
        };
        assert!(judge(&facts(false)).ok);
        let verdict = judge(&facts(true));
        assert!(!verdict.ok && verdict.summary.contains("eth0 ignores router"));
        assert_eq!(verdict.mend, ["net/ipv6/conf/eth0/accept_ra"]);
        assert_eq!(value(&verdict.mend[0]), "2");
    }
}
