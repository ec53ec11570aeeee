//! What was let go on purpose: the register of keepers.
//!
//! `tenure detach` starts its command below a *keeper*, a process that carries no mark, lies in no workload's cgroup, and is
//! the parent of whatever its command leaves behind. The keeper's file in `<state>/let-go` ends the descent there: what is
//! below it is nobody's. The file's *name* says which process that is, so that a content that cannot be read never costs
//! anybody's life; the content is for people.

use super::{StateDir, read_plain};
use crate::model::{BootId, Pid, ProcId, StartTime, Time, WorkloadUid};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

/// What a keeper's file says about what it keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// The format.
    pub version: u32,
    /// The workload that it came from.
    pub workload: WorkloadUid,
    /// The command, words joined by spaces.
    pub command: String,
    /// When.
    pub at: Time,
}

/// The format of [`Kept`].
pub const KEPT_FORMAT: u32 = 1;

/// No keeper's file is larger: a command line has to fit into what the system takes, a few megabytes.
const LARGEST_BYTES: u64 = 8 << 20;

/// One keeper that was registered: it may have ended since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeper {
    /// Which process.
    pub id: ProcId,
    /// What it keeps; none: the file cannot be understood.
    pub kept: Option<Kept>,
    file: PathBuf,
}

impl Keeper {
    /// Takes it out of the register. True as well if it was not there.
    pub fn forget(&self) -> bool {
        match fs::remove_file(&self.file) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

/// Enters a keeper into the register.
///
/// # Errors
/// The disk's. Then it is not registered, and must not start anything.
pub fn register_keeper(state: &StateDir, boot: &BootId, id: ProcId, kept: &Kept) -> io::Result<Keeper> {
    let dir = state.let_go();
    DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    let file = dir.join(format!("{boot}.{}.{}", id.pid, id.start.0));
    let beside = dir.join(format!(".{}.{}", id.pid, id.start.0));
    let text = serde_json::to_vec(kept)?;
    let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    out.write_all(&text)?;
    fs::rename(&beside, &file)?;
    Ok(Keeper { id, kept: Some(kept.clone()), file })
}

/// Every keeper of this boot that was registered. Files of other boots are removed: they mean nothing any more.
///
/// # Errors
/// The register is there and cannot be read: then nobody knows who was let go.
pub fn keepers(state: &StateDir, boot: &BootId) -> io::Result<Vec<Keeper>> {
    let entries = match fs::read_dir(state.let_go()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some((of, id)) = name.to_str().and_then(parse) else { continue };
        if of != *boot {
            // It comes to nothing if it stays.
            let _ = fs::remove_file(entry.path());
            continue;
        }
        let text = read_plain(&entry.path(), LARGEST_BYTES).ok();
        let kept = text.and_then(|text| serde_json::from_slice(&text).ok());
        let kept = kept.filter(|kept: &Kept| kept.version == KEPT_FORMAT);
        found.push(Keeper { id, kept, file: entry.path() });
    }
    Ok(found)
}

fn parse(name: &str) -> Option<(BootId, ProcId)> {
    let (rest, start) = name.rsplit_once('.')?;
    let (boot, pid) = rest.rsplit_once('.')?;
    let id = ProcId { pid: Pid::new(pid.parse().ok()?)?, start: StartTime(start.parse().ok()?) };
    (!boot.is_empty()).then(|| (BootId::from(boot), id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keeper_is_known_by_its_files_name_whatever_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir(dir.path().into());
        let boot = BootId::from("b-1.2");
        assert_eq!(keepers(&state, &boot).unwrap(), []);
        let id = ProcId { pid: Pid::new(7).unwrap(), start: StartTime(99) };
        let kept = Kept { version: KEPT_FORMAT, workload: WorkloadUid::from("w"), command: "tmux".into(), at: Time(1) };
        let keeper = register_keeper(&state, &boot, id, &kept).unwrap();
        assert_eq!(keepers(&state, &boot).unwrap(), [keeper]);
        for entry in fs::read_dir(state.let_go()).unwrap() {
            fs::write(entry.unwrap().path(), "{").unwrap();
        }
        let found = keepers(&state, &boot).unwrap();
        assert_eq!((found[0].id, &found[0].kept), (id, &None));
        assert_eq!(keepers(&state, &BootId::from("another")).unwrap(), []);
        assert_eq!(keepers(&state, &boot).unwrap(), [], "files of another boot go");
        assert!(found[0].forget());
    }
}
