//! What the system's process list says of a process.

use crate::model::{Pid, ProcId};
use nix::libc::c_char;

/// One process in the list.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) id: ProcId,
    pub(super) parent: Option<Pid>,
    pub(super) group: Option<Pid>,
    /// None: the system does not say it in its list.
    pub(super) session: Option<Pid>,
    /// Whether it has a controlling terminal.
    pub(super) has_terminal: bool,
    /// The real uid.
    pub(super) user: u32,
    /// Whether it is the kernel's own.
    pub(super) is_system: bool,
    /// In Linux's letters: `R`, `S`, `D`, `T`, `Z`.
    pub(super) state: char,
    pub(super) rss_bytes: u64,
    pub(super) comm: String,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct List {
    pub(super) rows: Vec<Row>,
    /// How many were listed, and had ended when they were read.
    pub(super) vanished: usize,
}

/// The text in a field of fixed length, up to the first NUL byte if there is one.
pub(super) fn text(field: &[c_char]) -> String {
    let bytes: Vec<u8> =
        field.iter().map(|byte| u8::from_ne_bytes(byte.to_ne_bytes())).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
