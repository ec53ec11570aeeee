//! Notice of a process's end, without being its parent.

use super::ProcRef;
use std::io;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Completes when the process has ended. To be called within a tokio runtime.
///
/// # Errors
/// The descriptor cannot be waited for.
pub async fn ended(process: ProcRef) -> io::Result<()> {
    // A kqueue can be waited for like a file that is read, and can not be asked whether it can be written to.
    // SAFETY: the descriptor is owned by the `AsyncFd`, so it stays open, and the same, for as long as it is registered.
    let fd = unsafe { AsyncFd::register_with_interest(process.into_fd(), Interest::READABLE) }
        .map_err(|error| io::Error::other(error.to_string()))?;
    fd.readable().await.map(drop)
}
