//! Real runtimes: cnitool, podman, containerd.

mod cnitool;
mod containerd;
mod podman;
mod private_apt;
