//! How many connections clients have. Knows no socket.

use std::collections::HashMap;
use std::net::IpAddr;

/// Most connections in all, and of one client.
const MOST: usize = 512;
const MOST_OF_ONE: usize = 32;

/// How many connections there are.
#[derive(Default)]
pub(crate) struct Connections {
    all: usize,
    of_source: HashMap<IpAddr, usize>,
}

impl Connections {
    pub(crate) fn len(&self) -> usize {
        self.all
    }

    pub(crate) fn enter(&mut self, source: IpAddr) -> bool {
        let of_one = self.of_source.get(&source).copied().unwrap_or(0);
        if self.all >= MOST || of_one >= MOST_OF_ONE {
            return false;
        }
        self.all += 1;
        *self.of_source.entry(source).or_default() += 1;
        true
    }

    pub(crate) fn leave(&mut self, source: IpAddr) {
        self.all -= 1;
        if let Some(count) = self.of_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.of_source.remove(&source);
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
        let source = |number: u16| -> IpAddr {
            let [a, b] = number.to_be_bytes();
            [10, 0, a, b].into()
        };
        for _ in 0..MOST_OF_ONE {
            assert!(connections.enter(source(1)));
        }
        assert!(!connections.enter(source(1)));
        for number in 2..1000 {
            connections.enter(source(number));
        }
        assert_eq!(connections.len(), MOST);
        assert!(!connections.enter(source(5000)));
        connections.leave(source(1));
        assert!(connections.enter(source(1)));
    }
}
