//! `pontoon network`: networks of several hosts.

use etcd_client::{Compare, CompareOp, DeleteOptions, Txn, TxnOp};
use pontoon_conf::Cidr;
use pontoon_ledger::overlay::{OverlayMode, OverlaySubnet};

use super::{AdminError, judge, pretty, print, table};
use crate::cli::Create;
use crate::etcd::{OPERATIONS, answered, connect_to_any};
use crate::key::{self, Key};
use crate::settings::Settings;
use crate::value::NetworkValue;

/// How often a network is tried to be made while others make some.
const ATTEMPTS: usize = 8;

/// `network create`.
pub(super) async fn create(settings: &Settings, options: &Create) -> Result<(), AdminError> {
    let name = options.name.as_str();
    for _ in 0..ATTEMPTS {
        let (mut client, cluster, revision) = connect_to_any(&settings.etcd).await?;
        let vni = judge::vni(&cluster, options.vni).map_err(AdminError::Refused)?;
        let value = value(options, vni).map_err(AdminError::Refused)?;
        judge::creation(&cluster, name, &value).map_err(AdminError::Refused)?;
        let absent = |key: String| Compare::version(key, CompareOp::Equal, 0);
        let text = serde_json::to_vec(&value).unwrap_or_default();
        let txn = Txn::new()
            .when([
                absent(Key::Network(name.to_owned()).path()),
                absent(Key::Vni(vni).path()),
                // No network has been made or changed since the list: no other subnet can clash.
                Compare::mod_revision(key::networks(), CompareOp::Less, revision + 1).with_prefix(),
            ])
            .and_then([
                TxnOp::put(Key::Network(name.to_owned()).path(), text, None),
                TxnOp::put(Key::Vni(vni).path(), name, None),
            ]);
        if answered("make the network", client.txn(txn))
            .await?
            .succeeded()
        {
            return print(&format!("network {name} has VNI {vni}\n"));
        }
    }
    Err(AdminError::Busy)
}

fn value(options: &Create, vni: u32) -> Result<NetworkValue, String> {
    let subnet = |subnet: &Cidr| OverlaySubnet {
        subnet: *subnet,
        block_prefix: match subnet.is_ipv4() {
            true => options.block,
            false => options.block6,
        },
    };
    let subnets: Vec<OverlaySubnet> = options.subnets.iter().map(subnet).collect();
    Ok(NetworkValue {
        services: judge::services(&subnets, &options.services)?,
        subnets,
        vni,
        port: options.port,
        mode: match options.mode.as_str() {
            "vxlan" => OverlayMode::Vxlan,
            "direct" => OverlayMode::Direct,
            _ => OverlayMode::Auto,
        },
    })
}

/// `network ls`.
pub(super) async fn list(settings: &Settings, json: bool) -> Result<(), AdminError> {
    let (_, cluster, _) = connect_to_any(&settings.etcd).await?;
    if json {
        return print(&pretty(&cluster.networks));
    }
    let heading = [
        "NETWORK", "SUBNETS", "VNI", "PORT", "MODE", "BLOCKS", "HOSTS",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for (name, value) in &cluster.networks {
        let subnets = value.subnets.iter();
        let subnets = subnets.map(|it| format!("{} in /{}", it.subnet, it.block_prefix));
        let blocks: Vec<&str> = cluster
            .blocks(name)
            .filter_map(|(_, said)| said.owner())
            .collect();
        let mut hosts = blocks.clone();
        hosts.sort_unstable();
        hosts.dedup();
        rows.push(vec![
            name.clone(),
            subnets.collect::<Vec<_>>().join(" "),
            value.vni.to_string(),
            value.port.to_string(),
            value.mode.to_string(),
            blocks.len().to_string(),
            hosts.join(" "),
        ]);
    }
    print(&table(&rows))
}

/// `network rm`.
pub(super) async fn remove(settings: &Settings, name: &str, force: bool) -> Result<(), AdminError> {
    for _ in 0..ATTEMPTS {
        let (mut client, cluster, revision) = connect_to_any(&settings.etcd).await?;
        let Some(value) = cluster.networks.get(name) else {
            return Err(AdminError::NotFound(format!(
                "etcd has no network {name}: see `pontoon network ls`"
            )));
        };
        if !force {
            judge::removal(&cluster, name).map_err(AdminError::Refused)?;
        }
        // Claims that no host confirms, and with --force all of them.
        let blocks: Vec<Cidr> = cluster.blocks(name).map(|(block, _)| block).collect();
        let of_block = |(block, said): (Cidr, &crate::cluster::Block)| {
            let confirmed = said.confirmed.keys();
            let confirmed = confirmed
                .map(|host| Key::Confirmation(host.clone(), name.to_owned(), block).path());
            confirmed
                .chain([Key::Claim(name.to_owned(), block).path()])
                .collect::<Vec<_>>()
        };
        let keys: Vec<String> = cluster.blocks(name).flat_map(of_block).collect();
        let network = Key::Network(name.to_owned()).path();
        let services = DeleteOptions::new().with_prefix();
        let claims = format!("{}block/{name}/", key::PREFIX);
        let mut unchanged = vec![Compare::mod_revision(
            network.clone(),
            CompareOp::Less,
            revision + 1,
        )];
        if !blocks.is_empty() || !force {
            let claims = Compare::mod_revision(claims, CompareOp::Less, revision + 1);
            unchanged.push(claims.with_prefix());
        }
        let txn = Txn::new().when(unchanged).and_then([
            TxnOp::delete(network, None),
            TxnOp::delete(Key::Vni(value.vni).path(), None),
            TxnOp::delete(key::of_services(name), Some(services)),
        ]);
        if !answered("remove the network", client.txn(txn))
            .await?
            .succeeded()
        {
            continue;
        }
        for some in keys.chunks(OPERATIONS) {
            let some: Vec<TxnOp> = some
                .iter()
                .map(|key| TxnOp::delete(key.as_str(), None))
                .collect();
            answered(
                "remove the network's blocks",
                client.txn(Txn::new().and_then(some)),
            )
            .await?;
        }
        return print(&format!("network {name} is removed\n"));
    }
    Err(AdminError::Busy)
}
