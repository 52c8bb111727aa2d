//! `pontoon doctor`: what it finds, what it mends, and where it stays silent.

mod accounts;
mod beside;
mod cures;
mod doctor_scene;
mod illnesses;
