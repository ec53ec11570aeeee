//! There are no cgroups here: types of which there is no value, so that their methods can not be called.

use crate::model::{InstanceId, Pid, WorkloadUid};
use crate::os::OsError;
use std::collections::{BTreeMap, BTreeSet};
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

    /// Stops every member of a workload's cgroup where it is, or lets them go on.
    pub fn freeze(&self, _uid: &WorkloadUid, _frozen: bool) -> Result<bool, OsError> {
        match *self {}
    }

    /// Moves a process out of its workload's cgroup.
    pub fn let_go(&self, _pid: Pid) -> Result<(), OsError> {
        match *self {}
    }

    /// Removes this instance's base.
    pub fn remove_base(&self) {
        match *self {}
    }
}

/// The cgroups of this instance, held open: a type without a value too.
#[derive(Debug)]
pub enum CgroupMembers {}

impl CgroupMembers {
    /// Holds the cgroups, of which there are none.
    pub fn new(cgroups: Cgroups) -> CgroupMembers {
        match cgroups {}
    }

    /// Where the cgroups are.
    pub fn cgroups(&self) -> &Cgroups {
        match *self {}
    }

    /// Every workload that has a cgroup, with its members.
    pub fn read(&mut self) -> Result<BTreeMap<WorkloadUid, Vec<Pid>>, OsError> {
        match *self {}
    }
}

/// Moves this process out of the cgroup of a workload: it is in none.
pub fn leave_cgroup(_of_workload: &Path) -> Result<(), OsError> {
    Ok(())
}

/// Moves this process out of the cgroup of another instance's workload: it is in none.
pub fn leave_other_instances(_of_workload: &Path) {}

/// Moves whoever is left in the cgroup of a workload to what was let go: nobody is.
pub fn empty_cgroup(_of_workload: &Path) -> Result<(), OsError> {
    Ok(())
}

/// Ends every member of the cgroup of a workload: there is none.
pub fn kill_cgroup(_of_workload: &Path) -> Result<bool, OsError> {
    Ok(false)
}

/// The living members of the cgroup of a workload: there are none.
pub fn members_of_cgroup(_of_workload: &Path) -> Result<BTreeSet<Pid>, OsError> {
    Ok(BTreeSet::new())
}

/// Removes the cgroup of a workload: it is not there.
pub fn remove_cgroup(_of_workload: &Path) -> Result<bool, OsError> {
    Ok(true)
}
