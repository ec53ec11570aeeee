//! What the system's process list says of a process.

use crate::model::{Pid, ProcId};
use nix::libc::c_char;

/// One process in the list.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) id: ProcId,
    pub(super) parent: Option<Pid>,
    /// The real uid.
    pub(super) user: u32,
    /// In Linux's letters: `R`, `S`, `D`, `T`, `Z`.
    pub(super) state: char,
    pub(super) rss_bytes: u64,
    pub(super) comm: String,
}

/// The text in a field of fixed length, up to the first NUL byte if there is one.
pub(super) fn text(field: &[c_char]) -> String {
    let bytes: Vec<u8> = field.iter().map(|byte| byte.cast_unsigned()).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
