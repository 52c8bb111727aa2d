//! The protocol of leases, records, locks, port reservations, takeover and GC as a state machine, explored
//! whole: two containers, three processes, kills at every step, namespaces that die at any time.
//!
//! A step has the name of the fault point in the plugins that follows it, and is what happens between that
//! point and the one before. The last test holds the names against the sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use stateright::{Checker, Model, Property};

/// Containers, and addresses in the pool.
const COUNT: usize = 2;

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Verb {
    Add(usize),
    Del(usize),
    /// GC without a list: what is dead at the moment goes.
    Gc,
    /// `pontoon gc --all-dead`: looks once, then has the plugins remove all but what lived then.
    GcAllDead,
}

/// What a process has to do yet, and what it remembers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Process {
    rest: Vec<Verb>,
    step: usize,
    address: Option<usize>,
    keep: [bool; COUNT],
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    alive: [bool; COUNT],
    /// The runtime has been told that ADD succeeded, and has not asked for DEL.
    attached: [bool; COUNT],
    /// Owner of each address.
    lease: [Option<usize>; COUNT],
    /// bridge's record.
    record: [bool; COUNT],
    /// The address on the container's link.
    link: [Option<usize>; COUNT],
    /// The network's rules, and the note that they were made.
    masquerade: bool,
    note: bool,
    /// portmap's record, its rules, and the owner of the port that both containers want.
    published: [bool; COUNT],
    redirect: [bool; COUNT],
    port: Option<usize>,
    /// Who holds the network's lock shared or alone, and the lock of the ports.
    shared: [bool; 3],
    alone: Option<usize>,
    ports: Option<usize>,
    kills: usize,
    processes: Vec<Process>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Action {
    Step(usize, &'static str),
    Kill(usize, &'static str),
    Die(usize),
}

/// The steps of ADD: bridge, then portmap.
const ADD: [&str; 12] = [
    "ipam-reserve",
    "ipam-indexed",
    "bridge.leased",
    "bridge.recorded",
    "bridge.masqueraded",
    "bridge.plugged",
    "bridge.configured",
    "portmap clears",
    "portmap.recorded",
    "portmap.reserved",
    "portmap.published",
    "portmap.hairpin",
];

/// The steps of DEL: portmap, then bridge.
const DEL: [&str; 10] = [
    "portmap looks",
    "portmap.withdrawn",
    "portmap.given-back",
    "portmap.removed",
    "bridge.unplugged",
    "ipam-unlinked",
    "bridge.released",
    "bridge.stood-down",
    "retire withdraws",
    "bridge.retired",
];

/// The steps of GC for each container, then those for the network.
const GC: [&str; 12] = [
    "GC looks",
    "GC unplugs 0",
    "GC forgets 0",
    "GC unplugs 1",
    "GC forgets 1",
    "GC collects leases",
    "GC withdraws 0",
    "GC gives back 0",
    "GC withdraws 1",
    "GC gives back 1",
    "retire withdraws",
    "GC retires",
];

impl Verb {
    fn steps(self) -> &'static [&'static str] {
        match self {
            Self::Add(_) => &ADD,
            Self::Del(_) => &DEL,
            Self::Gc | Self::GcAllDead => &GC,
        }
    }
}

impl State {
    fn name(&self, who: usize) -> Option<&'static str> {
        let process = &self.processes[who];
        process.rest.first().map(|verb| verb.steps()[process.step])
    }

    fn unlock(&mut self, who: usize) {
        self.shared[who] = false;
        if self.alone == Some(who) {
            self.alone = None;
        }
        if self.ports == Some(who) {
            self.ports = None;
        }
    }

    /// One step of a process; false when it has to wait for a lock.
    fn step(&mut self, who: usize) -> bool {
        let Some(verb) = self.processes[who].rest.first().copied() else {
            return false;
        };
        let done = match verb {
            Verb::Add(container) => self.add(who, container),
            Verb::Del(container) => self.del(who, container),
            Verb::Gc | Verb::GcAllDead => self.gc(who, verb),
        };
        match done {
            Next::Waits => return false,
            Next::Stays => {}
            Next::Goes(step) => self.processes[who].step = step,
            Next::Fails => {
                // The runtime's DEL follows.
                self.unlock(who);
                if let Verb::Add(container) = verb {
                    self.processes[who].rest[0] = Verb::Del(container);
                }
                self.processes[who].step = 0;
            }
        }
        if self.processes[who].step >= verb.steps().len() {
            let process = &mut self.processes[who];
            process.rest.remove(0);
            process.step = 0;
            process.address = None;
            process.keep = [false; COUNT];
            self.unlock(who);
        }
        true
    }

    fn lock_shared(&mut self, who: usize) -> bool {
        if self.alone.is_some_and(|holder| holder != who) {
            return false;
        }
        self.shared[who] = true;
        true
    }

    fn lock_alone(&mut self, who: usize) -> bool {
        let others = (0..3).any(|other| other != who && self.shared[other]);
        if others || self.alone.is_some_and(|holder| holder != who) {
            return false;
        }
        self.shared[who] = false;
        self.alone = Some(who);
        true
    }

    fn lock_ports(&mut self, who: usize) -> bool {
        if self.ports.is_some_and(|holder| holder != who) {
            return false;
        }
        self.ports = Some(who);
        true
    }

    fn add(&mut self, who: usize, container: usize) -> Next {
        let step = self.processes[who].step;
        match ADD[step] {
            "ipam-reserve" => {
                // One process at a time has the lock of the leases.
                let Some(free) = self.lease.iter().position(Option::is_none) else {
                    return Next::Fails;
                };
                self.lease[free] = Some(container);
                self.processes[who].address = Some(free);
            }
            "bridge.recorded" => {
                if !self.lock_shared(who) {
                    return Next::Waits;
                }
                self.record[container] = true;
            }
            "bridge.masqueraded" => {
                self.note = true;
                self.masquerade = true;
                self.unlock(who);
            }
            "bridge.plugged" => {
                if !self.alive[container] {
                    return Next::Fails;
                }
                self.link[container] = self.processes[who].address;
            }
            "portmap clears" => {
                if !self.lock_ports(who) {
                    return Next::Waits;
                }
                match self.port {
                    Some(owner) if owner != container && self.published[owner] => {
                        if self.alive[owner] {
                            return Next::Fails;
                        }
                        // Rules first, the record last; a kill may come in between.
                        if self.redirect[owner] {
                            self.redirect[owner] = false;
                        } else {
                            self.port = None;
                            self.published[owner] = false;
                        }
                        return Next::Stays;
                    }
                    Some(owner) if owner != container => {
                        self.port = None;
                        return Next::Stays;
                    }
                    _ => {}
                }
            }
            "portmap.recorded" => self.published[container] = true,
            "portmap.reserved" => self.port = Some(container),
            "portmap.published" => {
                self.redirect[container] = true;
                self.unlock(who);
            }
            "portmap.hairpin" => self.attached[container] = self.alive[container],
            _ => {}
        }
        Next::Goes(step + 1)
    }

    fn del(&mut self, who: usize, container: usize) -> Next {
        let step = self.processes[who].step;
        match DEL[step] {
            "portmap looks" => {
                self.attached[container] = false;
                if !self.published[container] {
                    return Next::Goes(step + 4);
                }
                if !self.lock_ports(who) {
                    return Next::Waits;
                }
            }
            "portmap.withdrawn" => self.redirect[container] = false,
            "portmap.given-back" if self.port == Some(container) => self.port = None,
            "portmap.removed" => {
                self.published[container] = false;
                self.unlock(who);
            }
            "bridge.unplugged" => self.link[container] = None,
            "ipam-unlinked" => self.release(|owner| owner == container),
            "bridge.stood-down" => {
                // The record goes under the shared lock.
                if !self.lock_shared(who) {
                    return Next::Waits;
                }
                self.record[container] = false;
                self.unlock(who);
            }
            "retire withdraws" => return self.withdraw(who),
            "bridge.retired" => self.retire(who),
            _ => {}
        }
        Next::Goes(step + 1)
    }

    fn release(&mut self, doomed: impl Fn(usize) -> bool) {
        for lease in &mut self.lease {
            if lease.is_some_and(&doomed) {
                *lease = None;
            }
        }
    }

    fn withdraw(&mut self, who: usize) -> Next {
        if !self.lock_alone(who) {
            return Next::Waits;
        }
        if !self.record.contains(&true) {
            self.masquerade = false;
        }
        Next::Goes(self.processes[who].step + 1)
    }

    fn retire(&mut self, who: usize) {
        if !self.record.contains(&true) {
            self.note = false;
        }
        self.unlock(who);
    }

    fn gc(&mut self, who: usize, verb: Verb) -> Next {
        let step = self.processes[who].step;
        let listed = verb == Verb::GcAllDead;
        let keep = self.processes[who].keep;
        let alive = self.alive;
        let dead = |container: usize| {
            if listed {
                !keep[container]
            } else {
                !alive[container]
            }
        };
        match step {
            0 => {
                if listed {
                    for container in 0..COUNT {
                        self.processes[who].keep[container] =
                            self.record[container] && self.alive[container];
                    }
                }
            }
            1 | 3 => {
                let container = (step - 1) / 2;
                if !(self.record[container] && dead(container)) {
                    return Next::Goes(step + 2);
                }
                self.link[container] = None;
            }
            2 | 4 => self.record[(step - 2) / 2] = false,
            // Without a list every lease may be in use.
            5 if listed => self.release(dead),
            6 | 8 => {
                let container = (step - 6) / 2;
                if !(self.published[container] && dead(container)) {
                    return Next::Goes(step + 2);
                }
                if !self.lock_ports(who) {
                    return Next::Waits;
                }
                self.redirect[container] = false;
            }
            7 | 9 => {
                let container = (step - 7) / 2;
                if self.port == Some(container) {
                    self.port = None;
                }
                self.published[container] = false;
                self.unlock(who);
            }
            10 => return self.withdraw(who),
            11 => self.retire(who),
            _ => {}
        }
        Next::Goes(step + 1)
    }

    fn ended(&self) -> bool {
        self.processes.iter().all(|process| process.rest.is_empty())
    }

    /// Runs a verb with nothing beside it.
    fn alone(&mut self, verb: Verb) {
        self.processes[0].rest = vec![verb];
        while self.step(0) {}
    }

    fn whole(&self, container: usize) -> bool {
        let address = self.link[container];
        self.record[container]
            && address.is_some_and(|address| self.lease[address] == Some(container))
            && self.masquerade
            && self.note
            && self.published[container]
            && self.redirect[container]
            && self.port == Some(container)
    }

    fn clean(&self) -> bool {
        let none = [false; COUNT];
        self.lease == [None; COUNT]
            && self.record == none
            && self.link == [None; COUNT]
            && !self.masquerade
            && !self.note
            && self.published == none
            && self.redirect == none
            && self.port.is_none()
            && self.shared == [false; 3]
            && self.alone.is_none()
            && self.ports.is_none()
    }
}

/// What a step leads to.
enum Next {
    Waits,
    Stays,
    Goes(usize),
    Fails,
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
        // The namespace of the second container lives: somebody has to be unharmed.
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
            Property::always("nobody waits for ever", |_, state: &State| {
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
    println!("{} states", checker.unique_state_count());
    assert!(
        checker.unique_state_count() > 1000,
        "too few states for a model"
    );
    checker
        .discoveries()
        .into_iter()
        .filter(|(name, _)| *name != "both are attached or refused")
        .map(|(name, path)| {
            println!("{name}: {:?}", path.into_actions());
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
const WITHIN: [&str; 19] = [
    "bridge.created",
    "bridge.addressed",
    "bridge.forwarding",
    "bridge.stood-in",
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
