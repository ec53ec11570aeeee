//! What an entry of a ledger says, whatever the ledger: numbers that are pids, texts that are times, and lives.

use crate::model::{Claim, JobLife, LedgerBook, Pid, Question, Time};
use crate::os::self_and_ancestors;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

/// A value of which only the simple ones mean something. It takes nothing apart, and copies little.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) enum Scalar<'a> {
    /// Not there, or `null`.
    #[default]
    Nothing,
    Bool(bool),
    Number(f64),
    Text(Cow<'a, str>),
    /// A list or a mapping.
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Scalar<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(Scalar::Nothing)
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
                Ok(Scalar::Bool(value))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                Ok(Scalar::Number(value as f64))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
                Ok(Scalar::Number(value as f64))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
                Ok(Scalar::Number(value))
            }
            fn visit_borrowed_str<E: de::Error>(self, value: &'de str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Borrowed(value)))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Owned(value.to_owned())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
        }
        deserializer.deserialize_any(Visit)
    }
}

impl Scalar<'_> {
    pub(super) fn is_nothing(&self) -> bool {
        *self == Scalar::Nothing
    }

    /// The number of a process, if it can be one. 1 is init; 0 and below address groups.
    pub(super) fn pid(&self) -> Option<Pid> {
        let number = match self {
            Scalar::Number(number) => *number,
            Scalar::Text(text) => text.trim().parse().ok()?,
            Scalar::Nothing | Scalar::Bool(_) | Scalar::Other => return None,
        };
        let is_one = number.fract() == 0.0 && number > 1.0 && number <= f64::from(i32::MAX);
        if is_one { Pid::new(number as i32) } else { None }
    }

    /// A text that says something.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Scalar::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// A point in time.
    pub(super) fn time(&self) -> Result<Option<Time>, String> {
        match self {
            Scalar::Nothing => Ok(None),
            Scalar::Text(text) => time_of(text).map(Some).ok_or_else(|| format!("`{text}` is not a time")),
            // Seconds have ten digits until the year 2286, milliseconds had twelve in 1973.
            Scalar::Number(number) if *number > 0.0 && *number < 1e11 => Ok(Some(Time((number * 1e3) as i64))),
            Scalar::Number(number) if *number > 0.0 && *number < 1e14 => Ok(Some(Time(*number as i64))),
            Scalar::Number(number) => Err(format!("{number} is not a time")),
            Scalar::Bool(_) | Scalar::Other => Err("what stands for a time is none".into()),
        }
    }
}

/// ISO 8601. Without an offset it is UTC: that is what programs mean which leave it out.
pub(super) fn time_of(text: &str) -> Option<Time> {
    let text = text.trim();
    if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
        return Some(Time(timestamp.as_millisecond()));
    }
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Time(zoned.timestamp().as_millisecond()))
}

/// This process and all above it.
pub(super) fn our_line() -> BTreeSet<Pid> {
    self_and_ancestors().unwrap_or_default()
}

/// What an entry says of its processes.
pub(super) enum Named {
    /// It names none.
    Nobody,
    /// It names some.
    Claim(Claim),
    /// It means to name some, and what it names can not be one: in words.
    Nonsense(String),
}

/// A claim on what is named; what can not be is dropped from it. So is a group of our own line: whoever meant it meant
/// somebody who is gone, or the program that started us. (A pid of our line stays: it may well be that job which started us,
/// and nothing above us is ever signalled.)
pub(super) fn named(pid: &Scalar<'_>, group: &Scalar<'_>, session: Option<&str>, ours: &BTreeSet<Pid>) -> Named {
    let (leader, members) = (pid.pid(), group.pid());
    if leader.is_none() && session.is_none() {
        match (pid, group) {
            (Scalar::Nothing, Scalar::Nothing) => return Named::Nobody,
            (Scalar::Nothing, _) if members.is_some() => {}
            _ => {
                let what = format!("pid {} and group {} can not be those of a job", shown(pid), shown(group));
                return Named::Nonsense(what);
            }
        }
    }
    let group = members.filter(|group| !ours.contains(group));
    Named::Claim(Claim { pid: leader, group, session: session.map(str::to_owned), ..Claim::default() })
}

fn shown(value: &Scalar<'_>) -> String {
    match value {
        Scalar::Nothing => "none".into(),
        Scalar::Bool(value) => value.to_string(),
        Scalar::Number(number) => number.to_string(),
        Scalar::Text(text) => format!("`{}`", text.chars().take(40).collect::<String>()),
        Scalar::Other => "a list or mapping".into(),
    }
}

/// Whether a claim is about something that was asked for.
pub(super) fn is_asked(claim: &Claim, question: &Question) -> bool {
    claim.pid.is_some_and(|pid| question.pids.contains(&pid))
        || claim.group.is_some_and(|group| question.pids.contains(&group))
        || claim.session.as_ref().is_some_and(|session| question.sessions.contains(session))
}

/// Notes the life of a job. What two entries say of one job is as alive as the more alive of both.
pub(super) fn note(book: &mut LedgerBook, job: &str, life: JobLife) {
    let rank = |life: &JobLife| match life {
        JobLife::Active(_) => 2,
        JobLife::Unknown(_) => 1,
        JobLife::Terminal(_) => 0,
    };
    match book.jobs.get(job) {
        Some(known) if rank(known) >= rank(&life) => {}
        _ => {
            book.jobs.insert(job.to_owned(), life);
        }
    }
}

/// The life of a job of which something could not be understood: it may have ended, and it may not.
pub(super) fn doubted(life: JobLife, doubt: &str) -> JobLife {
    match life {
        JobLife::Terminal(word) => JobLife::Unknown(format!("{word}, but {doubt}")),
        other => other,
    }
}
