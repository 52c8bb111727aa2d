//! What survives the way of a result through each version's shape, for results of every kind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where something fails"
)]

use pontoon_conf::{AddResult, Cidr, Dns, Interface, IpConfig, Route, Version};

/// What is left of a result after a version that has no place for the rest.
fn narrowed(attached: &AddResult, version: Version) -> AddResult {
    let mut left = attached.clone();
    if version < Version::V1_1_0 {
        for interface in &mut left.interfaces {
            (interface.mtu, interface.socket_path, interface.pci_id) = (None, None, None);
        }
    }
    if version <= Version::V0_2_0 {
        for route in &mut left.routes {
            *route = Route {
                gw: route.gw,
                ..Route::to(route.dst)
            };
        }
        left.interfaces.clear();
        let first = |ipv4| left.ips.iter().find(|ip| ip.address.is_ipv4() == ipv4);
        let ips: Vec<_> = [first(true), first(false)]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        left.ips = ips;
        for ip in &mut left.ips {
            ip.interface = None;
        }
        let families: Vec<bool> = left.ips.iter().map(|ip| ip.address.is_ipv4()).collect();
        left.routes
            .retain(|route| families.contains(&route.dst.is_ipv4()));
        left.routes.sort_by_key(|route| !route.dst.is_ipv4());
    }
    left
}

/// Numbers that look random and are the same in every run (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Dice) -> T) -> Option<T> {
        (self.roll(2) == 1).then(|| make(self))
    }

    fn some<T>(&mut self, mut make: impl FnMut(&mut Dice) -> T) -> Vec<T> {
        (0..self.roll(4)).map(|_| make(self)).collect()
    }

    fn number(&mut self) -> u32 {
        self.roll(65_535) as u32 + 1
    }

    fn text(&mut self) -> String {
        const ODD: [&str; 4] = ["", "\"quoted\"", "a\\b\n", "ünïcode/€"];
        format!("t{}{}", self.number(), ODD[self.roll(4) as usize])
    }

    /// The name of an interface as a kernel could have it (`dev_valid_name` in `net/core/dev.c`);
    /// a result with another one is refused, which [`a_name_no_kernel_has_is_refused`] tries.
    fn interface_name(&mut self) -> String {
        const ODD: [&str; 4] = ["", "\"q\"", "a\\b", "ü€"];
        format!("t{}{}", self.number(), ODD[self.roll(4) as usize])
    }

    fn cidr(&mut self) -> Cidr {
        match self.roll(2) {
            0 => {
                let octets = (self.roll(1 << 32) as u32).to_be_bytes();
                Cidr::new(octets.into(), self.roll(33) as u8).unwrap()
            }
            _ => {
                let half = u128::from(self.roll(u64::MAX)) << 64;
                let octets = (half | u128::from(self.roll(u64::MAX))).to_be_bytes();
                Cidr::new(octets.into(), self.roll(129) as u8).unwrap()
            }
        }
    }

    fn result(&mut self) -> AddResult {
        AddResult {
            interfaces: self.some(|dice| Interface {
                name: dice.interface_name(),
                mac: dice.maybe(Dice::text),
                mtu: dice.maybe(Dice::number),
                sandbox: dice.maybe(Dice::text),
                socket_path: dice.maybe(Dice::text),
                pci_id: dice.maybe(Dice::text),
            }),
            ips: self.some(|dice| IpConfig {
                interface: dice.maybe(|dice| dice.roll(3) as usize),
                address: dice.cidr(),
                gateway: dice.maybe(|dice| dice.cidr().addr()),
            }),
            routes: self.some(|dice| Route {
                dst: dice.cidr(),
                gw: dice.maybe(|dice| dice.cidr().addr()),
                mtu: dice.maybe(Dice::number),
                advmss: dice.maybe(Dice::number),
                priority: dice.maybe(Dice::number),
                table: dice.maybe(Dice::number),
                scope: dice.maybe(|dice| dice.roll(256) as u8),
            }),
            dns: Dns {
                nameservers: self.some(Dice::text),
                domain: self.maybe(Dice::text),
                search: self.some(Dice::text),
                options: self.some(Dice::text),
            },
        }
    }
}

#[test]
fn round_trips_through_every_version() {
    let mut dice = Dice(7);
    let (mut written, mut refused) = (0, 0);
    for _ in 0..500 {
        let result = dice.result();
        for version in Version::ALL {
            let Ok(text) = result.to_json(version) else {
                assert!(version <= Version::V0_2_0 && result.ips.is_empty());
                refused += 1;
                continue;
            };
            let value = serde_json::from_str(&text).unwrap();
            let back = AddResult::parse(&value, Version::V0_1_0).unwrap();
            assert_eq!(
                back,
                narrowed(&result, version),
                "through {version}: {text}"
            );
            // Once narrowed, a result is told the same way again.
            assert_eq!(back.to_json(version).unwrap(), text);
            written += 1;
        }
    }
    assert!(written > 3000 && refused > 100, "{written} {refused}");
}

#[test]
fn a_name_no_kernel_has_is_refused() {
    for name in ["a\nb", "a b", "a/b", "a:b", ".", "..", "sixteen_or_more_"] {
        let value = serde_json::json!({
            "cniVersion": "1.1.0",
            "interfaces": [{ "name": name }],
        });
        let refused = AddResult::parse(&value, Version::V0_1_0).unwrap_err();
        assert_eq!(refused.code, 7, "{name:?}: {refused:?}");
        assert!(
            refused.msg.starts_with("interfaces: the interface name"),
            "{name:?}: {}",
            refused.msg
        );
    }
}
