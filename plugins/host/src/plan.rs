//! Decisions: when the container is on the host's network.

use pontoon_netlink::NetnsId;

use crate::error::Difference;

/// What to do about a namespace that cannot be re-bound.
pub(crate) const INSTEAD: &str = "start the process in the host's network namespace (then CNI_NETNS is the host's, and nothing \
     has to be changed), or give it a named namespace (ip netns add NAME) that it joins after ADD";

/// Why the container is not on the host's network, if it is not.
pub(crate) fn difference(path: &str, container: NetnsId, host: NetnsId) -> Option<Difference> {
    (container != host).then(|| Difference {
        path: path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_decides() {
        let id = |ino| NetnsId { dev: 4, ino };
        assert_eq!(difference("/x", id(1), id(1)), None);
        let words = difference("/x", id(2), id(1)).unwrap().to_string();
        assert!(words.contains("/x"), "{words}");
    }
}
