//! What a verb gets to see.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use pontoon_conf::{
    AddResult, Args, Attachment, ContainerId, Error, IfName, Invocation, KnownAs, NetworkConfig,
    Verb,
};
use pontoon_ledger::kinds::{self, Kind, Role};
use pontoon_ledger::{Key, Sandbox, State};
use pontoon_netlink::{Netns, NetnsError};

use crate::error::{ContextError, netns_error};
use crate::warn;

/// Everything that a verb knows of its invocation.
#[derive(Debug)]
pub struct Context {
    /// Who asks, and for which container.
    pub invocation: Invocation,
    /// The network configuration, with `prevResult` when there is one.
    pub config: NetworkConfig,
    /// Where runtime state lives.
    pub state: State,
    /// Where programs of the host are looked for.
    pub search: Vec<PathBuf>,
    netns: OnceLock<Result<Netns, Arc<NetnsError>>>,
    /// The namespace at `CNI_NETNS` is not the container's: the verb goes on without it.
    elsewhere: bool,
    /// Container id and interface name of each attachment that GC keeps.
    valid: OnceLock<HashSet<(String, String)>>,
}

impl Context {
    pub(crate) fn new(
        invocation: Invocation,
        config: NetworkConfig,
        state: State,
        search: Vec<PathBuf>,
    ) -> Self {
        Self {
            invocation,
            config,
            state,
            search,
            netns: OnceLock::new(),
            elsewhere: false,
            valid: OnceLock::new(),
        }
    }

    /// A configuration without a runtime that sends it and without a container, to be judged by
    /// [`Plugin::judge`](crate::Plugin::judge).
    ///
    /// # Errors
    /// Those of a configuration that no plugin can read.
    pub fn to_judge(bytes: &[u8]) -> Result<Self, Error> {
        let invocation = Invocation {
            verb: Verb::Add,
            container_id: Some("judged".parse().map_err(ContextError::Name)?),
            netns: None,
            ifname: Some("eth0".parse().map_err(ContextError::Name)?),
            args: Args::default(),
            path: Vec::new(),
            netns_override: false,
        };
        let config = NetworkConfig::parse(bytes, Verb::Add)?;
        Ok(Self::new(
            invocation,
            config,
            State::at(Path::new("/nonexistent")),
            Vec::new(),
        ))
    }

    /// The same call with another configuration: for a plugin that is built on another one's verbs.
    #[must_use]
    pub fn with_config(&self, config: NetworkConfig) -> Self {
        Self {
            elsewhere: self.elsewhere,
            ..Self::new(
                self.invocation.clone(),
                config,
                self.state.clone(),
                self.search.clone(),
            )
        }
    }

    /// The attachment that the verb is about.
    ///
    /// # Errors
    /// Code 4 when the verb names none (GC, STATUS).
    pub fn key(&self) -> Result<Key, Error> {
        let (container, interface) = self.attachment()?;
        Ok(Key {
            network: self.config.name.to_string(),
            container: container.to_string(),
            interface: interface.to_string(),
        })
    }

    /// Container id and interface name.
    ///
    /// # Errors
    /// Code 4 when the verb names none (GC, STATUS).
    pub fn attachment(&self) -> Result<(&ContainerId, &IfName), Error> {
        self.invocation.attachment()
    }

    /// From now on the container's namespace counts as gone: what `CNI_NETNS` leads to is another's.
    pub(crate) fn leave_netns(&mut self) {
        self.elsewhere = true;
    }

    /// Container id and interface name of each attachment that GC keeps, to be looked up.
    pub(crate) fn valid_attachments(&self) -> &HashSet<(String, String)> {
        self.valid.get_or_init(|| {
            let listed = self.config.valid_attachments.iter().flatten();
            let pair = |one: &Attachment| (one.container_id.to_string(), one.ifname.to_string());
            listed.map(pair).collect()
        })
    }

    /// The plugin that has put the container into a namespace which is not its own, or into none:
    /// the first of this attachment's list, if it is one of these.
    ///
    /// # Errors
    /// Code 5 when the system does not tell whether there is a record.
    pub fn mode(&self) -> Result<Option<&'static Kind>, Error> {
        let Ok(key) = self.key() else { return Ok(None) };
        for kind in kinds::with_role(Role::Mode) {
            if self.state.records(kind.name).holds(&key)? {
                return Ok(Some(kind));
            }
        }
        Ok(None)
    }

    fn open_netns(&self) -> Option<&Result<Netns, Arc<NetnsError>>> {
        if self.elsewhere {
            return None;
        }
        let path = self.invocation.netns.as_deref()?;
        let open = || Netns::open(Path::new(path)).map_err(Arc::new);
        Some(self.netns.get_or_init(open))
    }

    /// The container's network namespace; the verb cannot go on without it.
    ///
    /// # Errors
    /// Code 4 when `CNI_NETNS` is missing or names no network namespace.
    pub fn netns(&self) -> Result<&Netns, Error> {
        match self.open_netns() {
            Some(Ok(netns)) => Ok(netns),
            Some(Err(error)) => Err(netns_error(Arc::clone(error))),
            None => Err(ContextError::NoNetns.into()),
        }
    }

    /// The container's network namespace, if it is still there: DEL goes on without it.
    #[must_use]
    pub fn netns_if_alive(&self) -> Option<&Netns> {
        self.open_netns()?.as_ref().ok()
    }

    /// What the plugins before this one have made; the verb cannot go on without it.
    ///
    /// # Errors
    /// Code 7 when the configuration has no `prevResult`.
    pub fn required_prev_result(&self) -> Result<&AddResult, Error> {
        let previous = self.config.prev_result.as_ref();
        previous.ok_or_else(|| ContextError::NoPrevResult.into())
    }

    /// The namespace that the verb is about, as records keep it.
    #[must_use]
    pub fn sandbox(&self) -> Sandbox {
        let path = self.invocation.netns.as_deref().unwrap_or_default();
        Sandbox::new(path, self.netns_if_alive())
    }

    /// The namespace of the call, for taking back what a record tells of: none when it is gone, or
    /// is another one than that of the record. A path may lead elsewhere by now.
    #[must_use]
    pub fn netns_of_record(&self, sandbox: Option<&Sandbox>) -> Option<&Netns> {
        let netns = self.netns_if_alive()?;
        sandbox
            .is_none_or(|sandbox| sandbox.is(netns))
            .then_some(netns)
    }

    /// For GC: whether the runtime lists an attachment as valid; `None` when it gives no list.
    #[must_use]
    pub fn is_listed(&self, key: &Key) -> Option<bool> {
        self.config.valid_attachments.as_ref()?;
        let pair = (key.container.clone(), key.interface.clone());
        Some(self.valid_attachments().contains(&pair))
    }

    /// For GC: whether an attachment that has no record here is to be removed, with what another plugin
    /// has made for it. `None` when neither a runtime nor `pontoon gc` tells which are not.
    #[must_use]
    pub fn is_unrecorded_garbage(&self, key: &Key) -> Option<bool> {
        if let Some(listed) = self.is_listed(key) {
            return Some(!listed);
        }
        let spared = self.config.spared_attachments.as_ref()?;
        let names = |one: &Attachment| {
            one.container_id.as_str() == key.container && one.ifname.as_str() == key.interface
        };
        Some(!spared.iter().any(names) && !self.state.is_attached(key))
    }

    /// The names of the container, without its id: for the records of those who are attached.
    #[must_use]
    pub fn names(&self) -> Vec<KnownAs> {
        let (mut names, _) = KnownAs::of(&self.invocation, &self.config);
        if let Some(id) = &self.invocation.container_id {
            let id = id.as_str().to_ascii_lowercase();
            names.retain(|name| !id.starts_with(name.as_str()));
        }
        names
    }

    /// How many port mappings the runtime asks for, by the capability `portMappings`: for plugins
    /// that publish none.
    ///
    /// # Errors
    /// Code 7 when the capability is not a list.
    pub fn port_mappings(&self) -> Result<usize, Error> {
        #[derive(Default, serde::Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Runtime {
            port_mappings: Vec<serde::de::IgnoredAny>,
        }
        self.config
            .runtime::<Runtime>()
            .map(|runtime| runtime.port_mappings.len())
    }

    /// A verb on the namespace that the plugin itself runs in would change the host's own
    /// interfaces: refused before anything is touched. DEL goes on as if the namespace were gone: what
    /// lies outside it has to go, and the path may lead to the host because a type `host` network of
    /// the container makes it so, or because another process has the number of the container's by
    /// now. A path that is no namespace is left to the verb, because DEL must go on without one and
    /// IPAM never enters it.
    pub(crate) fn refuse_own_namespace(&mut self) -> Result<(), Error> {
        if self.invocation.netns_override {
            return Ok(());
        }
        let netns = match self.open_netns() {
            Some(Ok(netns)) => netns,
            // What cannot be opened now may well live: DEL would forget what is in it.
            Some(Err(error)) if matches!(**error, NetnsError::Io { .. }) => {
                return Err(netns_error(Arc::clone(error)));
            }
            Some(Err(_)) | None => return Ok(()),
        };
        let own = Netns::current().map_err(netns_error)?;
        if !netns.same_as(&own) {
            return Ok(());
        }
        let path = self.invocation.netns.as_deref().unwrap_or_default();
        if self.invocation.verb == Verb::Del {
            warn(format_args!(
                "warning: CNI_NETNS {path} is the network namespace that the plugin itself runs in: nothing in it is touched, and what the container has outside it is removed"
            ));
            self.leave_netns();
            return Ok(());
        }
        let path = path.to_owned();
        Err(ContextError::OwnNetns { path }.into())
    }
}
