//! The resolver's file, `resolv.conf`, as far as IPAM looks at it.

use std::net::IpAddr;

use pontoon_conf::Dns;

/// Reads the text of a resolv.conf into the `dns` of a result.
pub(crate) fn parse(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
        let mut words = line.split_whitespace();
        let Some(key) = words.next() else { continue };
        let mut values = words.map(str::to_owned).peekable();
        if values.peek().is_none() {
            continue;
        }
        match key {
            "nameserver" => dns.nameservers.extend(values.take(1)),
            "domain" => dns.domain = values.next(),
            "search" => dns.search.extend(values),
            "options" => dns.options.extend(values),
            _ => {}
        }
    }
    dns
}

/// The servers' addresses. A zone (`fe80::1%eth0`) says on which link, which
/// does not matter to an ADD.
pub(crate) fn servers(text: &str) -> Vec<IpAddr> {
    parse(text)
        .nameservers
        .iter()
        .filter_map(|server| pontoon_conf::address(server.split('%').next()?).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys() {
        let dns = parse(
            "# nameserver 9.9.9.9\n;x\nnameserver 10.0.0.1 # first\nnameserver\tfe80::1%eth0\n\
             domain example.org\nsearch a.org b.org\nsearch c.org\noptions ndots:2 rotate\nsortlist x\nnameserver\n",
        );
        assert_eq!(dns.nameservers, ["10.0.0.1", "fe80::1%eth0"]);
        assert_eq!(dns.domain.as_deref(), Some("example.org"));
        assert_eq!(dns.search, ["a.org", "b.org", "c.org"]);
        assert_eq!(dns.options, ["ndots:2", "rotate"]);
        assert_eq!(parse(""), Dns::default());
    }

    #[test]
    fn addresses_of_servers() {
        let found = servers("nameserver 10.0.0.1\nnameserver fe80::1%eth0\nnameserver bad\n");
        assert_eq!(
            found,
            [
                "10.0.0.1".parse::<IpAddr>().expect("v4"),
                "fe80::1".parse().expect("v6")
            ]
        );
    }
}
