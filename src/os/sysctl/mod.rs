//! macOS and FreeBSD: `sysctl`, libproc, kqueue. The same names as in `linux`, and these differences in what is promised:
//!
//! - **Signals** ([`ProcRef`]): there is no pidfd. The start time is checked, and the signal sent at once, by number. A process that
//!   ends, is collected, and whose pid is given out again between these two calls would hand the signal to a stranger; both
//!   systems give pids out in turn or at random over the whole range, so that it would take some 100,000 forks in a microsecond.
//! - **cgroups** ([`Cgroups`]): there are none. Environment and shim are the marks, SIGKILL to each process until a look finds none
//!   the way to end them.
//! - **The process table** ([`ProcessTable`]): there is no generation number as `/proc` has. All processes are listed at each pass;
//!   arguments and environment are read of new ones, and again like on Linux.
//! - **macOS has no subreaper** ([`become_subreaper`]). What loses its parent becomes launchd's child: of a double fork only the
//!   environment tells whose it is, its end is nobody's news, and a shim may leave before it. Nor can the environment of
//!   every process be read there: programs of Apple's own (`/bin/sh`, `/bin/sleep`) hide it, from root as well. A double fork
//!   of such a program that had exec'ed it before the first look is not found. What was seen before it exec'ed keeps its mark.
//! - **Other users' processes** tell an ordinary user nothing but their parent on macOS, and are not listed there.
//! - **A census** ([`HostTable`]): everything is listed and read at each pass. There is no proportional memory, and nobody
//!   can tell whether a process has a client ([`has_client`]): no orphan is ended.
//! - **Start times** are microseconds: since boot on FreeBSD, since 1970 on macOS (as the clock was then; setting it changes nothing).
//!
//! `macos` and `freebsd` are the siblings within; the rest is common.

mod call;
mod cgroup;
mod children;
mod client;
mod connector;
mod ended;
#[cfg(target_os = "freebsd")]
mod freebsd;
mod host;
mod limits;
pub(super) mod lock;
#[cfg(target_os = "macos")]
mod macos;
mod particulars;
mod process;
mod row;
mod table;
mod waiter;

#[cfg(target_os = "freebsd")]
use freebsd as system;
#[cfg(target_os = "macos")]
use macos as system;

pub use cgroup::{
    CgroupMembers, Cgroups, empty_cgroup, kill_cgroup, leave_cgroup, leave_other_instances, members_of_cgroup,
    remove_cgroup,
};
pub use children::peak_rss_of_children;
pub use client::{has_client, processor_time};
pub use connector::Connector;
pub use ended::ended;
pub use host::{HostTable, proportional_bytes};
pub(in crate::os) use limits::give_back_open_files;
pub use limits::raise_open_files;
pub use particulars::particulars;
pub use process::{ProcRef, boot_id, effective_uid, self_and_ancestors, self_id, start_time};
pub use system::become_subreaper;
pub use table::{Pass, Process, ProcessTable};
pub use waiter::{Waiter, ring};
