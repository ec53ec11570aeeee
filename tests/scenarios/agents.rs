//! What is said with agents, as `controller::Adapters` and the ACP driver promise it: a driver knows nothing that the files of
//! its workload do not say, reads them in its own time, and asks each question once, ever.

use crate::host::Said;
use crate::sim::{It, Sim};
use serde_json::Map;
use std::collections::BTreeSet;
use tenure::acp::TerminalWanted;
use tenure::controller::{Outside, Process, Talk, turn_of};
use tenure::model::{
    Exit, Failure, Observed, Outcome, Reading, RunPhase, Snapshot, Stage, StepRun, Workload, WorkloadPhase,
    WorkloadType, WorkloadUid,
};

/// One adapter that is spoken with.
#[derive(Debug, Clone, Default)]
pub struct Link {
    /// How many lines of its stdout were read.
    read: usize,
    failed: bool,
    closed: bool,
}

/// The drivers, to those who decide.
pub struct Voices<'a>(pub &'a Sim);

impl Sim {
    /// Brings the drivers in line with the adapters that run.
    pub fn update_adapters(&self, desired: &Snapshot, observed: &Observed) {
        let Reading::Known(trees) = &observed.workloads else { return };
        let counts_on = |uid: &WorkloadUid| {
            let mut running = desired.all_runs().filter(|run| run.status.phase == RunPhase::Running);
            running.any(|run| run.status.workload.as_ref() == Some(uid))
        };
        let running: Vec<(&WorkloadUid, &Workload)> = desired
            .workloads
            .iter()
            .filter(|(uid, row)| {
                row.spec.r#type == WorkloadType::Adapter
                    && row.status.phase != WorkloadPhase::Starting
                    && trees.get(*uid).is_some_and(|tree| tree.run_dir || (tree.exit.is_some() && counts_on(uid)))
            })
            .map(|(uid, row)| (uid, &**row))
            .collect();
        let uids: BTreeSet<&WorkloadUid> = running.iter().map(|(uid, _)| *uid).collect();
        self.with(|it| {
            it.mind.links.retain(|uid, _| uids.contains(uid));
            it.mind.closing.retain(|uid| uids.contains(uid));
            for (uid, row) in &running {
                if matches!(row.status.stage, Some(Stage::Ask { .. })) {
                    it.mind.closing.insert((*uid).clone());
                }
            }
        });
        for (uid, row) in running {
            let runs = desired.all_runs();
            let turns: BTreeSet<String> = runs
                .filter(|run| run.status.workload.as_ref() == Some(uid) && run.status.phase == RunPhase::Running)
                .map(turn_of)
                .collect();
            self.moves("before a driver speaks");
            self.with(|it| it.drive(uid, row, &turns));
        }
    }
}

impl It {
    /// One driver: reads, asks, takes leave.
    fn drive(&mut self, uid: &WorkloadUid, row: &Workload, turns: &BTreeSet<String>) {
        let mut link = self.mind.links.remove(uid).unwrap_or_default();
        let late = self.weather.late_reader;
        let late = self.chance(late);
        let Some(files) = self.host.files(uid).cloned() else {
            self.mind.links.insert(uid.clone(), link);
            return;
        };
        let more = files.said.len().saturating_sub(link.read);
        link.read += if late { self.rng.usize(0..=more) } else { more };
        // It decides on all that is known.
        if link.read < files.said.len() {
            self.mind.links.insert(uid.clone(), link);
            return;
        }
        let greeted = files.said[..link.read].iter().any(|(_, said)| matches!(said, Said::Handshake));
        let timeout = row.spec.start_timeout.unwrap_or_default().0.as_millis() as i64;
        let begun = row.status.started_at.unwrap_or_default().0;
        link.failed |= !greeted && timeout > 0 && self.host.now - begun > timeout;
        let closing = self.mind.closing.contains(uid);
        if greeted && !closing && !link.failed && self.host.run_dirs.contains_key(uid) {
            for run in turns.iter().filter(|run| !files.asked.contains_key(*run)) {
                self.say(|| format!("{uid} is asked about {run}"));
                self.turn_asked(uid, run);
                self.ask_agent(uid, run);
            }
        }
        if let Some(files) = self.host.run_dirs.get_mut(uid) {
            for (_, asked) in files.asked.iter_mut().filter(|(run, _)| !turns.contains(*run)) {
                asked.closed = true;
            }
            if closing && !link.closed {
                files.closing = true;
                files.eof = true;
                link.closed = true;
            }
        }
        self.mind.links.insert(uid.clone(), link);
    }

    /// What a driver has read.
    fn heard(&self, uid: &WorkloadUid) -> &[(i64, Said)] {
        let Some(link) = self.mind.links.get(uid) else { return &[] };
        let said = self.host.files(uid).map(|files| files.said.as_slice()).unwrap_or_default();
        &said[..link.read.min(said.len())]
    }
}

/// Nothing is known beyond jobs and processes.
pub struct Nothing;

impl Outside for Nothing {
    fn variable(&self, _name: &str) -> Option<String> {
        None
    }

    fn text(&self, _path: &std::path::Path) -> std::io::Result<String> {
        Err(std::io::ErrorKind::NotFound.into())
    }

    fn note(&self, _key: &str) -> Option<String> {
        None
    }
}

impl Talk for Voices<'_> {
    fn outcome_of(&self, run: &StepRun) -> Option<Outcome> {
        let uid = run.status.workload.as_ref()?;
        let turn = turn_of(run);
        self.0.with(|it| {
            it.heard(uid).iter().find_map(|(_, said)| match said {
                Said::Answer(of, outcome) if *of == turn => Some(outcome.clone()),
                _ => None,
            })
        })
    }

    fn outcome_of_process(&self, what: Process, workload: &Workload, exit: &Exit) -> Outcome {
        let stdout = self.0.with(|it| it.host.files(&workload.uid()).and_then(|files| files.stdout.clone()));
        let result = match (exit.code, stdout) {
            (Some(0), _) if matches!(what, Process::Requirement | Process::Notification) => Ok(Map::new()),
            // A check that finds too little waits.
            (Some(0), Some(outputs)) if what == Process::Check && outputs["score"].as_i64() < Some(50) => {
                Ok(Map::from_iter([("stdout".to_owned(), "".into())]))
            }
            (Some(0), Some(outputs)) => Ok(outputs),
            (Some(0), None) => Err(Failure { reason: "OutputInvalid".into(), message: "there is no stdout".into() }),
            _ => Err(Failure { reason: "ExitStatus".into(), message: exit.to_string() }),
        };
        Outcome { result, usage: None, cost_usd: None, session: None }
    }

    fn session_of(&self, run: &StepRun) -> Option<String> {
        let uid = run.status.workload.as_ref()?;
        self.0.with(|it| {
            it.mind.links.get(uid)?;
            let asked = it.host.files(uid)?.asked.contains_key(&turn_of(run));
            asked.then(|| format!("s-{}", run.metadata.name))
        })
    }

    fn failed_start(&self, uid: &WorkloadUid) -> Option<String> {
        let failed = self.0.with(|it| it.mind.links.get(uid).is_some_and(|link| link.failed));
        failed.then(|| "the agent did not answer in time".to_owned())
    }

    fn drained(&self, uid: &WorkloadUid) -> bool {
        self.0.with(|it| {
            let Some(link) = it.mind.links.get(uid) else { return true };
            it.host.files(uid).is_none_or(|files| link.read >= files.said.len())
        })
    }

    fn terminals(&self) -> Vec<(WorkloadUid, TerminalWanted)> {
        self.0.with(|it| {
            let mut all = Vec::new();
            for uid in it.mind.links.keys() {
                let heard = it.heard(uid);
                for terminal in heard.iter().filter_map(|(_, said)| match said {
                    Said::Terminal(terminal) => Some(terminal),
                    _ => None,
                }) {
                    let mut terminal = terminal.clone();
                    for (_, said) in heard {
                        if let Said::LetGo { id, kill } = said
                            && *id == terminal.id
                        {
                            (terminal.kill, terminal.released) = (terminal.kill || *kill, terminal.released || !*kill);
                        }
                    }
                    all.push((uid.clone(), terminal));
                }
            }
            all
        })
    }
}
