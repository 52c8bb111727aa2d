//! The outermost layer: environment and standard input in, one JSON document out.

use std::io::{Read, Write};
use std::path::PathBuf;

use pontoon_conf::{
    AddResult, Error, Invocation, NetworkConfig, Verb, Version, VersionInfo, banner,
};
use pontoon_ledger::State;
use pontoon_ledger::kinds::{self, Role};

use crate::Context;
use crate::error::ProcessError;
use crate::log::Log;
use crate::{warn, warning};

/// A CNI plugin: one method a verb. The methods get validated values and return values; reading
/// and printing is [`main`]'s business.
pub trait Plugin {
    /// The name under which runtimes find the binary.
    const NAME: &'static str;

    /// Versions of the specification that the plugin speaks.
    const VERSIONS: &'static [Version] = &Version::ALL;

    /// Whether the container may be in the namespace that the plugin itself runs in. Where it may
    /// not, such a `CNI_NETNS` is refused before the verb runs.
    const ON_THE_HOST: bool = false;

    /// Whether the plugin has something to do for a container that has no network (type `none`).
    const WITHOUT_NETWORK: bool = false;

    /// Creates the attachment.
    ///
    /// # Errors
    /// Whatever failed; nothing of the attachment is left then.
    fn add(&self, context: &Context) -> Result<AddResult, Error>;

    /// Removes the attachment; succeeds when there is none.
    ///
    /// # Errors
    /// Only what a second DEL could mend.
    fn del(&self, context: &Context) -> Result<(), Error>;

    /// Compares the attachment with what ADD made.
    ///
    /// # Errors
    /// The first difference, by name.
    fn check(&self, context: &Context) -> Result<(), Error>;

    /// Says whether an ADD could succeed now.
    ///
    /// # Errors
    /// Code 50 or 51 with the reason.
    fn status(&self, _context: &Context) -> Result<(), Error> {
        Ok(())
    }

    /// Removes what belongs to attachments of the network that are not valid any more.
    ///
    /// # Errors
    /// What could not be removed; the rest is gone.
    fn gc(&self, _context: &Context) -> Result<(), Error> {
        Ok(())
    }

    /// Called after an ADD that succeeded and after every DEL: the container may answer by other networks
    /// than before.
    fn changed(&self, _context: &Context) {}

    /// Refuses a configuration that ADD would refuse without asking the kernel: for
    /// `pontoon lint`, which has no container.
    ///
    /// # Errors
    /// The error of ADD.
    fn judge(&self, _context: &Context) -> Result<(), Error> {
        Ok(())
    }
}

/// Longest configuration with its `prevResult`, in bytes. Kubernetes keeps no object over 1.5 MB; every port of
/// one protocol, published one by one at an address, takes 5 MB.
const LONGEST_INPUT: u64 = 6 * 1024 * 1024;

/// Runs a plugin as a process: the whole of a plugin's `main`.
pub fn main<P: Plugin>(plugin: &P) -> ! {
    std::panic::set_hook(Box::new(|panic| {
        let error = Error::from(ProcessError::Panic {
            place: panic
                .location()
                .map_or_else(String::new, ToString::to_string),
            words: panic.payload_as_str().unwrap_or_default().to_owned(),
        });
        // As after a kill, the runtime's DEL removes what has been made.
        pontoon_netlink::end(fail(&error, None))
    }));
    pontoon_netlink::end(serve(plugin))
}

/// Whether all went well.
fn serve<P: Plugin>(plugin: &P) -> bool {
    let invocation = match Invocation::from_environment(variable) {
        Ok(Some(invocation)) => invocation,
        Ok(None) => {
            let text = banner(P::NAME, env!("CARGO_PKG_VERSION"));
            // The last line is what pontoon install knows our programs by.
            warning::print(format_args!("{text}Part of Pontoon, see pontoon(1)."));
            return true;
        }
        Err(error) => return fail(&error, None),
    };
    let mut log = Log::begin(P::NAME, &invocation, variable);
    // Room for a usual configuration, else it is read in pieces of 32, 64, 128 bytes.
    let mut input = Vec::with_capacity(16 * 1024);
    let stdin = std::io::stdin().lock().take(LONGEST_INPUT + 1);
    if let Err(error) = { stdin }.read_to_end(&mut input) {
        return fail(&ProcessError::Input(error).into(), None);
    }
    if input.len() as u64 > LONGEST_INPUT {
        let most = LONGEST_INPUT;
        return fail(&ProcessError::LongInput { most }.into(), None);
    }
    if invocation.verb == Verb::Version {
        return print(&VersionInfo::answer(&input, P::VERSIONS).to_json()).is_ok();
    }
    let config = match NetworkConfig::parse_supporting(&input, invocation.verb, P::VERSIONS) {
        Ok(config) => config,
        Err(error) => {
            log.end(Err(&error));
            return fail(&error, NetworkConfig::peek_version(&input));
        }
    };
    log.configured(&invocation, &config);
    if let Some(problem) = &config.prev_result_problem {
        warn(format_args!(
            "{}: going on without prevResult: {problem}",
            P::NAME
        ));
    }
    let version = config.version;
    match run(plugin, invocation, config) {
        Ok(attached) => {
            log.end(Ok(attached.as_ref()));
            true
        }
        Err(error) => {
            let told = fail(&error, Some(version));
            log.end(Err(&error));
            told
        }
    }
}

/// Does the verb and prints its result.
fn run<P: Plugin>(
    plugin: &P,
    invocation: Invocation,
    config: NetworkConfig,
) -> Result<Option<AddResult>, Error> {
    let mut context = Context::new(invocation, config, State::locate()?, search());
    let Some((text, attached)) = answer(plugin, &mut context)? else {
        return Ok(None);
    };
    if let Err(error) = print(&text) {
        // To the runtime this is a failed ADD, so nothing may stay.
        let error = Error::from(ProcessError::Output(error));
        return Err(match plugin.del(&context) {
            Ok(()) => error,
            Err(undo) => error.with_more(format_args!(
                "and what was made could not be removed: {undo}"
            )),
        });
    }
    Ok(Some(attached))
}

fn answer<P: Plugin>(
    plugin: &P,
    context: &mut Context,
) -> Result<Option<(String, AddResult)>, Error> {
    if after_mode::<P>(context)? {
        let attached = context.config.prev_result.clone().unwrap_or_default();
        return match context.invocation.verb {
            Verb::Add => {
                let text = attached.to_json(context.config.version)?;
                Ok(Some((text, attached)))
            }
            _ => Ok(None),
        };
    }
    if !P::ON_THE_HOST {
        context.refuse_own_namespace()?;
    }
    match context.invocation.verb {
        Verb::Add => {
            let attached = plugin
                .add(context)
                .inspect_err(|_| remove_unused::<P>(context))?;
            plugin.changed(context);
            let text = attached.to_json(context.config.version);
            if text.is_err() {
                // The result cannot be told in the asked version: the runtime will see a failed
                // ADD, so nothing may stay. DEL converges and its own trouble is secondary here.
                let _ = plugin.del(context);
            }
            text.map(|text| Some((text, attached)))
        }
        Verb::Del => {
            let done = plugin.del(context);
            plugin.changed(context);
            remove_unused::<P>(context);
            done.map(|()| None)
        }
        Verb::Check => plugin.check(context).map(|()| None),
        Verb::Status => plugin.status(context).map(|()| None),
        Verb::Gc => {
            let done = plugin.gc(context);
            remove_unused::<P>(context);
            done.map(|()| None)
        }
        Verb::Version => Ok(None),
    }
}

/// The end of every DEL and GC, and of an ADD that failed: directories that a killed ADD has left go, and with the last
/// record of the plugin what no record of the host needs.
fn remove_unused<P: Plugin>(context: &Context) {
    let state = &context.state;
    let network = context.config.name.as_str();
    let folder = kinds::of(P::NAME).and_then(|kind| kind.records);
    let records = folder.map(|folder| state.records(folder));
    if let Some(records) = &records {
        records.tidy(network);
        if records.dir().join(network).exists() {
            // Others are there, and the drafts of killed writers are not theirs.
            state.remove_drafts();
            return;
        }
    }
    if let Err(error) = state.remove_unused_network_locks(network) {
        warn(format_args!("{}: warning: {error}", P::NAME));
    }
    if records.is_some_and(|records| records.dir().exists()) {
        state.remove_drafts();
    } else {
        state.prune();
    }
}

/// Whether a plugin passes over a container that the first plugin of its list has put into a
/// namespace which is not its own, or into none: there is no interface to add to. DEL passes over
/// only when nothing is recorded.
fn after_mode<P: Plugin>(context: &mut Context) -> Result<bool, Error> {
    let chained = kinds::of(P::NAME).filter(|kind| kind.role == Role::Chained);
    let verb = context.invocation.verb;
    let (Some(own), Verb::Add | Verb::Del | Verb::Check) = (chained, verb) else {
        return Ok(false);
    };
    let Some(mode) = context.mode()? else {
        return Ok(false);
    };
    if mode.name == "none" && P::WITHOUT_NETWORK {
        return Ok(false);
    }
    let key = context.key()?;
    let recorded = match own.records {
        Some(records) => context.state.records(records).holds(&key)?,
        None => false,
    };
    if verb == Verb::Del && recorded {
        context.leave_netns();
        return Ok(false);
    }
    if verb == Verb::Add {
        say_ignored(context, P::NAME, mode.name)?;
    }
    Ok(true)
}

fn say_ignored(context: &Context, plugin: &str, mode: &str) -> Result<(), Error> {
    let why = match mode {
        "host" => "the container is in the host's network namespace",
        "container" => "the container is in the network namespace of another one",
        _ => "the container has no network",
    };
    match (plugin, context.port_mappings()?) {
        ("portmap", 0) => {}
        ("portmap", _) => warn(format_args!(
            "portmap: warning: published ports are ignored, since {why} (type {mode})"
        )),
        _ => warn(format_args!(
            "{plugin}: warning: it does nothing here, since {why} (type {mode})"
        )),
    }
    Ok(())
}

/// The one place of a plugin that reads the environment.
#[allow(
    clippy::disallowed_methods,
    reason = "the protocol is the environment, and it is read here"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// `PATH`, and where administration programs lie when a runtime was started without them in it.
#[must_use]
pub fn search() -> Vec<PathBuf> {
    let path = variable("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    dirs.extend(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from));
    dirs
}

/// Where the system bus is, when the environment says so.
#[must_use]
pub fn system_bus() -> Option<String> {
    variable("DBUS_SYSTEM_BUS_ADDRESS")
}

fn print(text: &str) -> std::io::Result<()> {
    // In one piece, so that the reader is woken once.
    let text = format!("{}\n", text.strip_suffix('\n').unwrap_or(text));
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Specification section "Error": the object goes to standard output, exit code 1.
fn fail(error: &Error, version: Option<Version>) -> bool {
    if let Err(unprinted) = print(&error.to_json(version)) {
        warn(format_args!("{error}; and standard output: {unprinted}"));
    }
    false
}
