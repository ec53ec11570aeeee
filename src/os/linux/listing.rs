//! The list of what lives: one `getdents64` pass over `/proc`, compared with the pass before.
//!
//! A pass costs what the kernel needs to name every process, and a comparison of two sorted lists: nothing is looked up or
//! allocated for who was there before and still is.

use crate::model::Pid;
use crate::os::OsError;
use rustix::fs::{Mode, OFlags, RawDir, SeekFrom, open, seek};
use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

/// One call of `getdents64` fills at most this much: some 8,000 entries.
const BUFFER: usize = 256 << 10;

/// A process as `/proc` lists it: its pid, and the inode of its directory, which is another one when the pid was used again.
pub(super) type Listed = (Pid, u64);

/// What the last pass listed.
#[derive(Debug, Default)]
pub(super) struct Listing {
    root: Option<OwnedFd>,
    buffer: Vec<MaybeUninit<u8>>,
    /// In the order of pids.
    known: Vec<Listed>,
    /// The pass under way; kept for its memory.
    next: Vec<Listed>,
}

/// What is different from the pass before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) came: Vec<Listed>,
    pub(super) went: Vec<Listed>,
}

impl Listing {
    /// One pass. On an error the pass before stands.
    pub(super) fn pass(&mut self) -> Result<Changes, OsError> {
        let failed = |errno: Errno| OsError::Read { path: "/proc".into(), source: errno.into() };
        let root = match &mut self.root {
            Some(root) => {
                seek(&*root, SeekFrom::Start(0)).map_err(failed)?;
                root
            }
            none => {
                self.buffer.resize(BUFFER, MaybeUninit::uninit());
                none.insert(open_proc()?)
            }
        };
        self.next.clear();
        let mut entries = RawDir::new(root, &mut self.buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(failed)?;
            if let Some(pid) = pid_in(entry.file_name().to_bytes()) {
                self.next.push((pid, entry.ino()));
            }
        }
        // We are there ourselves: a list without anybody is not a list.
        if self.next.is_empty() {
            return Err(OsError::Form { path: "/proc".into(), what: "it lists no process; is it mounted?".into() });
        }
        // The kernel lists by number; nothing promises that it always will.
        if !self.next.is_sorted() {
            self.next.sort_unstable();
        }
        std::mem::swap(&mut self.known, &mut self.next);
        Ok(changes(&self.next, &self.known))
    }

    /// The inode under which this pid was listed.
    pub(super) fn inode(&self, pid: Pid) -> Option<u64> {
        let at = self.known.binary_search_by_key(&pid, |(pid, _)| *pid).ok()?;
        Some(self.known[at].1)
    }

    /// How many were listed.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}

fn open_proc() -> Result<OwnedFd, OsError> {
    open("/proc", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| OsError::Read { path: "/proc".into(), source: errno.into() })
}

/// The pid that a name is; most of what `/proc` holds besides begins with a letter.
fn pid_in(name: &[u8]) -> Option<Pid> {
    let mut number: i32 = 0;
    for byte in name {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(i32::from(digit))?;
    }
    Pid::new(number)
}

/// Two sorted lists, side by side.
fn changes(before: &[Listed], now: &[Listed]) -> Changes {
    let mut changes = Changes::default();
    if before == now {
        return changes;
    }
    let mut old = before.iter().copied().peekable();
    for &listed in now {
        changes.went.extend(std::iter::from_fn(|| old.next_if(|old| old.0 < listed.0)));
        match old.next_if(|old| old.0 == listed.0) {
            Some(same) if same == listed => {}
            other => {
                changes.went.extend(other);
                changes.came.push(listed);
            }
        }
    }
    changes.went.extend(old);
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(all: &[(i32, u64)]) -> Vec<Listed> {
        all.iter().map(|(pid, inode)| (Pid::new(*pid).unwrap(), *inode)).collect()
    }

    #[test]
    fn two_lists_differ_in_who_came_and_who_went() {
        type List = &'static [(i32, u64)];
        let cases: [(&str, List, List, List, List); 6] = [
            ("the same", &[(1, 1), (5, 2)], &[(1, 1), (5, 2)], &[], &[]),
            ("the first pass", &[], &[(1, 1), (5, 2)], &[(1, 1), (5, 2)], &[]),
            ("one in the middle", &[(1, 1), (5, 2), (9, 3)], &[(1, 1), (9, 3)], &[], &[(5, 2)]),
            ("a pid used again", &[(1, 1), (5, 2), (9, 3)], &[(1, 1), (5, 7), (9, 3)], &[(5, 7)], &[(5, 2)]),
            ("both ends", &[(1, 1), (5, 2)], &[(5, 2), (7, 3)], &[(7, 3)], &[(1, 1)]),
            ("everything", &[(1, 1), (3, 2)], &[(2, 1), (4, 2)], &[(2, 1), (4, 2)], &[(1, 1), (3, 2)]),
        ];
        for (what, before, now, came, went) in cases {
            let expected = Changes { came: listed(came), went: listed(went) };
            assert_eq!(changes(&listed(before), &listed(now)), expected, "{what}");
        }
    }

    #[test]
    fn a_name_is_a_pid_or_something_else() {
        for (name, pid) in
            [("1", Some(1)), ("32768", Some(32768)), ("0", None), ("", None), ("self", None), ("12x", None)]
        {
            assert_eq!(pid_in(name.as_bytes()).map(Pid::get), pid, "{name:?}");
        }
        assert_eq!(pid_in(b"99999999999"), None);
    }

    #[test]
    fn we_are_listed_ourselves_and_stay_the_same() {
        let mut listing = Listing::default();
        let me = Pid::new(std::process::id() as i32).unwrap();
        assert!(listing.pass().unwrap().came.iter().any(|(pid, _)| *pid == me));
        let inode = listing.inode(me);
        assert!(inode.is_some() && listing.len() > 0);
        let changes = listing.pass().unwrap();
        assert!(changes.came.iter().chain(&changes.went).all(|(pid, _)| *pid != me));
        assert_eq!(listing.inode(me), inode);
    }
}
