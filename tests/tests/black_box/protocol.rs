//! The CNI protocol: verbs, versions, orders, failures, and what each costs.

mod bad_input;
mod del_orders;
mod faults;
mod hostile;
mod late_del;
mod parallel;
mod results_of_others;
mod sizes;
mod state_of_root;
mod status;
mod verbs;
