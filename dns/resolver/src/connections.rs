//! How many connections clients have. Knows no socket.

use std::collections::HashMap;
use std::net::IpAddr;

use pontoon_dns::zone::{Key, Querier, Zone};

/// Most connections in all, and of one client.
const MOST: usize = 512;
pub(crate) const MOST_OF_ONE: usize = 32;

/// Whose connections are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    /// A container on one network, by whichever of its addresses.
    Attachment(Key),
    /// The host.
    Host,
    /// All addresses that belong to no attachment, at one gateway.
    Strangers(IpAddr),
}

impl Client {
    /// Whose an address is that asks at a gateway.
    pub(crate) fn of(zone: &Zone, source: IpAddr, gateway: IpAddr) -> Self {
        match (zone.at(source), zone.querier(source)) {
            (Some(attachment), _) => Self::Attachment(attachment.key()),
            (None, Querier::Host) => Self::Host,
            (None, _) => Self::Strangers(gateway),
        }
    }
}

/// How many connections there are.
#[derive(Default)]
pub(crate) struct Connections {
    all: usize,
    of_client: HashMap<Client, usize>,
}

impl Connections {
    pub(crate) fn len(&self) -> usize {
        self.all
    }

    pub(crate) fn enter(&mut self, client: &Client) -> bool {
        let of_one = self.of_client.get(client).copied().unwrap_or(0);
        if self.all >= MOST || of_one >= MOST_OF_ONE {
            return false;
        }
        self.all += 1;
        *self.of_client.entry(client.clone()).or_default() += 1;
        true
    }

    pub(crate) fn leave(&mut self, client: &Client) {
        self.all -= 1;
        if let Some(count) = self.of_client.get_mut(client) {
            *count -= 1;
            if *count == 0 {
                self.of_client.remove(client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_by_client() {
        let mut connections = Connections::default();
        let client = |number: u16| {
            let [a, b] = number.to_be_bytes();
            Client::Strangers([10, 0, a, b].into())
        };
        for _ in 0..MOST_OF_ONE {
            assert!(connections.enter(&client(1)));
        }
        assert!(!connections.enter(&client(1)));
        for number in 2..1000 {
            connections.enter(&client(number));
        }
        assert_eq!(connections.len(), MOST);
        assert!(!connections.enter(&client(5000)));
        connections.leave(&client(1));
        assert!(connections.enter(&client(1)));
    }

    #[test]
    fn all_addresses_of_an_attachment_are_one_client_and_all_strangers_at_a_gateway() {
        let mut zone = Zone::default();
        for (container, addresses) in [
            ("c", ["10.0.0.2", "10.0.0.3"]),
            ("d", ["10.0.0.4", "fd00::4"]),
        ] {
            let record = serde_json::json!({
                "version": 1, "network": "n", "container": container, "interface": "e", "names": [container],
                "addresses": addresses, "gateways": ["10.0.0.1"], "domain": "d", "ttl": 5, "resolvConf": "/x",
            });
            zone.insert(serde_json::from_value(record).unwrap());
        }
        let of = |source: &str, gateway: &str| {
            Client::of(&zone, source.parse().unwrap(), gateway.parse().unwrap())
        };
        assert_eq!(of("10.0.0.2", "10.0.0.1"), of("10.0.0.3", "10.0.0.1"));
        assert_eq!(of("10.0.0.4", "10.0.0.1"), of("fd00::4", "10.0.0.1"));
        assert_ne!(of("10.0.0.2", "10.0.0.1"), of("10.0.0.4", "10.0.0.1"));
        assert_eq!(of("10.0.0.1", "10.0.0.1"), Client::Host);
        assert_eq!(of("10.9.9.9", "10.0.0.1"), of("fd99::9", "10.0.0.1"));
        assert_ne!(of("10.9.9.9", "10.0.0.1"), of("10.9.9.9", "10.1.0.1"));
    }
}
