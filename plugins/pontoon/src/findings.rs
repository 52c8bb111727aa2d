//! What the forwarding settings mean: facts in, verdict out.

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
}

/// A bridge and the settings of its own.
#[derive(Debug, Serialize)]
pub(crate) struct Bridge {
    pub(crate) name: String,
    pub(crate) up: bool,
    pub(crate) addresses: Vec<String>,
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
    /// Paths below /proc/sys to set to 1.
    pub(crate) mend: Vec<String>,
}

/// Judges the facts. IPv6 counts only where a bridge has an IPv6 address: a host without IPv6
/// containers need not forward it.
pub(crate) fn judge(facts: &Facts) -> Verdict {
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
    if facts.bridges.iter().any(has_v6) {
        require(
            facts.ipv6_forward,
            "net/ipv6/conf/all/forwarding".into(),
            format!(
                "net.ipv6.conf.all.forwarding is {}",
                facts.ipv6_forward.as_str()
            ),
        );
    }
    for bridge in &facts.bridges {
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
        });
        assert!(!verdict.ok && verdict.mend.is_empty());
        assert!(verdict.summary.contains("no default route"));
    }
}
