//! The controller's memory, and its loop as `controller::Controller` and `act::Hands` have it, over the simulated edge.

use crate::agents::{Link, Nothing, Voices};
use crate::edge::Hand;
use crate::host::{PROTECTED, Role, State};
use crate::look::look;
use crate::sim::{It, Sim};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use tenure::act::{self, ActError, Aim};
use tenure::controller::{Decision, Flows, Send, World, decide};
use tenure::model::{
    AnyObject, Breadth, Kind, Observed, Pid, ProcId, Reading, SeenWorkload, Snapshot, Stage, Time, Workload,
    WorkloadPhase, WorkloadUid,
};
use tenure::os::StateDir;
use tenure::plan::{Action, Acts, Bounds};
use tenure::store::{StoreError, Txn};

/// What a controller forgets when it dies.
pub struct Mind {
    pub acts: Acts,
    pub pending: Vec<(WorkloadUid, Deed)>,
    pub flows: Option<Flows>,
    pub links: BTreeMap<WorkloadUid, Link>,
    pub closing: BTreeSet<WorkloadUid>,
    pub looks: u64,
    /// Who was found by the last look, if it was completed.
    pub known: Option<BTreeSet<ProcId>>,
    /// Something waits for a look at the whole host.
    pub wants_host: bool,
    /// The shims that are listened to.
    shims: BTreeSet<ProcId>,
    pub passing: bool,
    pub depth: u32,
}

impl Default for Mind {
    fn default() -> Mind {
        Mind {
            acts: Acts::default(),
            pending: Vec::new(),
            flows: None,
            links: BTreeMap::new(),
            closing: BTreeSet::new(),
            looks: 0,
            known: None,
            wants_host: true,
            shims: BTreeSet::new(),
            passing: false,
            depth: 0,
        }
    }
}

/// What an act does.
pub enum Deed {
    Carry(Action),
    MarkSent(Stage, Result<(), ActError>),
}

impl It {
    pub fn controller_dies(&mut self) {
        if let Some(pid) = self.host.controller {
            self.host.end(pid, Default::default());
            self.host.procs.remove(&pid);
        }
        self.mind = Mind::default();
        self.books.counts.crashes += 1;
    }

    pub fn controller_starts(&mut self) {
        let members: Vec<i32> = self
            .host
            .procs
            .values()
            .filter(|it| matches!(it.role, Role::Main | Role::Child) && it.state == State::Running)
            .map(|it| it.id.pid.get())
            .collect();
        let below = self.weather.below;
        let parent = if self.chance(below) { self.pick(&members).unwrap_or(3) } else { 3 };
        let Some(id) = self.host.spawn(parent, "tenure run", Role::Controller) else { return };
        self.say(|| format!("a controller starts: {id} below {parent}"));
        let cgroup = self.host.procs.get(&parent).and_then(|it| it.cgroup.clone());
        if let Some(process) = self.host.procs.get_mut(&id.pid.get()) {
            process.cgroup = cgroup;
        }
        // Its first reading of the manifest directory takes a while.
        if !self.weather.calm {
            self.gate_closed_until = self.gate_closed_until.max(self.host.now + self.rng.i64(0..200));
        }
        self.host.controller = Some(id.pid.get());
        self.host.free_since = None;
        self.mind = Mind::default();
    }

    pub fn selves(&self) -> BTreeSet<Pid> {
        let mut selves = BTreeSet::new();
        let mut above = self.host.controller;
        while let Some(process) = above.and_then(|pid| self.host.procs.get(&pid)) {
            selves.insert(process.id.pid);
            above = Some(process.parent);
        }
        selves
    }

    fn bounds(&mut self, observed: &Observed) -> Bounds {
        let gate = if self.host.now < self.gate_closed_until {
            Reading::Unknown("the manifest directory can be read".to_owned())
        } else {
            Reading::Known(())
        };
        let trees = observed.workloads.known();
        let protected = trees.into_iter().flat_map(BTreeMap::values).flat_map(spared).collect();
        Bounds { gate, protected, selves: self.selves(), user: self.host.user }
    }
}

impl Sim {
    /// One pass. None: something changed, look again at once; else when to look again even if nothing happens.
    pub fn pass(self: &Arc<Sim>) -> Option<Option<i64>> {
        self.with(|it| {
            it.mind.passing = true;
            it.mind.looks += 1;
            it.books.counts.passes += 1;
        });
        let rest = self.try_pass();
        self.with(|it| it.mind.passing = false);
        rest.unwrap_or_else(|error| {
            self.note(|| format!("the pass came to nothing: {error}"));
            if self.with(|it| it.weather.calm) {
                self.with(|it| it.broken(format!("a pass comes to nothing in calm: {error}")));
            }
            Some(None)
        })
    }

    fn try_pass(self: &Arc<Sim>) -> Result<Option<Option<i64>>, String> {
        let hand = Hand(self.clone());
        let (now, number) = self.with(|it| (Time(it.host.now), it.mind.looks));
        let before = hand.read().map_err(|error| error.to_string())?;
        let interested = before.workloads.keys().cloned().collect();
        let breadth = self.with(|it| it.breadth(&before));
        self.meanwhile("before a look");
        let begun = self.with(|it| it.host.now);
        let (observed, settled) = look(self, breadth, number, now, &interested);
        self.with(|it| it.mind.wants_host = false);
        self.meanwhile("between look and reading");
        let desired = hand.read().map_err(|error| error.to_string())?;
        let mut flows = self.with(|it| it.mind.flows.take()).unwrap_or_default();
        flows.fill(&desired);
        self.update_adapters(&desired, &observed);
        let ended = self.ended_terminals(&desired);
        let (bounds, acts, user) = self.with(|it| (it.bounds(&observed), it.mind.acts.clone(), it.host.user));
        let state_dir = StateDir("/state".into());
        let world = World {
            desired: &desired,
            observed: &observed,
            talk: &Voices(self),
            outside: &Nothing,
            acts: &acts,
            bounds: &bounds,
            user,
            state_dir: &state_dir,
            exe: Path::new("/nowhere/tenure"),
            ended: &ended,
            shelf: &hand,
            now,
        };
        let mut new_uid = || {
            self.with(|it| {
                it.tokens += 1;
                format!("w{}", it.tokens)
            })
        };
        let decided = decide(&world, &mut flows, &mut new_uid);
        self.with(|it| it.mind.flows = Some(flows));
        // The last check before the hands is there for what nobody thought of: nothing that is known of may get that far.
        let decided = decided.map_err(|violation| {
            self.with(|it| it.broken(format!("a plan is against the rules: {violation}")));
            violation.to_string()
        })?;
        self.with(|it| it.decided_on(begun, settled, matches!(bounds.gate, Reading::Known(())), &decided.decision));
        match decided.decision {
            Decision::Settle(txn, sends) => {
                self.settle(&hand, txn, sends).map_err(|error| error.to_string())?;
                Ok(None)
            }
            Decision::Act(plan) => {
                let wake = [plan.wake_at, decided.wake_jobs].into_iter().flatten().min();
                self.with(|it| {
                    it.mind.wants_host |= plan.wants_host;
                    it.listen(&observed);
                    let mut busy = false;
                    for (uid, action, reason) in plan.actions() {
                        busy = true;
                        it.say(|| format!("plan: {uid} {} ({reason})", action.as_str()));
                        it.submit(uid, Deed::Carry(action.clone()));
                    }
                    it.forget(&desired, &observed);
                    Ok(if busy { None } else { Some(wake.map(|at| at.0)) })
                })
            }
        }
    }

    /// As `Controller::settle`: what will be signalled is held first, and signalled the moment that it is on record.
    fn settle(self: &Arc<Sim>, hand: &Hand, txn: Txn, sends: Vec<(WorkloadUid, Send)>) -> Result<(), StoreError> {
        use tenure::act::Edge;
        use tenure::store::Records;
        enum Ready {
            Terminate(Stage, Aim),
            Other(Action),
        }
        let mut ready = Vec::new();
        for (uid, send) in sends {
            let it = match send {
                Send::Terminate(stage, targets) => Ready::Terminate(stage, hand.aim(&uid, &targets)),
                Send::Other(action) => Ready::Other(action),
            };
            ready.push((uid, it));
        }
        let now = self.with(|it| Time(it.host.now));
        match hand.commit(txn, now) {
            Ok(_) => {}
            Err(error @ StoreError::Conflict { .. }) => {
                self.note(|| format!("nothing is written: {error}"));
                self.with(|it| it.tidy());
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        for (uid, it) in ready {
            match it {
                Ready::Terminate(stage, aim) => {
                    let sent = aim(&[nix::sys::signal::Signal::SIGTERM, nix::sys::signal::Signal::SIGCONT]);
                    self.with(|it| it.submit(&uid, Deed::MarkSent(stage, sent.map_err(ActError::from))));
                }
                Ready::Other(action) => self.with(|it| it.submit(&uid, Deed::Carry(action))),
            }
        }
        Ok(())
    }

    fn ended_terminals(&self, desired: &Snapshot) -> BTreeSet<WorkloadUid> {
        let terminals = tenure::controller::Talk::terminals(&Voices(self));
        self.with(|it| {
            let gone = |id: &WorkloadUid| {
                !desired.workloads.contains_key(id) && it.store.get(Kind::Workload, id.as_str()).is_some()
            };
            terminals.into_iter().map(|(_, terminal)| terminal.id).filter(gone).collect()
        })
    }

    /// One of the acts that were submitted runs now.
    pub fn run_some_act(self: &Arc<Sim>) {
        self.run_an_act();
    }

    /// False: none was there.
    pub fn run_an_act(self: &Arc<Sim>) -> bool {
        let next = self.with(|it| {
            let count = it.mind.pending.len();
            (count > 0).then(|| {
                let at = it.rng.usize(0..count);
                it.mind.depth += 1;
                it.books.counts.acts += 1;
                it.mind.pending.remove(at)
            })
        });
        let Some((uid, deed)) = next else { return false };
        let hand = Hand(self.clone());
        let clock = || self.with(|it| Time(it.host.now));
        let result = match deed {
            Deed::Carry(action) => {
                self.note(|| format!("act: {uid} {}", action.as_str()));
                act::carry_out(&hand, &hand, &uid, &action, &clock)
            }
            Deed::MarkSent(stage, sent) => sent.and_then(|()| act::mark_sent(&hand, &uid, stage, clock())),
        };
        self.with(|it| {
            it.mind.depth -= 1;
            let (look, now) = (it.mind.looks, Time(it.host.now));
            if let Err(error) = &result {
                it.say(|| format!("act of {uid} failed: {error}"));
            }
            let act = it.mind.acts.by_workload.entry(uid.clone()).or_default();
            *act = act::after(act, &result, look, now);
        });
        true
    }

    /// Something of the controller's own, in the middle of something else of it.
    pub fn nested(self: &Arc<Sim>) {
        let (depth, passing) = self.with(|it| (it.mind.depth, it.mind.passing));
        if depth >= 3 {
            return;
        }
        if passing || self.with(|it| it.rng.bool()) {
            self.run_an_act();
        } else {
            self.pass();
        }
    }
}

impl It {
    fn submit(&mut self, uid: &WorkloadUid, deed: Deed) {
        let name = match &deed {
            Deed::Carry(action) => action.as_str(),
            Deed::MarkSent(stage, _) => stage.as_str(),
        };
        let act = self.mind.acts.by_workload.entry(uid.clone()).or_default();
        if act.in_flight.is_some() {
            return;
        }
        act.in_flight = Some(name);
        self.mind.pending.push((uid.clone(), deed));
    }

    /// As `Controller::breadth`. That a shim has ended is told by its pidfd; in a storm the news may be late.
    fn breadth(&mut self, desired: &Snapshot) -> Breadth {
        let lost = self.weather.lost_wakes;
        let news = !self.chance(lost);
        let ended: Vec<ProcId> =
            self.mind.shims.iter().copied().filter(|id| news && !self.host.is_alive(*id)).collect();
        for id in ended {
            self.mind.shims.remove(&id);
            self.mind.wants_host = true;
        }
        let moving = |row: &Workload| row.status.stage.is_some() || row.status.phase != WorkloadPhase::Running;
        let at_rest = !desired.workloads.values().any(|row| moving(row));
        let own = self.host.has_cgroups && at_rest && !self.mind.wants_host;
        if own { Breadth::Own } else { Breadth::Host }
    }

    fn listen(&mut self, observed: &Observed) {
        let Reading::Known(trees) = &observed.workloads else { return };
        let shims = trees.values().flat_map(|tree| &tree.processes).filter(|it| it.is_shim).map(|it| it.id);
        self.mind.shims = shims.collect();
    }

    fn forget(&mut self, desired: &Snapshot, observed: &Observed) {
        if let Reading::Known(trees) = &observed.workloads {
            self.mind.acts.by_workload.retain(|uid, act| {
                act.in_flight.is_some() || desired.workloads.contains_key(uid) || trees.contains_key(uid)
            });
        }
    }

    /// The regular look, whatever else happens: everything is looked at.
    pub fn resync(&mut self) {
        self.mind.wants_host = true;
        self.tidy();
    }

    /// Removes what jobs that are no more have left, as `controller::tidy` does.
    pub fn tidy(&mut self) {
        if self.host.controller.is_none() {
            return;
        }
        let orphans = self.store.orphans();
        let mut txn = Txn::default();
        for orphan in &orphans {
            if let AnyObject::Workload(row) = orphan {
                self.host.log_dirs.remove(&row.uid());
            }
            let meta = orphan.meta();
            txn = txn.delete(orphan.kind(), &meta.name, meta.resource_version);
        }
        let now = Time(self.host.now);
        if let Err(error) = self.store.commit(txn, now) {
            self.broken(format!("tidying up failed: {error}"));
        }
    }

    /// When the world will change by itself.
    pub fn coming(&self) -> Option<i64> {
        let host = &self.host;
        let ends = host.procs.values().filter(|it| !it.is_zombie()).filter_map(|it| match it.state {
            State::Stuck { until, .. } => Some(until),
            State::Running => it.ends_at,
            _ => None,
        });
        let answers = host.run_dirs.iter().flat_map(|(uid, files)| {
            let open = files.asked.iter().filter(|(run, asked)| {
                !asked.closed
                    && !files
                        .said
                        .iter()
                        .any(|(_, said)| matches!(said, crate::host::Said::Answer(of, _) if of == *run))
            });
            let alive = host
                .procs
                .values()
                .any(|it| it.role == Role::Main && it.of.as_ref() == Some(uid) && it.state == State::Running);
            open.filter(move |_| alive).map(|(_, asked)| asked.due).collect::<Vec<_>>()
        });
        let zombies = host.procs.values().any(|it| it.is_zombie()).then_some(host.now + 5);
        ends.chain(answers).chain(zombies).min()
    }
}

/// The members of a tree that a pattern protects, with all below them: as `controller::protect`.
fn spared(tree: &SeenWorkload) -> Vec<ProcId> {
    let mut spared: BTreeSet<Pid> =
        tree.members().filter(|it| it.command.contains(PROTECTED)).map(|it| it.id.pid).collect();
    loop {
        let below = tree.members().filter(|it| it.parent.is_some_and(|parent| spared.contains(&parent)));
        let new: Vec<Pid> = below.map(|it| it.id.pid).filter(|pid| !spared.contains(pid)).collect();
        if new.is_empty() {
            return tree.members().map(|it| it.id).filter(|id| spared.contains(&id.pid)).collect();
        }
        spared.extend(new);
    }
}

/// Processes, in words.
pub fn pids(ids: &[ProcId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
