//! The admin's command, `pontoon`: what each of its commands prints and does.

mod changes;
mod commands;
mod devices;
mod gc_by_the_dead;
mod graph;
mod lint;
mod logs;
mod watch;
