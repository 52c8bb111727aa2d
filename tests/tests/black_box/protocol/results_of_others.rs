//! Results of plugins that say less than ours: `ips` that name no interface, or one that is not in
//! the list, as the specification allows and Calico's do.

use std::net::SocketAddr;
use std::time::Duration;

use pontoon_lab::{
    Attachment, Backend, Container, Failure, HOST_V4, HOST_V6, Network, Outcome, Site, tcp, udp,
};
use serde_json::{Value, json};

const BACKENDS: [Backend; 2] = [Backend::Nftables, Backend::IptablesNft];
const WAIT: Duration = Duration::from_secs(2);
const SUBNETS: [&str; 2] = ["10.65.1.0/24", "fd00:65:1::/64"];

/// The result as such a plugin gives it: the host's end alone, and addresses with this index.
fn of_another(result: &Value, index: &Value) -> Value {
    let mut other = result.clone();
    other["interfaces"] = json!([{ "name": "calie38e7158114" }]);
    for ip in other["ips"].as_array_mut().into_iter().flatten() {
        if let Some(ip) = ip.as_object_mut() {
            ip.remove("gateway");
            match index {
                Value::Null => ip.remove("interface"),
                index => ip.insert("interface".to_owned(), index.clone()),
            };
        }
    }
    other
}

fn chained(backend: Backend, index: &Value) -> Outcome {
    let site = Site::new(backend)?;
    let before = site.snapshot()?;
    let mut list = site.network("net", "br-net", &SUBNETS).list().clone();
    if let Some(plugins) = list["plugins"].as_array_mut() {
        plugins.push(json!({ "type": "dns", "serve": "none" }));
        plugins.push(json!({ "type": "sbr" }));
    }
    let network = Network::from_list(list);
    let runtime = site.runtime();
    let container = Container::new("web")?;
    let mut attachment = Attachment::new(&container)
        .publish("", 8080, 80, "tcp")
        .publish("", 8080, 80, "udp");
    let result = runtime.add(&network.clone().first_only(), &mut attachment)?;
    let told = of_another(&result, index);
    attachment.result = Some(told.clone());
    // A server at any address does not answer where sbr has moved the routes of the only network.
    let (sbr, others) = network.plugins()[1..]
        .split_last()
        .unwrap_or((&Value::Null, &[]));
    let call = |verb: &str, plugins: &[Value]| -> Outcome {
        for plugin in plugins {
            let stdin = network.stdin(plugin, &attachment.capabilities, Some(&told));
            let kind = plugin["type"].as_str().unwrap_or_default();
            let finished =
                runtime.call(kind, &runtime.attachment_call(verb, &stdin, &attachment))?;
            if finished.status != Some(0) {
                return Err(Failure::new(format!(
                    "{backend}, {index}: {kind} {verb}: {} {}",
                    finished.stdout, finished.stderr
                )));
            }
        }
        Ok(())
    };
    call("ADD", others)?;
    let _server = container.serve(80)?;
    for host in [HOST_V4, HOST_V6] {
        let target = SocketAddr::new(host, 8080);
        let answers = [
            site.host.run_outside(|| tcp(target, WAIT))?,
            site.host.run_outside(|| udp(target, WAIT))?,
        ];
        if let Some(silence) = answers.into_iter().find_map(Result::err) {
            return Err(Failure::new(format!(
                "{backend}, {index}: {host}: {silence}"
            )));
        }
    }
    call("CHECK", others)?;
    for verb in ["ADD", "CHECK", "DEL"] {
        call(verb, std::slice::from_ref(sbr))?;
    }
    call("DEL", others)?;
    attachment.result = Some(result);
    runtime.del(&network.clone().first_only(), &attachment)?;
    site.nothing_left(&before, &[&network], "ADD and DEL of another's result")
}

#[test]
fn addresses_without_an_interface_are_the_containers() -> Outcome {
    for backend in BACKENDS {
        for index in [json!(null), json!(7), json!(-1)] {
            chained(backend, &index)?;
        }
    }
    Ok(())
}
