//! How processes behave: what they do by themselves, and what they do about signals.

use crate::host::{Asked, OURS, PROTECTED, Proc, Role, Said, State, THEIRS, mark};
use crate::sim::It;
use nix::sys::signal::Signal;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use tenure::acp::TerminalWanted;
use tenure::model::{Exit, Failure, Outcome, ProcId, WorkloadUid};

/// More than this no tree grows to: a host has limits.
const MOST_PROCESSES: usize = 40;

/// What was drawn for one process.
#[derive(Debug, Clone, Default)]
pub struct Nature {
    pub ignores_term: bool,
    pub ignores_eof: bool,
    pub slow_ms: i64,
    pub forks_on_term: bool,
    /// An adapter that never answers the handshake.
    pub mute: bool,
    pub code: i32,
}

fn exit_of(signal: &str) -> Exit {
    Exit { signal: Some(signal.into()), ..Exit::default() }
}

impl It {
    /// A nature for a process that starts now.
    pub fn nature(&mut self) -> Nature {
        let weather = self.weather.clone();
        let slow = self.chance(weather.slow);
        Nature {
            ignores_term: self.chance(weather.ignores_term),
            ignores_eof: self.chance(weather.ignores_eof),
            slow_ms: if slow { self.rng.i64(10..4_000) } else { 0 },
            forks_on_term: self.chance(weather.forks_on_term),
            mute: self.chance(weather.mute),
            code: if self.chance(weather.fails) { 3 } else { 0 },
        }
    }

    /// Time passes, and what is due happens.
    pub fn tick(&mut self, ms: i64) {
        self.host.now += ms;
        let now = self.host.now;
        let due: Vec<i32> = self.host.procs.keys().copied().collect();
        for pid in due {
            let Some(process) = self.host.procs.get_mut(&pid) else { continue };
            if let State::Stuck { until, killed, termed } = process.state
                && until <= now
            {
                process.state = State::Running;
                if killed {
                    self.host.kill(pid);
                } else if termed {
                    self.deliver(pid, Signal::SIGTERM);
                }
            }
            let Some(process) = self.host.procs.get(&pid) else { continue };
            if process.state == State::Running && process.ends_at.is_some_and(|at| at <= now) {
                let code = process.nature.code;
                if process.role == Role::Main {
                    self.last_words(pid);
                }
                self.say(|| format!("{pid} ends"));
                self.host.end(pid, Exit { code: Some(code), ..Exit::default() });
            }
        }
        self.talk_of_agents();
        self.step_shims();
        self.collect_orphans();
        if !self.weather.calm {
            self.deeds();
        }
    }

    /// What process 1 and ordinary parents collect.
    fn collect_orphans(&mut self) {
        let zombies: Vec<(i32, i32)> =
            self.host.procs.values().filter(|it| it.is_zombie()).map(|it| (it.id.pid.get(), it.parent)).collect();
        for (pid, parent) in zombies {
            let by_shim = self.host.shims.contains_key(&parent);
            let lazy = self.host.procs.get(&parent).is_some_and(|it| it.of.is_some());
            if !by_shim && (!lazy || self.rng.u8(0..4) == 0) {
                self.host.procs.remove(&pid);
            }
        }
    }

    fn deeds(&mut self) {
        let weather = self.weather.clone();
        if self.chance(weather.oom) {
            let victims: Vec<i32> =
                self.host.procs.values().filter(|it| it.of.is_some()).map(|it| it.id.pid.get()).collect();
            if let Some(pid) = self.pick(&victims) {
                self.say(|| format!("somebody kills {pid}"));
                self.host.kill(pid);
            }
        }
        if !self.chance(weather.deed) {
            return;
        }
        let able: Vec<i32> = self
            .host
            .procs
            .values()
            .filter(|it| it.state == State::Running && matches!(it.role, Role::Main | Role::Child | Role::Respawned))
            .map(|it| it.id.pid.get())
            .collect();
        let Some(pid) = self.pick(&able) else { return };
        let kinds = [
            weather.forks,
            weather.escapes,
            weather.clears,
            weather.protects,
            weather.stops,
            weather.stuck,
            weather.setuid,
            weather.foreign,
            weather.respawns,
            0.2,
        ];
        let mut left = self.rng.f64() * kinds.iter().sum::<f64>();
        let kind = kinds.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        let now = self.host.now;
        match kind.unwrap_or(9) {
            0 => drop(self.fork(pid)),
            1 => self.escape(pid),
            2 => {
                self.say(|| format!("{pid} execs without its environment"));
                self.with_proc(pid, |it| it.mark = None);
            }
            3 => {
                // Of a main process its shim would wait, and everybody else too: let go is what others share.
                if self.host.procs[&pid].role != Role::Main {
                    self.say(|| format!("{pid} becomes a {PROTECTED}"));
                    let at = self.steps;
                    self.with_proc(pid, |it| (it.command, it.protected_at) = (format!("{PROTECTED} --daemon"), at));
                }
            }
            4 => {
                self.say(|| format!("{pid} is stopped"));
                self.with_proc(pid, |it| it.state = State::Stopped { termed: false });
            }
            5 => {
                let until = now + self.rng.i64(10..5_000);
                self.say(|| format!("{pid} hangs in the kernel"));
                self.with_proc(pid, |it| it.state = State::Stuck { until, killed: false, termed: false });
            }
            6 => {
                if self.host.user != 0 && self.host.procs[&pid].role == Role::Child {
                    self.say(|| format!("{pid} becomes root's"));
                    let until = now + self.rng.i64(100..20_000);
                    self.with_proc(pid, |it| (it.user, it.ends_at) = (0, Some(until)));
                }
            }
            7 => {
                if let Some(id) = self.host.spawn(pid, "tenure shim elsewhere", Role::Foreign) {
                    self.say(|| format!("{pid} starts {id}, of another instance"));
                    self.with_proc(id.pid.get(), |it| it.mark = Some(format!("{THEIRS}/w9")));
                }
            }
            8 => {
                let of = self.host.procs[&pid].of.clone();
                if let Some(id) = self.host.spawn(1, "respawned", Role::Respawned) {
                    self.say(|| format!("somebody starts {id} with the mark of {of:?}"));
                    let nature = self.nature();
                    self.with_proc(id.pid.get(), |it| {
                        (it.mark, it.of, it.nature) = (of.as_ref().map(mark), of, nature);
                    });
                }
            }
            _ => {
                if self.host.procs[&pid].role != Role::Main || self.rng.u8(0..8) == 0 {
                    self.say(|| format!("{pid} crashes"));
                    self.host.end(pid, exit_of("SIGSEGV"));
                }
            }
        }
    }

    fn with_proc(&mut self, pid: i32, change: impl FnOnce(&mut Proc)) {
        self.host.procs.get_mut(&pid).map(change);
    }

    fn fork(&mut self, pid: i32) -> Option<ProcId> {
        if self.host.procs.len() > MOST_PROCESSES {
            return None;
        }
        let nature = self.nature();
        let id = self.host.fork(pid, "child")?;
        self.say(|| format!("{pid} forks {id}"));
        self.with_proc(id.pid.get(), |it| it.nature = nature);
        Some(id)
    }

    /// setsid, a double fork, and perhaps without what marks it.
    fn escape(&mut self, pid: i32) {
        let heir = self.host.heir(pid);
        let weather = self.weather.clone();
        let (clears, leaves) = (self.chance(weather.clears), self.chance(weather.leaves));
        let Some(id) = self.fork(pid) else { return };
        self.say(|| {
            format!(
                "{id} escapes to {heir}{}{}",
                if clears { ", unmarked" } else { "" },
                if leaves { ", out of its cgroup" } else { "" }
            )
        });
        self.with_proc(id.pid.get(), |it| {
            it.parent = heir;
            if clears {
                it.mark = None;
            }
            if leaves {
                it.cgroup = None;
            }
        });
    }

    /// A signal comes in. Nothing is judged here.
    pub fn deliver(&mut self, pid: i32, signal: Signal) {
        let Some(process) = self.host.procs.get_mut(&pid) else { return };
        match (signal, &mut process.state) {
            (_, State::Zombie) => {}
            (Signal::SIGKILL, _) => self.host.kill(pid),
            (Signal::SIGCONT, State::Stopped { termed }) => {
                let termed = *termed;
                process.state = State::Running;
                if termed {
                    self.deliver(pid, Signal::SIGTERM);
                }
            }
            (Signal::SIGSTOP, state @ State::Running) => *state = State::Stopped { termed: false },
            (Signal::SIGTERM, State::Stopped { termed } | State::Stuck { termed, .. }) => *termed = true,
            (Signal::SIGTERM, State::Running) => self.term(pid),
            _ => {}
        }
    }

    fn term(&mut self, pid: i32) {
        let process = &self.host.procs[&pid];
        if matches!(process.role, Role::Shim | Role::Ancestor) || process.nature.ignores_term {
            return;
        }
        let (slow, forks) = (process.nature.slow_ms, process.nature.forks_on_term);
        if forks && !self.weather.calm {
            self.escape(pid);
        }
        let at = self.host.now + slow;
        if slow > 0 {
            self.with_proc(pid, |it| it.ends_at = Some(it.ends_at.map_or(at, |before| before.min(at))));
        } else {
            self.host.end(pid, exit_of("SIGTERM"));
        }
    }

    /// What a script prints before it ends well.
    fn last_words(&mut self, pid: i32) {
        let (Some(uid), code) = (self.host.procs[&pid].of.clone(), self.host.procs[&pid].nature.code) else { return };
        if code == 0
            && let Some(outputs) = self.outputs_of(&uid)
        {
            self.host.run_dirs.entry(uid).and_modify(|files| files.stdout = Some(outputs));
        }
    }

    /// Fresh outputs, unlike all others.
    fn outputs_of(&mut self, uid: &WorkloadUid) -> Option<Map<String, Value>> {
        self.tokens += 1;
        let value = json!({"score": self.rng.i64(0..100), "result": format!("{uid}#{}", self.tokens)});
        value.as_object().cloned()
    }

    /// Agents shake hands, answer what they were asked, ask for terminals, and end with their stdin.
    fn talk_of_agents(&mut self) {
        let now = self.host.now;
        let mains: Vec<(i32, WorkloadUid, Nature)> = self
            .host
            .procs
            .values()
            .filter(|it| it.role == Role::Main && it.state == State::Running && it.command.starts_with("agent"))
            .filter_map(|it| Some((it.id.pid.get(), it.of.clone()?, it.nature.clone())))
            .collect();
        for (pid, uid, nature) in mains {
            let Some(files) = self.host.run_dirs.get(&uid).cloned() else { continue };
            if files.said.is_empty() && !nature.mute && self.rng.u8(0..3) == 0 {
                self.speak(&uid, Said::Handshake);
            }
            let answered =
                |run: &String| files.said.iter().any(|(_, said)| matches!(said, Said::Answer(of, _) if of == run));
            for (run, asked) in files.asked.iter().filter(|(run, asked)| !asked.closed && !answered(run)) {
                if asked.due <= now {
                    let outcome = self.answer(&uid);
                    self.speak(&uid, Said::Answer(run.clone(), outcome));
                } else if !self.weather.calm {
                    self.ask_for_terminal(&uid, run);
                }
            }
            if (files.eof || files.closing) && !nature.ignores_eof && self.host.procs[&pid].ends_at.is_none() {
                let at = now + nature.slow_ms;
                self.with_proc(pid, |it| it.ends_at = Some(at));
            }
        }
    }

    fn answer(&mut self, uid: &WorkloadUid) -> Outcome {
        let fails = self.weather.fails;
        let result = match self.chance(fails) {
            true => Err(Failure { reason: "AgentError".into(), message: "the agent gave up".into() }),
            false => Ok(self.outputs_of(uid).unwrap_or_default()),
        };
        Outcome { result, usage: None, cost_usd: Some(0.01), session: None }
    }

    fn ask_for_terminal(&mut self, uid: &WorkloadUid, run: &str) {
        let chance = self.weather.terminals * 0.05;
        if !self.chance(chance) {
            return;
        }
        let said = self.host.run_dirs.get(uid).map(|files| files.said.clone()).unwrap_or_default();
        let open: Vec<WorkloadUid> = said
            .iter()
            .filter_map(|(_, said)| match said {
                Said::Terminal(terminal) => Some(terminal.id.clone()),
                _ => None,
            })
            .collect();
        if let (Some(id), true) = (self.pick(&open), self.rng.bool()) {
            let kill = self.rng.bool();
            return self.speak(uid, Said::LetGo { id, kill });
        }
        if open.len() < 3 {
            let terminal = TerminalWanted {
                id: WorkloadUid(format!("{uid}t{}", open.len())),
                run: Some(run.to_owned()),
                command: "make".into(),
                args: Vec::new(),
                env: BTreeMap::new(),
                cwd: "/tmp".into(),
                released: false,
                kill: false,
            };
            self.speak(uid, Said::Terminal(terminal));
        }
    }

    fn speak(&mut self, uid: &WorkloadUid, said: Said) {
        self.say(|| format!("{uid} says {said:?}"));
        let now = self.host.now;
        if let Some(files) = self.host.run_dirs.get_mut(uid) {
            files.said.push((now, said));
        }
    }

    /// A question reaches an agent's stdin.
    pub fn ask_agent(&mut self, uid: &WorkloadUid, run: &str) {
        let due = self.host.now + self.rng.i64(5..3_000);
        if let Some(files) = self.host.run_dirs.get_mut(uid) {
            files.asked.insert(run.to_owned(), Asked { due, closed: false });
        }
    }

    /// Processes that are nobody's business here.
    pub fn neighbours(&mut self) {
        for place in 0..self.rng.u8(1..5) {
            self.host.spawn(1, "postgres", Role::Bystander);
            if place % 2 == 0
                && let Some(id) = self.host.spawn(1, "tenure shim of-others", Role::Foreign)
            {
                self.with_proc(id.pid.get(), |it| it.mark = Some(format!("{THEIRS}/w1")));
            }
        }
        // Anybody can write anything into an environment.
        if let Some(id) = self.host.spawn(1, "odd", Role::Bystander) {
            self.with_proc(id.pid.get(), |it| it.mark = Some(format!("{OURS}-not/w1")));
        }
    }
}
