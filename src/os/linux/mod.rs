//! Linux: `/proc`, pidfds, cgroup v2.

mod cgroup;
mod ended;
mod particulars;
mod process;
mod stat;
mod table;

pub use cgroup::{Cgroups, empty_cgroup, leave_cgroup};
pub use ended::ended;
pub use particulars::{Particulars, particulars};
pub use process::{
    ProcRef, boot_id, clock_ticks_per_second, effective_uid, page_size, self_and_ancestors, self_id, start_time,
};
pub use table::{Pass, Process, ProcessTable};
