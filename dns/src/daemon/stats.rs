//! What happened, in numbers.

use std::fmt::Write;

macro_rules! counters {
    ($($field:ident: $help:literal,)*) => {
        /// Counters since the start.
        #[derive(Debug, Default, Clone)]
        pub(crate) struct Stats {
            $(pub(crate) $field: u64,)*
        }

        impl Stats {
            /// Name, meaning and value of each.
            pub(crate) fn all(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($field), $help, self.$field),)*]
            }
        }
    };
}

counters! {
    udp_queries: "datagrams received",
    tcp_queries: "messages received over TCP",
    malformed: "packets that are no query, dropped",
    local_answers: "questions answered from records",
    refused: "questions refused",
    forwarded: "questions asked of another server",
    merged: "questions that joined the same one under way",
    cache_hits: "questions answered from the cache",
    upstream_timeouts: "servers that did not answer within a second",
    upstream_refusals: "replies with SERVFAIL or REFUSED, and closed ports",
    upstream_strange: "datagrams that were no reply to our question, dropped",
    tcp_retries: "questions asked again over TCP because the reply was truncated",
    servfail: "questions that no server answered",
    over_limit: "questions and connections above a bound",
    send_failures: "replies that the kernel did not take",
}

impl Stats {
    /// Prometheus's text format.
    pub(crate) fn metrics(&self, gauges: &[(&str, &str, usize)]) -> String {
        let mut text = String::new();
        for (name, help, value) in self.all() {
            let name = format!("pontoon_dns_{name}_total");
            let _ = write!(
                text,
                "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}\n"
            );
        }
        for (name, help, value) in gauges {
            let name = format!("pontoon_dns_{name}");
            let _ = write!(
                text,
                "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n"
            );
        }
        text
    }
}
