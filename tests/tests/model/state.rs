//! What the processes share, and their steps.

/// Containers, and addresses in the pool.
pub(crate) const COUNT: usize = 2;

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Verb {
    Add(usize),
    Del(usize),
    /// GC without a list: what is dead at the moment goes.
    Gc,
    /// `pontoon gc --all-dead`: looks once, then has the plugins remove all but what lived then.
    GcAllDead,
    /// `pontoon repair`: what was flushed is made again by the records.
    Repair,
}

/// What a process has to do yet, and what it remembers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) rest: Vec<Verb>,
    pub(crate) step: usize,
    pub(crate) address: Option<usize>,
    pub(crate) keep: [bool; COUNT],
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) alive: [bool; COUNT],
    /// The runtime has been told that ADD succeeded, and has not asked for DEL.
    pub(crate) attached: [bool; COUNT],
    /// Owner of each address.
    pub(crate) lease: [Option<usize>; COUNT],
    /// bridge's record.
    pub(crate) record: [bool; COUNT],
    /// The chain that a DEL of the reference plugin deletes.
    pub(crate) chain: [bool; COUNT],
    /// The address on the container's link.
    pub(crate) link: [Option<usize>; COUNT],
    /// The network's rules, and the note that they were made.
    pub(crate) masquerade: bool,
    pub(crate) note: bool,
    /// portmap's record, its rules, and the owner of the port that both containers want.
    pub(crate) published: [bool; COUNT],
    pub(crate) redirect: [bool; COUNT],
    pub(crate) port: Option<usize>,
    /// Who holds the network's lock shared or alone, and the lock of the ports.
    pub(crate) shared: [bool; 3],
    pub(crate) alone: Option<usize>,
    pub(crate) ports: Option<usize>,
    pub(crate) kills: usize,
    pub(crate) processes: Vec<Process>,
}

/// The steps of ADD: bridge, then portmap.
pub(crate) const ADD: [&str; 13] = [
    "ipam-reserve",
    "ipam-indexed",
    "bridge.leased",
    "bridge.recorded",
    "bridge.masqueraded",
    "bridge.stood-in",
    "bridge.plugged",
    "bridge.configured",
    "portmap clears",
    "portmap.recorded",
    "portmap.reserved",
    "portmap.published",
    "portmap.hairpin",
];

/// The steps of DEL: portmap, then bridge.
pub(crate) const DEL: [&str; 11] = [
    "portmap looks",
    "portmap.withdrawn",
    "portmap.given-back",
    "portmap.removed",
    "bridge.unplugged",
    "ipam-unlinked",
    "bridge.released",
    "bridge.stood-down",
    "bridge forgets",
    "retire withdraws",
    "bridge.retired",
];

/// The steps of GC for each container, then those for the network.
pub(crate) const GC: [&str; 14] = [
    "GC looks",
    "GC unplugs 0",
    "GC stands down 0",
    "GC forgets 0",
    "GC unplugs 1",
    "GC stands down 1",
    "GC forgets 1",
    "GC collects leases",
    "GC withdraws 0",
    "GC gives back 0",
    "GC withdraws 1",
    "GC gives back 1",
    "retire withdraws",
    "GC retires",
];

/// The steps of a repair, which has all locks from the first to the last.
pub(crate) const REPAIR: [&str; 3] = ["repair looks", "repair makes 0", "repair makes 1"];

impl Verb {
    pub(crate) fn steps(self) -> &'static [&'static str] {
        match self {
            Self::Add(_) => &ADD,
            Self::Del(_) => &DEL,
            Self::Gc | Self::GcAllDead => &GC,
            Self::Repair => &REPAIR,
        }
    }
}

impl State {
    pub(crate) fn name(&self, who: usize) -> Option<&'static str> {
        let process = &self.processes[who];
        process.rest.first().map(|verb| verb.steps()[process.step])
    }

    pub(crate) fn unlock(&mut self, who: usize) {
        self.shared[who] = false;
        if self.alone == Some(who) {
            self.alone = None;
        }
        if self.ports == Some(who) {
            self.ports = None;
        }
    }

    /// One step of a process; false when it has to wait for a lock.
    pub(crate) fn step(&mut self, who: usize) -> bool {
        let Some(verb) = self.processes[who].rest.first().copied() else {
            return false;
        };
        let done = match verb {
            Verb::Add(container) => self.add(who, container),
            Verb::Del(container) => self.del(who, container),
            Verb::Gc | Verb::GcAllDead => self.gc(who, verb),
            Verb::Repair => self.repair(who),
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
            }
            "bridge.stood-in" => self.chain[container] = true,
            "bridge.plugged" => {
                if !self.alive[container] {
                    return Next::Fails;
                }
                self.link[container] = self.processes[who].address;
                self.unlock(who);
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
                // Rules and record go under the shared lock, so that no repair comes in between.
                if !self.lock_shared(who) {
                    return Next::Waits;
                }
                self.chain[container] = false;
            }
            "bridge forgets" => {
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
            0 if listed => {
                for container in 0..COUNT {
                    self.processes[who].keep[container] =
                        self.record[container] && self.alive[container];
                }
            }
            1 | 4 => {
                let container = (step - 1) / 3;
                if !(self.record[container] && dead(container)) {
                    return Next::Goes(step + 3);
                }
                self.link[container] = None;
            }
            2 | 5 => {
                if !self.lock_shared(who) {
                    return Next::Waits;
                }
                self.chain[(step - 2) / 3] = false;
            }
            3 | 6 => {
                self.record[(step - 3) / 3] = false;
                self.unlock(who);
            }
            // Without a list every lease may be in use.
            7 if listed => self.release(dead),
            8 | 10 => {
                let container = (step - 8) / 2;
                if !(self.published[container] && dead(container)) {
                    return Next::Goes(step + 2);
                }
                if !self.lock_ports(who) {
                    return Next::Waits;
                }
                self.redirect[container] = false;
            }
            9 | 11 => {
                let container = (step - 9) / 2;
                if self.port == Some(container) {
                    self.port = None;
                }
                self.published[container] = false;
                self.unlock(who);
            }
            12 => return self.withdraw(who),
            13 => self.retire(who),
            _ => {}
        }
        Next::Goes(step + 1)
    }

    fn repair(&mut self, who: usize) -> Next {
        let step = self.processes[who].step;
        if step == 0 {
            if !(self.lock_alone(who) && self.lock_ports(who)) {
                return Next::Waits;
            }
            self.processes[who].keep = self.record;
            self.masquerade |= self.note;
            return Next::Goes(1);
        }
        let container = step - 1;
        self.chain[container] |= self.processes[who].keep[container];
        // The record of an ADD that was killed may name a port that went to another container.
        if self.published[container] && self.port.is_none_or(|owner| owner == container) {
            self.port = Some(container);
            self.redirect[container] = true;
        }
        Next::Goes(step + 1)
    }

    pub(crate) fn ended(&self) -> bool {
        self.processes.iter().all(|process| process.rest.is_empty())
    }

    /// Runs a verb with nothing beside it.
    pub(crate) fn alone(&mut self, verb: Verb) {
        self.processes[0].rest = vec![verb];
        while self.step(0) {}
    }

    pub(crate) fn whole(&self, container: usize) -> bool {
        let address = self.link[container];
        self.record[container]
            && address.is_some_and(|address| self.lease[address] == Some(container))
            && self.masquerade
            && self.note
            && self.published[container]
            && self.redirect[container]
            && self.port == Some(container)
    }

    pub(crate) fn clean(&self) -> bool {
        let none = [false; COUNT];
        self.lease == [None; COUNT]
            && self.record == none
            && self.chain == none
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
