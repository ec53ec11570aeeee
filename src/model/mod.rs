//! What things are: ids, objects, stages, verdicts, and what was read of the world. Pure data.
//!
//! Everything here is a value: it can be compared, printed, and serialised. Nothing here looks at a clock, a file, or a
//! process. It imports from no other module of the crate.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod class;
mod event;
mod foreign;
mod ids;
mod job;
mod object;
mod problem;
mod run;
mod seen;
mod snapshot;
mod time;
mod values;
mod workload;

pub use class::*;
pub use event::*;
pub use foreign::*;
pub use ids::*;
pub use job::*;
pub use object::*;
pub use problem::*;
pub use run::*;
pub use seen::*;
pub use snapshot::*;
pub use time::*;
pub use values::*;
pub use workload::*;

/// What a look at one part of the world gave. *Unknown is not missing*: nothing is destroyed on an `Unknown`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading<T> {
    /// The look was complete; this is what there was.
    Known(T),
    /// The look failed or was partial; why, in words.
    Unknown(String),
}

impl<T> Reading<T> {
    /// The value, if it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Reading::Known(value) => Some(value),
            Reading::Unknown(_) => None,
        }
    }

    /// The same reading of a part of the value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Reading<U> {
        match self {
            Reading::Known(value) => Reading::Known(f(value)),
            Reading::Unknown(why) => Reading::Unknown(why),
        }
    }
}
