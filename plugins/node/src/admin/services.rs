//! `pontoon services`: what etcd says of the services of all networks.

use std::collections::{BTreeMap, BTreeSet};

use super::{AdminError, pretty, print, table};
use crate::etcd::connect_to_any;
use crate::services::{ServiceStatus, Services};
use crate::settings::Settings;

/// `services`.
pub(super) async fn list(settings: &Settings, json: bool) -> Result<(), AdminError> {
    let (_, cluster, _) = connect_to_any(&settings.etcd).await?;
    let told = cluster.endpoints.values().flat_map(BTreeMap::keys);
    let networks: BTreeSet<&String> = told.collect();
    let of = |network: &&String| Services::of(&cluster, network, None).status();
    let services: BTreeMap<&String, BTreeMap<String, ServiceStatus>> = networks
        .iter()
        .map(|network| (*network, of(network)))
        .filter(|(_, services)| !services.is_empty())
        .collect();
    if json {
        return print(&pretty(&services));
    }
    let heading = ["NETWORK", "SERVICE", "ADDRESSES", "PORTS", "CONTAINERS"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for (network, services) in &services {
        for (name, service) in services {
            rows.push(vec![
                (*network).clone(),
                name.clone(),
                service.told_addresses(),
                service.told_ports(),
                service.told_backends(),
            ]);
        }
    }
    print(&table(&rows))
}
