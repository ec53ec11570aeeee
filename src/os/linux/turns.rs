//! Whose turn it is to be read again: every process once within [`PERIOD`], a few at each pass.
//!
//! How many depends on the time that has passed, not on how often somebody looks: of a hundred processes, two for every
//! second. So a look finds few that are due, and never all of them at once.

use super::listing::Listed;
use std::collections::VecDeque;
use std::time::Duration;

/// What was read is never older than this after a pass, as long as passes come at a steady rate.
pub(super) const PERIOD: Duration = Duration::from_secs(60);
/// All have their turn in this time, if their number stays the same.
const ROUND: Duration = Duration::from_secs(50);
/// Passes may become rarer by this much before anything is late.
const SLACK: Duration = Duration::from_secs(2);

/// A queue: who was read last stands last.
#[derive(Debug, Default)]
pub(super) struct Turns {
    queue: VecDeque<(Duration, Listed)>,
    last: Option<Duration>,
    /// Turns that are owed, times `ROUND`, in nanoseconds: parts of a turn are not lost.
    credit: u128,
}

impl Turns {
    /// This one was read now.
    pub(super) fn push(&mut self, listed: Listed, now: Duration) {
        self.queue.push_back((now, listed));
    }

    /// Who is due at this pass, out of `living` processes; they leave the queue. `is_there` says who is still listed: the
    /// others are forgotten, and cost no turn.
    pub(super) fn due(&mut self, now: Duration, living: usize, is_there: impl Fn(Listed) -> bool) -> Vec<Listed> {
        let gap = self.last.map_or(Duration::ZERO, |last| now.saturating_sub(last));
        self.last = Some(now);
        self.credit += gap.as_nanos() * living as u128;
        let mut owed = self.credit / ROUND.as_nanos();
        self.credit %= ROUND.as_nanos();
        // When many have ended, the rest moves up too slowly: nobody may be too old before the next pass.
        let oldest = now.checked_sub(PERIOD.saturating_sub(gap + SLACK));
        let mut due = Vec::new();
        while let Some(&(read_at, listed)) = self.queue.front() {
            let there = is_there(listed);
            if there && owed == 0 && oldest.is_none_or(|oldest| read_at > oldest) {
                break;
            }
            self.queue.pop_front();
            if there {
                owed = owed.saturating_sub(1);
                due.push(listed);
            }
        }
        // Who has ended stands in the queue until it gets to the front; it must not grow by that.
        if self.queue.len() > 64 + living * 2 {
            self.queue.retain(|(_, listed)| is_there(*listed));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Pid;
    use std::collections::HashMap;

    fn listed(pid: i32) -> Listed {
        (Pid::new(pid).unwrap(), u64::try_from(pid).unwrap())
    }

    /// Passes at this rate, over some minutes; gives the oldest that anything ever was after a pass, and the most that was
    /// read in one pass after the first.
    fn simulate(count: i32, gap: Duration, left: impl Fn(Duration) -> i32) -> (Duration, usize) {
        let mut turns = Turns::default();
        let mut read: HashMap<Listed, Duration> = HashMap::new();
        for pid in 1..=count {
            turns.push(listed(pid), Duration::ZERO);
            read.insert(listed(pid), Duration::ZERO);
        }
        turns.due(Duration::ZERO, read.len(), |_| true);
        let (mut oldest, mut most) = (Duration::ZERO, 0);
        let mut now = Duration::ZERO;
        while now < Duration::from_secs(300) {
            now += gap;
            let left = left(now);
            read.retain(|(pid, _), _| pid.get() <= left);
            // Before it is read, at its oldest.
            oldest = read.values().map(|at| now - *at).max().unwrap_or_default().max(oldest);
            let due = turns.due(now, read.len(), |(pid, _)| pid.get() <= left);
            most = most.max(due.len());
            for listed in due {
                read.insert(listed, now);
                turns.push(listed, now);
            }
        }
        assert!(turns.queue.len() <= 64 + 2 * read.len());
        (oldest, most)
    }

    #[test]
    fn everything_is_read_again_within_a_minute_whatever_the_rate_of_looks() {
        for gap in [3, 40, 500, 1_000, 5_000, 10_000, 25_000].map(Duration::from_millis) {
            for count in [1, 7, 200, 1_000] {
                let (oldest, most) = simulate(count, gap, |_| count);
                assert!(oldest <= PERIOD, "{count} processes, a look each {gap:?}: {oldest:?}");
                // No herd: at most twice its share.
                let share = f64::from(count) * gap.as_secs_f64() / ROUND.as_secs_f64();
                assert!(most as f64 <= share * 2.0 + 1.0, "{count} processes, a look each {gap:?}: {most} in one look");
            }
        }
    }

    #[test]
    fn who_is_left_when_most_have_ended_does_not_wait_longer() {
        for gap in [40, 1_000, 10_000].map(Duration::from_millis) {
            let (oldest, _) = simulate(1_000, gap, |now| if now.as_secs() < 45 { 1_000 } else { 990 });
            assert!(oldest <= PERIOD, "{gap:?}: {oldest:?}");
            let (oldest, _) = simulate(1_000, gap, |now| if now.as_secs() < 30 { 1_000 } else { 700 });
            assert!(oldest <= PERIOD, "{gap:?}: {oldest:?}");
        }
    }

    #[test]
    fn looks_in_quick_succession_read_nothing_again() {
        let mut turns = Turns::default();
        for pid in 1..=1_000 {
            turns.push(listed(pid), Duration::from_secs(5));
        }
        turns.due(Duration::from_secs(5), 1_000, |_| true);
        let later = Duration::from_secs(5) + Duration::from_millis(1);
        assert_eq!(turns.due(later, 1_000, |_| true), []);
    }
}
