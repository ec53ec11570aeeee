//! The eyes for what we did not start: a [`Census`] of every process of the host.
//!
//! What a census promises:
//! - Each process in it was there in this pass, by its identity. Who ended in the middle is just not in it; who was forked in the
//!   middle may be missing, and is in the next one.
//! - Of those that matter to who asks, and of their kin above and below, everything that changes was read in this pass. Of the
//!   others, state and memory may be a minute old; parents are always right.
//! - What may not be read is unknown, never empty: an environment that we can not see may hold any mark.
//! - A table that could not be read as a whole is `Unknown`: nobody is missing then, and nobody is an orphan.

use crate::model::{BootId, Census, HostProcess, Pid, Reading, Time};
use crate::os::{HostTable, OsError, boot_id, effective_uid, proportional_bytes};

/// Who takes a census. Keeps what it has read of processes that are still there; dropping it loses nothing.
#[derive(Debug)]
pub struct Surveyor {
    table: HostTable,
    boot_id: Option<BootId>,
}

impl Surveyor {
    /// One that reads these variables of environments.
    pub fn new(names: &[&str]) -> Surveyor {
        Surveyor { table: HostTable::new(names), boot_id: None }
    }

    /// Takes a census. `matters` says of whom the present state counts; asked of a process as it was last read.
    pub fn census(&mut self, now: Time, matters: impl Fn(&HostProcess) -> bool) -> Census {
        let mut census = Census {
            as_of: now,
            boot_id: BootId::default(),
            user: effective_uid(),
            processes: Reading::Unknown("nobody has looked yet".into()),
        };
        let passed = self.boot().and_then(|boot| {
            census.boot_id = boot;
            self.table.pass(matters)
        });
        census.processes = match passed {
            Ok(()) => Reading::Known(self.table.iter().map(|it| (it.id.pid, it.clone())).collect()),
            Err(error) => Reading::Unknown(error.to_string()),
        };
        census
    }

    /// What the last census could not show, in words.
    pub fn unseen(&self) -> Option<String> {
        self.table.unseen()
    }

    /// This boot: asked once, it does not change.
    fn boot(&mut self) -> Result<BootId, OsError> {
        if let Some(boot) = &self.boot_id {
            return Ok(boot.clone());
        }
        let boot = boot_id()?;
        self.boot_id = Some(boot.clone());
        Ok(boot)
    }
}

/// Reads the proportional memory of these processes of a census: the system walks over all of their memory for that, so it is
/// asked for few.
pub fn weigh(census: &mut Census, pids: impl IntoIterator<Item = Pid>) {
    let Reading::Known(processes) = &mut census.processes else { return };
    for pid in pids {
        if let Some(process) = processes.get_mut(&pid).filter(|process| !process.is_zombie()) {
            process.pss_bytes = proportional_bytes(process.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::self_id;

    #[test]
    fn a_census_shows_ourselves_and_weighs_whom_it_is_asked_to() {
        let mut surveyor = Surveyor::new(&["PATH"]);
        let me = self_id().unwrap();
        let mut census = surveyor.census(Time(7), |process| process.id == me);
        assert_eq!((census.as_of, census.user), (Time(7), effective_uid()));
        assert_eq!(census.boot_id, boot_id().unwrap());
        let mine = |census: &Census| census.processes.known().unwrap()[&me.pid].clone();
        assert_eq!(mine(&census).id, me);
        assert_eq!(mine(&census).environment.known().unwrap().get("PATH").cloned(), std::env::var("PATH").ok());
        assert_eq!(mine(&census).pss_bytes, None);
        weigh(&mut census, [me.pid]);
        assert!(mine(&census).pss_bytes.is_some_and(|pss| pss > 0));
        // The second one reads little, and tells the same.
        let again = surveyor.census(Time(8), |process| process.id == me);
        assert_eq!(mine(&again).argv, mine(&census).argv);
    }
}
