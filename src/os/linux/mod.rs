//! Linux: `/proc`, pidfds, cgroup v2.

mod cgroup;
mod connector;
mod ended;
mod limits;
mod listing;
mod members;
mod process;
mod read;
mod stat;
mod table;
mod turns;

pub use cgroup::Cgroups;
pub use connector::{Connector, Heard};
pub use ended::ended;
pub(in crate::os) use limits::give_back_open_files;
pub use limits::raise_open_files;
pub use members::CgroupMembers;
pub use process::{
    ProcRef, boot_id, clock_ticks_per_second, effective_uid, page_size, self_and_ancestors, self_id, start_time,
};
pub use table::{Pass, Process, ProcessTable};
