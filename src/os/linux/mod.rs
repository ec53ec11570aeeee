//! Linux: `/proc`, pidfds, cgroup v2.

mod cgroup;
mod children;
mod client;
mod connector;
mod ended;
mod host;
mod limits;
mod listing;
pub(super) mod lock;
mod members;
mod particulars;
mod process;
mod read;
mod stat;
mod table;
mod turns;
mod waiter;

pub use cgroup::{
    Cgroups, empty_cgroup, kill_cgroup, leave_cgroup, leave_other_instances, members_of_cgroup, remove_cgroup,
};
pub use children::{become_subreaper, peak_rss_of_children};
pub use client::{has_client, processor_time};
pub use connector::Connector;
pub use ended::ended;
pub use host::{HostTable, proportional_bytes};
pub(in crate::os) use limits::give_back_open_files;
pub use limits::raise_open_files;
pub use members::CgroupMembers;
pub use particulars::particulars;
pub use process::{ProcRef, boot_id, effective_uid, self_and_ancestors, self_id, start_time};
pub use table::{Pass, Process, ProcessTable};
pub use waiter::{Waiter, ring};
