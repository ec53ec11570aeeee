//! What one process is at this moment, as far as it decides whether it may be signalled.

use super::process::failed_on;
use super::system;
use super::table::{self, listed};
use crate::model::Pid;
use crate::os::mark::mark_in;
use crate::os::{Asked, OsError, Particulars};

/// What the process with this pid is; `None`: there is none, or it is not for us to see.
///
/// # Errors
/// The system does not say.
pub fn particulars(pid: Pid, _asked: Asked) -> Result<Option<Particulars>, OsError> {
    let Some(row) = listed(pid)? else { return Ok(None) };
    let arguments = system::arguments(pid).map_err(|source| failed_on(pid, source))?;
    Ok(Some(Particulars {
        parent: row.parent,
        user: Some(row.user),
        command: table::command(arguments.as_ref().map_or(&[], |it| &it.command), &row.comm),
        mark: arguments.and_then(|it| it.environ).as_deref().and_then(mark_in),
        // The kernel's threads are threads of process 0, which is no process that can be named here.
        is_kernel_thread: row.is_system,
    }))
}
