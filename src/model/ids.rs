//! Names that must not be mixed up, each a type of its own.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    };
}

text_id! {
    /// The id of one object of any kind: assigned by the store when the object is first written, never used again.
    Uid
}
text_id! {
    /// The uid of a job.
    JobUid
}
text_id! {
    /// The uid of a workload; also the name of its run directory and of its cgroup.
    WorkloadUid
}
text_id! {
    /// One controller with its state directory. Made once per state directory: 12 hexadecimal digits.
    InstanceId
}
text_id! {
    /// One boot of the host (on Linux `/proc/sys/kernel/random/boot_id`).
    BootId
}

/// A process id. Never 0 or below: those address groups, and a signal to one of them is a catastrophe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i32", into = "i32")]
pub struct Pid(i32);

impl Pid {
    /// A pid, if the number can be one.
    pub fn new(raw: i32) -> Option<Self> {
        (raw > 0).then_some(Self(raw))
    }

    /// The number.
    pub fn get(self) -> i32 {
        self.0
    }
}

impl TryFrom<i32> for Pid {
    type Error = String;
    fn try_from(raw: i32) -> Result<Self, String> {
        Self::new(raw).ok_or_else(|| format!("{raw} is not a process id"))
    }
}

impl From<Pid> for i32 {
    fn from(pid: Pid) -> i32 {
        pid.0
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// When a process started, in the system's own unit (Linux: clock ticks since boot, field 22 of `/proc/PID/stat`; FreeBSD:
/// microseconds since boot; macOS: microseconds since 1970). Only ever compared for equality with another of the same boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StartTime(pub u64);

/// One process, for as long as the host lives: a pid alone is not a name, it is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcId {
    /// The pid.
    pub pid: Pid,
    /// The start time that tells it from an earlier or later holder of the pid.
    pub start: StartTime,
}

impl fmt::Display for ProcId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.pid, self.start.0)
    }
}
