//! FreeBSD: `kern.proc`.

use super::call;
use super::row::{List, Row, text};
use crate::model::{Pid, ProcId, StartTime};
use crate::os::arguments::Arguments;
use nix::errno::Errno;
use nix::libc::{self, c_int};
use std::io;
use std::ptr;

/// `P_CONTROLT` of `sys/proc.h`: it has a controlling terminal.
const CONTROLLED: libc::c_long = 0x2;

/// What [`boot_id`] reads.
pub(super) const BOOT_ID: &str = "kern.boottime";

/// `TDF_SINTR` of `sys/proc.h`: the sleep of this thread can be interrupted by a signal.
const INTERRUPTIBLE: libc::c_long = 0x8;

/// `P_SYSTEM | P_KPROC` of `sys/proc.h`.
const KERNEL: libc::c_long = 0x200 | 0x4;

/// The system has no id of a boot, and its `kern.boottime` changes when the clock is set. What tells one boot from another, and
/// is the same from its first to its last second, is when process 1 was started, in microseconds since boot. In a jail there
/// is no process 1 to be seen: then it is the time of the boot, and setting the clock looks like another boot.
pub(super) fn boot_id() -> io::Result<String> {
    let init = Pid::new(1).map(one).transpose()?.flatten();
    match init {
        Some(init) => Ok(format!("init-{}", init.id.start.0)),
        None => Ok(format!("boot-{}", boot_time_us()?)),
    }
}

/// Every process. They are listed and read in one call, so none vanishes in between.
pub(super) fn all() -> io::Result<List> {
    let rows = rows(&[libc::CTL_KERN, libc::KERN_PROC, libc::KERN_PROC_PROC])?;
    Ok(List { rows, vanished: 0 })
}

/// One process; `None`: there is none with this pid.
pub(super) fn one(pid: Pid) -> io::Result<Option<Row>> {
    match rows(&[libc::CTL_KERN, libc::KERN_PROC, libc::KERN_PROC_PID, pid.get()]) {
        Ok(rows) => Ok(rows.into_iter().find(|row| row.id.pid == pid)),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// When a process started, by the clock of now, in milliseconds since 1970.
pub(super) fn started_at(start: StartTime) -> i64 {
    let since_boot = i64::try_from(start.0).unwrap_or(i64::MAX);
    boot_time_us().unwrap_or(0).saturating_add(since_boot) / 1000
}

/// The path of a process's executable; none: it is not to be had.
pub(super) fn executable(pid: Pid) -> Option<String> {
    let path = call::read(&[libc::CTL_KERN, libc::KERN_PROC, libc::KERN_PROC_PATHNAME, pid.get()]).ok()?;
    let path = String::from_utf8(path).ok()?;
    Some(path.trim_end_matches('\0').to_owned()).filter(|path| !path.is_empty())
}

/// The parent of a process.
pub(super) fn parent(pid: Pid) -> io::Result<Option<Pid>> {
    Ok(one(pid)?.and_then(|row| row.parent))
}

/// The system adds the time of the boot to each start time, and moves that when the clock is set. It is taken off again, so that a
/// start time says the same for as long as the process lives; so it must not move while they are read.
fn rows(name: &[c_int]) -> io::Result<Vec<Row>> {
    let mut boot = boot_time_us()?;
    loop {
        let bytes = call::read(name)?;
        let after = boot_time_us()?;
        if boot == after {
            return parse(&bytes, boot);
        }
        boot = after;
    }
}

fn parse(bytes: &[u8], boot: i64) -> io::Result<Vec<Row>> {
    let size = size_of::<libc::kinfo_proc>();
    let mut rows = Vec::with_capacity(bytes.len() / size);
    for chunk in bytes.chunks_exact(size) {
        // SAFETY: the chunk has the size of the type, and any bytes are a value of it: numbers, arrays of numbers, and pointers of
        // the kernel's, which nobody follows.
        let info = unsafe { ptr::read_unaligned(chunk.as_ptr().cast::<libc::kinfo_proc>()) };
        if usize::try_from(info.ki_structsize) != Ok(size) {
            let what = format!("kern.proc has entries of {} bytes, not {size}", info.ki_structsize);
            return Err(io::Error::other(what));
        }
        rows.extend(row(&info, boot));
    }
    Ok(rows)
}

/// `None`: it is the kernel itself, whose pid is 0.
fn row(info: &libc::kinfo_proc, boot: i64) -> Option<Row> {
    let start = u64::try_from(micros(info.ki_start).saturating_sub(boot)).unwrap_or(0);
    Some(Row {
        id: ProcId { pid: Pid::new(info.ki_pid)?, start: StartTime(start) },
        parent: Pid::new(info.ki_ppid),
        group: Pid::new(info.ki_pgid),
        session: Pid::new(info.ki_sid),
        has_terminal: info.ki_flag & CONTROLLED != 0,
        user: info.ki_ruid,
        is_system: info.ki_flag & KERNEL != 0,
        state: match info.ki_stat {
            libc::SZOMB => 'Z',
            libc::SSTOP => 'T',
            libc::SSLEEP if info.ki_tdflags & INTERRUPTIBLE == 0 => 'D',
            libc::SSLEEP | libc::SWAIT | libc::SLOCK => 'S',
            _ => 'R',
        },
        rss_bytes: u64::try_from(info.ki_rssize).unwrap_or(0) * rustix::param::page_size() as u64,
        comm: text(&info.ki_comm),
    })
}

fn micros(time: libc::timeval) -> i64 {
    time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_usec)
}

fn boot_time_us() -> io::Result<i64> {
    let bytes = call::read_at_most(&[libc::CTL_KERN, libc::KERN_BOOTTIME], size_of::<libc::timeval>())?;
    if bytes.len() != size_of::<libc::timeval>() {
        return Err(io::Error::other("kern.boottime is not a time"));
    }
    // SAFETY: the buffer has the size of the type, which is two numbers.
    Ok(micros(unsafe { ptr::read_unaligned(bytes.as_ptr().cast()) }))
}

/// The arguments of a process; `None`: not to be had, as of one that is ending, that has ended, or that is another user's.
pub(super) fn arguments(pid: Pid) -> io::Result<Option<Arguments>> {
    let read = |what| match call::read(&[libc::CTL_KERN, libc::KERN_PROC, what, pid.get()]) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if call::is_refusal(&error) => Ok(None),
        Err(error) => Err(error),
    };
    let Some(command) = read(libc::KERN_PROC_ARGS)? else { return Ok(None) };
    Ok(Some(Arguments { command, environ: read(libc::KERN_PROC_ENV)? }))
}

/// Makes this process the one that descendants are re-parented to (procctl(2)).
///
/// # Errors
/// The system refuses.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: this command takes no data; 0 is the caller.
    let done = unsafe { libc::procctl(libc::P_PID, 0, libc::PROC_REAP_ACQUIRE, ptr::null_mut()) };
    match Errno::result(done) {
        // It is one already.
        Ok(_) | Err(Errno::EBUSY) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
