//! macOS: libproc for processes, `KERN_PROCARGS2` for their arguments.

use super::call;
use super::row::{List, Row, text};
use crate::model::{Pid, ProcId, StartTime};
use crate::os::arguments::Arguments;
use nix::errno::Errno;
use nix::libc::{self, c_int, c_void};
use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// What [`boot_id`] reads.
pub(super) const BOOT_ID: &str = "kern.bootsessionuuid";
const BOOT_ID_NAME: &CStr = c"kern.bootsessionuuid";

/// `ARG_MAX`: a process has no more of arguments and environment; a longer buffer is refused, and of a shorter one nobody
/// says which part is in it.
const ARG_MAX: usize = 1 << 20;

/// This boot's own id.
pub(super) fn boot_id() -> io::Result<String> {
    let mut buffer = [0_u8; 64];
    let mut length = buffer.len();
    let out = buffer.as_mut_ptr().cast();
    // SAFETY: the name ends with a NUL byte, `out` has the length that is given; nothing is set.
    Errno::result(unsafe { libc::sysctlbyname(BOOT_ID_NAME.as_ptr(), out, &mut length, ptr::null_mut(), 0) })?;
    let bytes = buffer.get(..length).unwrap_or_default();
    Ok(String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned())
}

/// Every process that this user may look at.
pub(super) fn all() -> io::Result<List> {
    let mut list = List::default();
    for pid in pids()?.into_iter().filter_map(Pid::new) {
        match one(pid) {
            Ok(Some(row)) => list.rows.push(row),
            Ok(None) => list.vanished += 1,
            // Another user's.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
    }
    Ok(list)
}

fn pids() -> io::Result<Vec<c_int>> {
    let mut room = 1024_usize;
    loop {
        let mut pids: Vec<c_int> = vec![0; room];
        let bytes = c_int::try_from(size_of_val(pids.as_slice())).unwrap_or(c_int::MAX);
        // SAFETY: the buffer has the length in bytes that is given.
        let count = unsafe { libc::proc_listallpids(pids.as_mut_ptr().cast(), bytes) };
        let count = usize::try_from(count).unwrap_or(0);
        if count == 0 {
            return Err(io::Error::last_os_error());
        }
        // A list that fills the buffer may have been cut.
        if count < room {
            pids.truncate(count);
            return Ok(pids);
        }
        room *= 2;
    }
}

/// One process; `None`: there is none with this pid.
///
/// # Errors
/// `EPERM`: it is another user's.
pub(super) fn one(pid: Pid) -> io::Result<Option<Row>> {
    // SAFETY: `proc_bsdinfo` is numbers and arrays of numbers.
    let Some(info) = (unsafe { ask::<libc::proc_bsdinfo>(pid, libc::PROC_PIDTBSDINFO, ZOMBIES_TOO) })? else {
        return Ok(None);
    };
    // Refused of one that has ended: it has none.
    // SAFETY: `proc_taskinfo` is numbers.
    let task = unsafe { ask::<libc::proc_taskinfo>(pid, libc::PROC_PIDTASKINFO, 0) };
    let rss_bytes = task.ok().flatten().map_or(0, |task| task.pti_resident_size);
    let start = info.pbi_start_tvsec.saturating_mul(1_000_000).saturating_add(info.pbi_start_tvusec);
    Ok(Some(Row {
        id: ProcId { pid, start: StartTime(start) },
        parent: i32::try_from(info.pbi_ppid).ok().and_then(Pid::new),
        group: i32::try_from(info.pbi_pgid).ok().and_then(Pid::new),
        session: nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(pid.get())))
            .ok()
            .and_then(|id| Pid::new(id.as_raw())),
        has_terminal: info.pbi_flags & CONTROLLED != 0,
        user: info.pbi_ruid,
        is_system: info.pbi_flags & SYSTEM != 0,
        // One that runs and one that sleeps are the same here: that is a matter of threads.
        state: match info.pbi_status {
            libc::SZOMB => 'Z',
            libc::SSTOP => 'T',
            libc::SSLEEP => 'S',
            _ => 'R',
        },
        rss_bytes,
        comm: text(&info.pbi_comm),
    }))
}

/// The parent of a process, whoever's it is.
pub(super) fn parent(pid: Pid) -> io::Result<Option<Pid>> {
    // SAFETY: `proc_bsdshortinfo` is numbers and an array of numbers.
    let info = unsafe { ask::<libc::proc_bsdshortinfo>(pid, libc::PROC_PIDT_SHORTBSDINFO, ZOMBIES_TOO) }?;
    Ok(info.and_then(|info| i32::try_from(info.pbsi_ppid).ok()).and_then(Pid::new))
}

/// `PROC_FLAG_SYSTEM` and `PROC_FLAG_CONTROLT` of `sys/proc_info.h`.
const SYSTEM: u32 = 0x1;
const CONTROLLED: u32 = 0x80;

/// When a process started, in milliseconds since 1970.
pub(super) fn started_at(start: StartTime) -> i64 {
    i64::try_from(start.0 / 1000).unwrap_or(i64::MAX)
}

/// The path of a process's executable; none: it is not to be had.
pub(super) fn executable(pid: Pid) -> Option<String> {
    let mut path = vec![0_u8; libc::PROC_PIDPATHINFO_MAXSIZE as usize];
    let room = u32::try_from(path.len()).unwrap_or(0);
    // SAFETY: the buffer has the length that is given.
    let length = unsafe { libc::proc_pidpath(pid.get(), path.as_mut_ptr().cast::<c_void>(), room) };
    path.truncate(usize::try_from(length).ok().filter(|length| *length > 0)?);
    String::from_utf8(path).ok()
}

/// The argument of `proc_pidinfo` that lets it find processes that were not collected.
const ZOMBIES_TOO: u64 = 1;

/// What `proc_pidinfo` says of a process; `None`: there is none with this pid.
///
/// # Safety
/// `T` is the type of this flavor, and any bytes are a value of it.
unsafe fn ask<T>(pid: Pid, flavor: c_int, argument: u64) -> io::Result<Option<T>> {
    let mut info = MaybeUninit::<T>::zeroed();
    let size = c_int::try_from(size_of::<T>()).unwrap_or(0);
    // SAFETY: the buffer has the length that is given.
    let length = unsafe { libc::proc_pidinfo(pid.get(), flavor, argument, info.as_mut_ptr().cast::<c_void>(), size) };
    if length == size {
        // SAFETY: all of it was written; and any bytes are a value.
        return Ok(Some(unsafe { info.assume_init() }));
    }
    if length > 0 {
        return Err(io::Error::other(format!("proc_pidinfo gave {length} of {size} bytes")));
    }
    match Errno::last() {
        Errno::ESRCH => Ok(None),
        errno => Err(errno.into()),
    }
}

/// The arguments of a process; `None`: not to be had, as of one that is ending, that has ended, or that is another user's.
pub(super) fn arguments(pid: Pid) -> io::Result<Option<Arguments>> {
    match call::read_at_most(&[libc::CTL_KERN, libc::KERN_PROCARGS2, pid.get()], ARG_MAX) {
        Ok(buffer) => Ok(Arguments::parse_procargs2(&buffer)),
        Err(error) if call::is_refusal(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// There is no such thing on macOS: what loses its parent becomes launchd's child, and only its environment tells whose it is.
///
/// # Errors
/// None.
pub fn become_subreaper() -> io::Result<()> {
    Ok(())
}
