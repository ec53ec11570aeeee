//! What a workload left outside its processes: its run directory becomes its log directory, its cgroup goes.

use super::{Host, spare};
use crate::act::ActError;
use crate::model::{Exit, WorkloadUid};
use crate::shim::files;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// Cleans up; gives how the main process ended, if its shim wrote that. Every step may have been done before.
pub(super) fn clean(host: &Host, uid: &WorkloadUid) -> Result<Option<Exit>, ActError> {
    if let Some(cgroups) = &host.cgroups
        && !cgroups.remove(uid)?
        && !(spare::move_out(host, cgroups, uid)? && cgroups.remove(uid)?)
    {
        let path = cgroups.path(uid);
        let source = std::io::Error::new(ErrorKind::ResourceBusy, "a process is still, or again, in it");
        return Err(ActError::File { doing: "remove the cgroup", path, source });
    }
    let (run, log) = (host.state_dir.workload(uid), host.state_dir.log(uid));
    files::remove_passing(&run).map_err(|error| file("clean up", &run)(std::io::Error::other(error)))?;
    if run.is_dir() {
        fs::create_dir_all(host.state_dir.logs()).map_err(file("create", &host.state_dir.logs()))?;
        if log.exists() {
            fs::remove_dir_all(&log).map_err(file("remove", &log))?;
        }
        fs::rename(&run, &log).map_err(file("move to the logs", &run))?;
    }
    // One that cannot be understood was told of when it was seen.
    Ok(files::read_exit(&log).ok().flatten().map(|file| file.exit))
}

fn file(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ActError {
    let path = path.to_owned();
    move |source| ActError::File { doing, path, source }
}
