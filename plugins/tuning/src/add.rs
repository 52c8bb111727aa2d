//! ADD: looks, plans, remembers what is, then changes it.

use pontoon_conf::{AddResult, Error};
use pontoon_ledger::{Key, TuningRecord};
use pontoon_netlink::Link;
use pontoon_plugin::{Context, Undo, fault, warn};

use crate::config::Config;
use crate::error::SettingError;
use crate::inside::ContainerAccess;
use crate::{allowlist, backup, plan, undo};

pub(crate) fn add(context: &Context) -> Result<AddResult, Error> {
    let mut config = Config::from_context(context)?;
    if config.needs_link()
        && let Some(mode) = context.mode()?
    {
        config.forget_link();
        warn(format_args!(
            "tuning: warning: mac, mtu, promisc, allmulti and txQLen are ignored, since a container of type {} has no interface for them",
            mode.name
        ));
    }
    allowlist::ask(&config.sysctls)?;
    let previous = context.required_prev_result()?;
    let key = context.key()?;
    let record = TuningRecord {
        sandbox: context.sandbox(),
        backup: backup::path(&config.data_dir, &key),
    };
    let mut steps = Undo::default();
    match tune(context, &config, &key, &record, &mut steps) {
        Ok(()) => {
            steps.commit();
            Ok(plan::result(previous, &config, &key.interface))
        }
        Err(error) => Err(steps.unwind(error, |()| undo::give_back(context, &key, Some(&record)))),
    }
}

fn tune(
    context: &Context,
    config: &Config,
    key: &Key,
    record: &TuningRecord,
    undo: &mut Undo<()>,
) -> Result<(), Error> {
    if let Some(stale) = context.state.read::<TuningRecord>(key)? {
        // An earlier ADD of this very attachment was killed, and its DEL never came: what it
        // remembered is what was before, and not what it has changed.
        undo::give_back(context, key, Some(&stale))?;
    }
    let mut inside = ContainerAccess::open(context.netns()?)?;
    let name = &key.interface;
    // Kernel parameters need no interface: a device of a userspace driver stays on the host.
    let link = match config.needs_link() {
        false => Link::default(),
        true => inside.link(name)?.ok_or_else(|| SettingError::NoLink {
            interface: name.clone(),
        })?,
    };
    let before = inside.read(&config.sysctls)?;
    let plan = plan::plan(config, &link, &before);
    undo.push(());
    // The record first: it names the file, so that GC finds it however early this ADD is killed.
    context.state.write(key, record)?;
    fault::point("tuning.recorded")?;
    backup::write(&record.backup, &plan.backup)?;
    fault::point("tuning.remembered")?;
    // Parameters first: the MTU of IPv6, for one, follows the link's own.
    inside.write(&plan.sysctls)?;
    inside.change(&link, &plan.link)?;
    fault::point("tuning.changed")?;
    if let Some(mac) = plan.mac {
        inside.set_mac(&link, mac)?;
    }
    fault::point("tuning.addressed")
}
