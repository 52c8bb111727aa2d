//! The hosts file of a container.

use std::fmt::Write;
use std::net::IpAddr;

/// What stands in it beside localhost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts<'a> {
    /// The container's addresses.
    pub addresses: &'a [IpAddr],
    /// Its names, the one that programs shall find first at the head.
    pub names: &'a [String],
    /// The network's domain; empty for none.
    pub domain: &'a str,
}

impl Hosts<'_> {
    /// The text of the file.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::from("127.0.0.1\tlocalhost\n");
        if self.addresses.iter().any(IpAddr::is_ipv6) {
            text.push_str(
                "::1\tlocalhost ip6-localhost ip6-loopback\n\
                 fe00::\tip6-localnet\n\
                 ff00::\tip6-mcastprefix\n\
                 ff02::1\tip6-allnodes\n\
                 ff02::2\tip6-allrouters\n",
            );
        }
        // White space would begin another name.
        let fit = |name: &&String| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && byte != b'#')
        };
        let names: Vec<&String> = self.names.iter().filter(fit).collect();
        let Some(first) = names.first() else {
            return text;
        };
        for address in self.addresses {
            let _ = write!(text, "{address}\t");
            if !self.domain.is_empty() {
                let _ = write!(text, "{first}.{} ", self.domain);
            }
            let words: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
            let _ = writeln!(text, "{}", words.join(" "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_names_of_both_families() {
        let names = ["web".to_owned(), "0123456789ab".into(), "b ad".into()];
        let addresses = ["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let hosts = Hosts {
            addresses: &addresses,
            names: &names,
            domain: "dns.pontoon",
        };
        let text = hosts.text();
        assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost"));
        assert!(text.ends_with(
            "10.0.0.2\tweb.dns.pontoon web 0123456789ab\n\
             fd00::2\tweb.dns.pontoon web 0123456789ab\n"
        ));
    }

    #[test]
    fn without_names_only_localhost() {
        assert_eq!(Hosts::default().text(), "127.0.0.1\tlocalhost\n");
    }
}
