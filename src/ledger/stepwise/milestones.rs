//! Up to where a table was read, if its rows come and go.

/// Milestones are at least so many rows apart, but for the last.
const APART: i64 = 1_000;

/// When more milestones than this are gone, the table was written anew.
const MOST_GONE: usize = 50;

/// Rows that were there, with their ids, hashed; the last is that of the last row that was read. A new row always comes
/// behind the last one: so if one of these is still the same, nothing new is before it.
#[derive(Debug, Default)]
pub(super) struct Milestones(Vec<(i64, u64)>);

impl Milestones {
    /// The last row that was read.
    pub(super) fn last(&self) -> i64 {
        self.0.last().map_or(i64::MIN, |(rowid, _)| *rowid)
    }

    /// Back to the last one that is still there: all behind it may be new. Says whether any is gone.
    pub(super) fn go_back(&mut self, name: impl Fn(i64) -> rusqlite::Result<Option<u64>>) -> rusqlite::Result<bool> {
        let mut gone = 0;
        while let Some((rowid, known)) = self.0.last().copied() {
            if name(rowid)? == Some(known) {
                break;
            }
            gone += 1;
            self.0.pop();
            if gone > MOST_GONE {
                self.0.clear();
            }
        }
        Ok(gone > 0)
    }

    /// All up to this row was read.
    pub(super) fn reached(&mut self, last: (i64, u64)) {
        if let [.., before, end] = self.0.as_mut_slice()
            && end.0 - before.0 < APART
        {
            *end = last;
        } else {
            self.0.push(last);
        }
    }
}
