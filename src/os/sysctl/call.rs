//! `sysctl(3)`: values by number.

use nix::errno::Errno;
use nix::libc::{self, c_int, c_uint};
use std::io;
use std::ptr;

/// A value of unknown length.
#[cfg(target_os = "freebsd")]
pub(super) fn read(name: &[c_int]) -> io::Result<Vec<u8>> {
    // It may grow between being measured and being read.
    for _ in 0..8 {
        let mut length = 0;
        // SAFETY: without a buffer the system only stores the length.
        Errno::result(unsafe {
            libc::sysctl(
                name.as_ptr().cast_mut(),
                name.len() as c_uint,
                ptr::null_mut(),
                &mut length,
                ptr::null_mut(),
                0,
            )
        })?;
        match read_at_most(name, length + length / 8 + 64) {
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {}
            other => return other,
        }
    }
    Err(Errno::ENOMEM.into())
}

/// A value of at most this length.
pub(super) fn read_at_most(name: &[c_int], most: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0_u8; most];
    let mut length = buffer.len();
    let out = buffer.as_mut_ptr().cast();
    // SAFETY: `name` and `out` have the lengths that are given; nothing is set.
    Errno::result(unsafe {
        libc::sysctl(name.as_ptr().cast_mut(), name.len() as c_uint, out, &mut length, ptr::null_mut(), 0)
    })?;
    buffer.truncate(length);
    Ok(buffer)
}

/// The list of processes, for messages.
pub(super) const PROCESS: &str = "kern.proc";

/// Whether an error says of a process's arguments that they can not be had: it is ending, it has ended, it is in the middle of an
/// exec, or it is another user's. Which of these is not told (macOS says `EINVAL` for all of them).
pub(super) fn is_refusal(error: &io::Error) -> bool {
    let refusals =
        [Errno::EACCES, Errno::EFAULT, Errno::EINVAL, Errno::EIO, Errno::ENOEXEC, Errno::EPERM, Errno::ESRCH];
    error.raw_os_error().is_some_and(|raw| refusals.contains(&Errno::from_raw(raw)))
}
