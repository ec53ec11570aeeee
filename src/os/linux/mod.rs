//! Linux: `/proc`, pidfds, cgroup v2.

mod cgroup;
mod children;
mod ended;
pub(super) mod lock;
mod particulars;
mod process;
mod stat;
mod table;
mod waiter;

pub use cgroup::{Cgroups, empty_cgroup, leave_cgroup};
pub use children::{become_subreaper, peak_rss_of_children};
pub use ended::ended;
pub use particulars::{Particulars, particulars};
pub use process::{ProcRef, boot_id, effective_uid, self_and_ancestors, self_id, start_time};
pub use table::{Pass, Process, ProcessTable};
pub use waiter::Waiter;
