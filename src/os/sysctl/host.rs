//! Every process of the host with what a census tells of it. All of it is read at each pass: arguments and environment cost a call
//! each, so this is for who asks rarely.

use super::process::failed_on;
use super::row::{List, Row};
use super::{call, system};
use crate::model::{HostProcess, Pid, ProcId, Reading, Time};
use crate::os::OsError;
use crate::os::mark::{variables_in, words_in};
use std::collections::BTreeMap;

/// All processes of the host; on macOS all of this user, unless that is root.
#[derive(Debug)]
pub struct HostTable {
    /// The variables of an environment that are kept.
    names: Vec<String>,
    known: BTreeMap<Pid, HostProcess>,
}

impl HostTable {
    /// An empty table that keeps these variables of environments; the first [`pass`](Self::pass) reads everything.
    pub fn new(names: &[&str]) -> HostTable {
        HostTable { names: names.iter().map(|name| (*name).to_owned()).collect(), known: BTreeMap::new() }
    }

    /// One pass. Everybody's present state is read, so nobody matters more than others.
    ///
    /// # Errors
    /// The list, or a process, could not be read.
    pub fn pass(&mut self, _matters: impl Fn(&HostProcess) -> bool) -> Result<(), OsError> {
        let List { rows, .. } = system::all().map_err(|source| OsError::Read { path: call::PROCESS.into(), source })?;
        // We are there ourselves: a list without anybody is not a list.
        if rows.is_empty() {
            return Err(OsError::Form { path: call::PROCESS.into(), what: "it lists no process".into() });
        }
        let mut before = std::mem::take(&mut self.known);
        for row in rows {
            let before = before.remove(&row.id.pid).filter(|known| known.id == row.id);
            let process = self.read(row, before)?;
            self.known.insert(process.id.pid, process);
        }
        Ok(())
    }

    /// The processes, by pid.
    pub fn iter(&self) -> impl Iterator<Item = &HostProcess> {
        self.known.values()
    }

    /// What this table can not show, in words.
    pub fn unseen(&self) -> Option<String> {
        let first = Pid::new(1).is_some_and(|first| self.known.contains_key(&first));
        (!first).then(|| "the system does not show other users' processes: run it as root to see them".into())
    }

    fn read(&self, row: Row, before: Option<HostProcess>) -> Result<HostProcess, OsError> {
        let pid = row.id.pid;
        let mut process = HostProcess {
            id: row.id,
            parent: row.parent,
            group: row.group,
            session: row.session,
            has_terminal: row.has_terminal,
            user: row.user,
            state: row.state,
            started_at: Time(system::started_at(row.id.start)),
            name: row.comm,
            exe: system::executable(pid),
            argv: Vec::new(),
            environment: Reading::Known(BTreeMap::new()),
            rss_bytes: row.rss_bytes,
            pss_bytes: None,
        };
        if row.is_system {
            return Ok(process);
        }
        match system::arguments(pid).map_err(|source| failed_on(pid, source))? {
            Some(arguments) => {
                process.argv = words_in(&arguments.command, usize::MAX);
                process.environment = match arguments.environ {
                    // One that is hidden reads as an empty one.
                    Some(environ) if !environ.is_empty() => Reading::Known(variables_in(&environ, &self.names)),
                    _ => Reading::Unknown("its environment may not be read".into()),
                };
            }
            // It is ending, or another user's: what it was before holds.
            None => match before {
                Some(before) => (process.argv, process.environment) = (before.argv, before.environment),
                None => process.environment = Reading::Unknown("its environment may not be read".into()),
            },
        }
        Ok(process)
    }
}

/// The proportional memory of a process: this system does not tell it.
pub fn proportional_bytes(_id: ProcId) -> Option<u64> {
    None
}
