//! When to try again; pure.

use crate::model::Time;
use std::time::Duration;

/// The first pause; each is twice the one before, up to the longest.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(16);

/// How long to wait before the next attempt; nothing: there is none, for it would begin later than `budget` after the first
/// one did. `tries` attempts were made within `elapsed`; the server asked for a pause of `asked`. `spread` (0 to 1) is random:
/// many that were refused at once do not come back at once.
pub(super) fn pause(
    tries: u32,
    elapsed: Duration,
    budget: Duration,
    asked: Option<Duration>,
    spread: f64,
) -> Option<Duration> {
    let doubled = FIRST.saturating_mul(1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX));
    let own = doubled.min(LONGEST).mul_f64(0.5 + spread.clamp(0.0, 1.0) / 2.0);
    let pause = asked.unwrap_or_default().saturating_add(own);
    (elapsed.saturating_add(pause) <= budget).then_some(pause)
}

/// What a `Retry-After` header asks for: seconds, or a date.
pub(super) fn retry_after(header: &str, now: Time) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds.max(0.0)).ok();
    }
    let date = jiff::fmt::rfc2822::parse(header).ok()?.timestamp();
    Some(Time(date.as_millisecond()).since(now))
}
