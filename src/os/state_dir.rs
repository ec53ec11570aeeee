//! Where things are in a state directory. Paths only; nothing here touches the disk.

use crate::model::{JobUid, WorkloadUid};
use std::path::{Path, PathBuf};

/// The state directory of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir(pub PathBuf);

impl StateDir {
    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// The SQLite file.
    pub fn store_file(&self) -> PathBuf {
        self.0.join("tenure.db")
    }

    /// The file whose lock a living controller holds; shims watch it.
    pub fn lock_file(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// The API's socket.
    pub fn socket(&self) -> PathBuf {
        self.0.join("tenure.sock")
    }

    /// The directory of all run directories.
    pub fn workloads(&self) -> PathBuf {
        self.0.join("workloads")
    }

    /// The run directory of a workload: there from its start to its clean-up.
    pub fn workload(&self, uid: &WorkloadUid) -> PathBuf {
        self.workloads().join(uid.as_str())
    }

    /// What the command line of every shim of this instance has in it, and nobody else's.
    pub fn shim_words(&self) -> String {
        format!(" shim {}/", self.workloads().display())
    }

    /// The register of what was let go on purpose.
    pub fn let_go(&self) -> PathBuf {
        self.0.join("let-go")
    }

    /// The directory of all log directories.
    pub fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    /// The transcripts of a workload that has ended: what `Clean` keeps of its run directory.
    pub fn log(&self, uid: &WorkloadUid) -> PathBuf {
        self.logs().join(uid.as_str())
    }

    /// Where the transcripts of a workload are now: the run directory while there is one, else the log directory.
    pub fn transcripts(&self, uid: &WorkloadUid) -> PathBuf {
        let run = self.workload(uid);
        if run.is_dir() { run } else { self.log(uid) }
    }

    /// The directory of a job: there as long as the job is.
    pub fn job(&self, uid: &JobUid) -> PathBuf {
        self.0.join("jobs").join(uid.as_str())
    }

    /// Where a job's scripts and agents run, unless it says otherwise.
    pub fn workspace(&self, uid: &JobUid) -> PathBuf {
        self.job(uid).join("workspace")
    }
}
