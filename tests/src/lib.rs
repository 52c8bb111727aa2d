//! The lab: hosts, containers and the outside world as network namespaces, and a runtime that
//! calls CNI plugins the way libcni does.
//!
//! Everything here touches the plugins from outside only: by environment, stdin, exit status, and
//! packets. A [`Host`] is a namespace with an uplink to an outside client; a [`Container`] is an
//! empty namespace with a path; a [`Runtime`] runs a [`Network`]'s plugin chain for an
//! [`Attachment`]; an [`Echo`] server tells every client which address it saw; a [`Snapshot`] is
//! all that an operation could have left on a host, as text to compare.
//!
//! Each object takes away what it made when it is dropped, names are unique in the machine, and
//! hosts share nothing, so that labs run side by side. The machine's own links, rules and sysctls
//! are never touched.
//!
//! What the lab does not do: it decides nothing about what is right. That is said by the tests in
//! `tests/`, by the demo, and by the bench's bars.

mod lab;

pub use lab::chained::{Chained, chained_faults};
pub use lab::container::Container;
pub use lab::containerd::{Containerd, Pod};
pub use lab::daemon::Daemon;
pub use lab::failure::{Failure, Outcome};
pub use lab::firewall::Backend;
pub use lab::host::{HOST_V4, HOST_V6, Host, OUTSIDE_V4, OUTSIDE_V6, SECOND_V4, SECOND_V6, cable};
pub use lab::names::same;
pub use lab::nameserver::{NameServer, WRONG};
pub use lab::network::{Attachment, Network};
pub use lab::outcome::{CniError, Finished};
pub use lab::podman::{IMAGE, Podman};
pub use lab::probe::{Ask, BOTH, Echo, Reply, Silence, tcp, udp};
pub use lab::programs::{Programs, find, libraries, missing, target_dir};
pub use lab::router::{Advertisement, Router, advertise};
pub use lab::runtime::{Call, Runtime};
pub use lab::schemas::shipped_schemas;
pub use lab::scratch::Scratch;
pub use lab::screen::Screen;
pub use lab::site::Site;
pub use lab::snapshot::Snapshot;
pub use lab::station::Protocol;
pub use lab::volley::{Fate, Shot, Volley};
