//! There are no cgroups here: a type of which there is no value, so that nothing below can be called.

use crate::model::{InstanceId, Pid, WorkloadUid};
use crate::os::OsError;
use std::path::{Path, PathBuf};

/// Where this instance may make cgroups: nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cgroups {}

impl Cgroups {
    /// `None`: there are none.
    pub fn detect(_instance: &InstanceId) -> Option<Cgroups> {
        None
    }

    /// This instance's directory.
    pub fn base(&self) -> &Path {
        match *self {}
    }

    /// The directory of a workload.
    pub fn path(&self, _uid: &WorkloadUid) -> PathBuf {
        match *self {}
    }

    /// The same, as the system names it.
    pub fn hierarchy_path(&self, _uid: &WorkloadUid) -> String {
        match *self {}
    }

    /// Makes the cgroup of a workload.
    pub fn create(&self, _uid: &WorkloadUid, _memory_max: Option<u64>) -> Result<PathBuf, OsError> {
        match *self {}
    }

    /// The living members of a workload's cgroup.
    pub fn procs(&self, _uid: &WorkloadUid) -> Result<Option<Vec<Pid>>, OsError> {
        match *self {}
    }

    /// Ends every member at once.
    pub fn kill(&self, _uid: &WorkloadUid) -> Result<bool, OsError> {
        match *self {}
    }

    /// Removes the cgroup of a workload.
    pub fn remove(&self, _uid: &WorkloadUid) -> Result<bool, OsError> {
        match *self {}
    }

    /// The workloads that have a cgroup.
    pub fn list(&self) -> Result<Vec<WorkloadUid>, OsError> {
        match *self {}
    }

    /// Removes this instance's base.
    pub fn remove_base(&self) {
        match *self {}
    }
}
