//! How ages, spans, amounts, and objects' fields are written. Pure.

use crate::model::Time;
use serde_json::Value;
use std::time::Duration;

/// An age in one short word: `5s`, `3m`, `2h`, `4d`.
pub fn age(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// How long something took: `0.2s`, `45s`, `3m5s`, `2h4m`.
pub fn duration(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..10 => format!("{:.1}s", span.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        _ => format!("{}h{}m", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// An amount of memory: `812B`, `3.1MB`, `412MB`.
pub fn bytes(amount: u64) -> String {
    let mut value = amount as f64;
    let mut unit = "B";
    for next in ["kB", "MB", "GB", "TB"] {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if unit == "B" || value >= 100.0 { format!("{value:.0}{unit}") } else { format!("{value:.1}{unit}") }
}

/// Money.
pub fn usd(amount: f64) -> String {
    if amount < 1.0 { format!("${amount:.4}") } else { format!("${amount:.2}") }
}

/// The value at a path such as `/status/phase`, as text; empty where there is none.
pub fn at(object: &Value, path: &str) -> String {
    object.pointer(path).map(plain).unwrap_or_default()
}

/// A value as text: a string as it is, what is compound as JSON.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The point in time at a path.
pub fn time_at(object: &Value, path: &str) -> Option<Time> {
    serde_json::from_value(object.pointer(path)?.clone()).ok()
}

/// The age of what happened at a path; empty where it did not.
pub fn age_at(object: &Value, path: &str, now: Time) -> String {
    time_at(object, path).map(|time| age(now.since(time))).unwrap_or_default()
}

/// How far away a time is; empty where there is none, or it is past.
pub fn until_at(object: &Value, path: &str, now: Time) -> String {
    time_at(object, path).filter(|time| *time > now).map(|time| age(time.since(now))).unwrap_or_default()
}

/// From one path to the other, or until now; empty where it has not begun.
pub fn duration_between(object: &Value, from: &str, to: &str, now: Time) -> String {
    let span = time_at(object, from).map(|from| time_at(object, to).unwrap_or(now).since(from));
    span.map(duration).unwrap_or_default()
}

/// How a workload's main process ended, as text; empty while it runs.
pub fn exit(workload: &Value) -> String {
    let exit = workload.pointer("/status/exit").cloned();
    let exit = exit.and_then(|exit| serde_json::from_value::<crate::model::Exit>(exit).ok());
    exit.map(|exit| match exit.code {
        Some(code) => code.to_string(),
        None => exit.to_string(),
    })
    .unwrap_or_default()
}

/// A text for a path or a query of a URL.
pub fn url(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ages_durations_and_amounts_are_short() {
        let ages = [0, 5, 119, 120, 7_199, 7_200, 172_799, 172_800].map(|s| age(Duration::from_secs(s)));
        assert_eq!(ages, ["0s", "5s", "119s", "2m", "119m", "2h", "47h", "2d"]);
        let spans = [150, 9_990, 10_000, 185_000, 7_500_000].map(|ms| duration(Duration::from_millis(ms)));
        assert_eq!(spans, ["0.1s", "10.0s", "10s", "3m5s", "2h5m"]);
        let amounts = [0, 812, 3_100_000, 412_000_000, 8_000_000_000].map(bytes);
        assert_eq!(amounts, ["0B", "812B", "3.1MB", "412MB", "8.0GB"]);
        assert_eq!([usd(0.0123), usd(12.5)], ["$0.0123", "$12.50"]);
    }

    #[test]
    fn what_is_not_there_is_empty() {
        let object = json!({"status": {"startedAt": "2026-01-01T00:00:00Z", "exit": {"signal": "SIGKILL"}}});
        let now = Time(1_767_225_600_000).after(Duration::from_secs(65));
        assert_eq!(age_at(&object, "/status/startedAt", now), "65s");
        assert_eq!(age_at(&object, "/status/finishedAt", now), "");
        assert_eq!(duration_between(&object, "/status/startedAt", "/status/finishedAt", now), "1m5s");
        assert_eq!((exit(&object), exit(&json!({}))), ("SIGKILL".into(), String::new()));
        assert_eq!(url("a b/ü=1"), "a%20b%2F%C3%BC%3D1");
    }
}
