//! What should be: the store's active objects at one revision.

use crate::model::{AgentClass, Flow, Job, JobUid, PolicySpec, StepRun, Workload, WorkloadUid};
use std::collections::BTreeMap;

/// What should be, as of one revision of the store: all that is active, and the jobs that it refers to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// The revision.
    pub revision: u64,
    /// Jobs that are not terminal, and every other job that owns an active run or workload. An owner that is not here does
    /// not exist.
    pub jobs: BTreeMap<JobUid, Job>,
    /// All runs of the jobs that are not terminal, and every other run that is not final; by job, then (step, attempt).
    pub runs: BTreeMap<JobUid, Vec<StepRun>>,
    /// Workloads that are not stopped.
    pub workloads: BTreeMap<WorkloadUid, Workload>,
    /// By name.
    pub flows: BTreeMap<String, Flow>,
    /// By name.
    pub classes: BTreeMap<String, AgentClass>,
    /// The policy.
    pub policy: PolicySpec,
}
