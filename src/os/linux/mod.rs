//! Linux: `/proc`, pidfds, cgroup v2.

mod cgroup;
mod ended;
mod listing;
mod members;
mod process;
mod read;
mod stat;
mod table;
mod turns;

pub use cgroup::Cgroups;
pub use ended::ended;
pub use members::CgroupMembers;
pub use process::{
    ProcRef, boot_id, clock_ticks_per_second, effective_uid, page_size, self_and_ancestors, self_id, start_time,
};
pub use table::{Pass, Process, ProcessTable};
