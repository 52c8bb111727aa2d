//! The protocol of leases, records, locks, port reservations, takeover and GC as a state machine, explored
//! whole: two containers, three processes, kills at every step, namespaces that die at any time.
//!
//! A step has the name of the fault point in the plugins that follows it, and is what happens between that
//! point and the one before. The last test holds the names against the sources.

mod state;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use stateright::{Checker, Model, Property};

use state::{ADD, COUNT, DEL, Process, State, Verb};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Action {
    Step(usize, &'static str),
    Kill(usize, &'static str),
    Die(usize),
}

/// What the processes do, and how many of them are killed at most.
struct Protocol {
    work: [Vec<Verb>; 3],
    kills: usize,
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let processes = self.work.iter().map(|work| Process {
            rest: work.clone(),
            step: 0,
            address: None,
            keep: [false; COUNT],
        });
        vec![State {
            alive: [true; COUNT],
            attached: [false; COUNT],
            lease: [None; COUNT],
            record: [false; COUNT],
            chain: [false; COUNT],
            link: [None; COUNT],
            masquerade: false,
            note: false,
            published: [false; COUNT],
            redirect: [false; COUNT],
            port: None,
            shared: [false; 3],
            alone: None,
            ports: None,
            kills: 0,
            processes: processes.collect(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for who in 0..3 {
            if let Some(name) = state.name(who) {
                actions.push(Action::Step(who, name));
                if state.kills < self.kills {
                    actions.push(Action::Kill(who, name));
                }
            }
        }
        // The namespace of the second container lives: one container has to be unharmed.
        if state.alive[0] && !state.ended() {
            actions.push(Action::Die(0));
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Step(who, _) => {
                if !next.step(who) {
                    return None;
                }
            }
            Action::Kill(who, _) => {
                next.unlock(who);
                let process = &mut next.processes[who];
                // The runtime goes on with what it had in mind after that.
                process.rest.remove(0);
                process.step = 0;
                process.address = None;
                process.keep = [false; COUNT];
                next.kills += 1;
            }
            Action::Die(container) => {
                next.alive[container] = false;
                next.attached[container] = false;
                next.link[container] = None;
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no address twice", |_, state: &State| {
                state.link[0].is_none() || state.link[0] != state.link[1]
            }),
            Property::always("a rule of a port is the owner's", |_, state: &State| {
                (0..COUNT).all(|one| !state.redirect[one] || state.port == Some(one))
            }),
            Property::always("no living attachment is touched", |_, state: &State| {
                (0..COUNT).all(|one| !state.attached[one] || state.whole(one))
            }),
            Property::always("DEL leaves nothing", |_, state: &State| {
                if !state.ended() {
                    return true;
                }
                let mut after = state.clone();
                for one in 0..COUNT {
                    // The other one is as it was.
                    let other = 1 - one;
                    let whole = after.attached[other] && after.whole(other);
                    after.alone(Verb::Del(one));
                    if whole && !after.whole(other) {
                        return false;
                    }
                }
                after.clean()
            }),
            Property::always("no rule outlives its record", |_, state: &State| {
                // A DEL that was killed comes again; one that ended does not.
                let gone = |one: usize| !state.record[one] && state.chain[one];
                !(state.ended() && state.kills == 0 && (0..COUNT).any(gone))
            }),
            Property::always("no process waits for ever", |_, state: &State| {
                // A process that waits waits for one that goes on.
                state.ended() || (0..3).any(|who| state.clone().step(who))
            }),
            Property::sometimes("both are attached or refused", |_, state: &State| {
                state.ended() && state.attached[1]
            }),
        ]
    }
}

/// Explores all; the names of the properties that do not hold.
fn violations(work: [Vec<Verb>; 3], kills: usize) -> BTreeSet<&'static str> {
    let checker = Protocol { work, kills }
        .checker()
        .threads(2)
        .spawn_bfs()
        .join();
    eprintln!("{} states", checker.unique_state_count());
    assert!(
        checker.unique_state_count() > 1000,
        "too few states for a model"
    );
    checker
        .discoveries()
        .into_iter()
        .filter(|(name, _)| *name != "both are attached or refused")
        .map(|(name, path)| {
            eprintln!("{name}: {:?}", path.into_actions());
            name
        })
        .collect()
}

fn none() -> BTreeSet<&'static str> {
    BTreeSet::new()
}

#[test]
fn two_containers_and_gc_with_two_kills() {
    let work = [
        vec![Verb::Add(0), Verb::Del(0)],
        vec![Verb::Add(1)],
        vec![Verb::Gc],
    ];
    assert_eq!(violations(work, 2), none());
}

#[test]
fn both_come_and_go_while_gc_runs() {
    let work = [
        vec![Verb::Add(0), Verb::Del(0)],
        vec![Verb::Add(1), Verb::Del(1)],
        vec![Verb::Gc],
    ];
    assert_eq!(violations(work, 1), none());
}

#[test]
fn a_container_is_added_again_where_the_first_add_was_killed() {
    let work = [
        vec![Verb::Add(0), Verb::Del(0), Verb::Add(0)],
        vec![Verb::Add(1)],
        vec![],
    ];
    assert_eq!(violations(work, 2), none());
}

#[test]
fn a_repair_makes_nothing_again_that_goes_meanwhile() {
    let work = [
        vec![Verb::Add(0), Verb::Del(0)],
        vec![Verb::Add(1), Verb::Del(1)],
        vec![Verb::Repair],
    ];
    assert_eq!(violations(work, 1), none());
    let work = [
        vec![Verb::Add(0), Verb::Del(0)],
        vec![Verb::Gc],
        vec![Verb::Repair, Verb::Repair],
    ];
    assert_eq!(violations(work, 1), none());
}

/// The list of the living is old when the plugins go by it: what `pontoon gc --all-dead` did until it
/// named the dead. The model finds both that were seen.
#[test]
fn a_list_of_the_living_harms_those_who_come_meanwhile() {
    let work = [
        vec![Verb::Add(0)],
        vec![Verb::Add(1)],
        vec![Verb::GcAllDead],
    ];
    let found = violations(work, 0);
    for wanted in ["no address twice", "no living attachment is touched"] {
        assert!(found.contains(wanted), "not found: {wanted}");
    }
}

/// Fault points that lie inside one step of the model, since nothing that it knows of changes there.
const WITHIN: [&str; 18] = [
    "bridge.created",
    "bridge.addressed",
    "bridge.forwarding",
    "bridge.guarded",
    "portmap.promoted",
    // The index of leases is made again from the files whenever the two differ.
    "ipam-boot",
    "ipam-cursor",
    "ipam-header",
    "ipam-linked",
    "ipam-note",
    "ipam-put-aside",
    "ipam-release",
    "ipam-stale",
    "ipam-stamp",
    "ipam-two-names",
    "ipam-unindexed",
    "ipam-unlock",
    "ipam-written",
];

#[test]
fn steps_have_the_names_of_the_fault_points() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut points = BTreeSet::new();
    let mut rest: Vec<_> = ["plugins/bridge/src", "plugins/portmap/src", "ipam/src"]
        .map(|dir| root.join(dir))
        .into();
    while let Some(path) = rest.pop() {
        if path.is_dir() {
            rest.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .flatten()
                    .map(|entry| entry.path()),
            );
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        for start in ["fault::point(\"", "fault(\"", "crash(\""] {
            points.extend(
                text.split(start)
                    .skip(1)
                    .filter_map(|rest| rest.split('"').next())
                    .map(str::to_owned),
            );
        }
    }
    let steps: BTreeSet<&str> = ADD.iter().chain(&DEL).copied().collect();
    for point in &points {
        let known = steps.contains(point.as_str()) || WITHIN.contains(&point.as_str());
        assert!(known, "the model knows no step {point}");
    }
    // What has a blank in it is no fault point.
    for step in steps
        .iter()
        .chain(&WITHIN)
        .filter(|step| !step.contains(' '))
    {
        assert!(
            points.contains(*step),
            "the sources have no fault point {step}"
        );
    }
}
