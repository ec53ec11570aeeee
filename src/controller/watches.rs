//! Pidfds, and where it is allowed the process connector, that ring the bell when a process of ours ends. Only hints: a lost
//! one costs latency, not correctness.

use crate::model::{Observed, ProcId, Reading, Snapshot};
use crate::os::{self, Connector, Heard, ProcRef};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The part of all descriptors that pidfds may take: what is beyond is found by the look that others cause.
const PART: u64 = 4;

/// What is listened to.
pub(super) struct Watches {
    bell: Arc<Notify>,
    tasks: BTreeMap<ProcId, JoinHandle<()>>,
    /// How many pidfds are held at most.
    most: usize,
    connector: Listening,
    /// A shim has ended since this was last asked.
    shim_ended: Arc<AtomicBool>,
}

/// How it stands with the process connector.
enum Listening {
    /// Nothing is ours: it is not subscribed to, so the kernel makes no events for us.
    Not,
    To {
        connector: Arc<Connector>,
        heard: Heard,
        task: JoinHandle<()>,
    },
    /// Not for us.
    Refused,
}

impl Watches {
    /// `files`: how many descriptors this process may have.
    pub(super) fn new(bell: Arc<Notify>, files: u64) -> Watches {
        Watches {
            bell,
            tasks: BTreeMap::new(),
            most: usize::try_from(files / PART).unwrap_or(usize::MAX),
            connector: Listening::Not,
            shim_ended: Arc::default(),
        }
    }

    /// Whether a shim has ended since the last call: what it was the parent of may have lost the way to us.
    pub(super) fn take_shim_ended(&self) -> bool {
        self.shim_ended.swap(false, Ordering::SeqCst)
    }

    /// Waits for the end of each shim and main process, and of every process of what is being stopped. A fork of these last
    /// rings too: there is one more to end.
    pub(super) fn update(&mut self, desired: &Snapshot, observed: &Observed) {
        let Reading::Known(trees) = &observed.workloads else { return };
        let mut wanted: BTreeMap<ProcId, bool> = BTreeMap::new();
        let mut heard = Heard::default();
        for (uid, tree) in trees {
            let row = desired.workloads.get(uid);
            let stopping = row.is_none_or(|row| row.status.stage.is_some());
            let main = tree.shim.as_ref().and_then(|shim| shim.child);
            for process in &tree.processes {
                if stopping || process.is_shim || Some(process.id) == main {
                    wanted.insert(process.id, process.is_shim);
                    heard.ends.insert(process.id.pid);
                }
                if stopping && !process.is_shim {
                    heard.forks.insert(process.id.pid);
                }
            }
        }
        self.connector.update(heard, &self.bell);
        self.tasks.retain(|id, task| {
            let keep = wanted.contains_key(id) && !task.is_finished();
            if !keep {
                task.abort();
            }
            keep
        });
        for (id, is_shim) in wanted {
            if self.tasks.len() >= self.most {
                break;
            }
            let told = is_shim.then(|| self.shim_ended.clone());
            if !self.tasks.contains_key(&id)
                && let Some(task) = watch(id, self.bell.clone(), told)
            {
                self.tasks.insert(id, task);
            }
        }
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        for task in self.tasks.values() {
            task.abort();
        }
    }
}

impl Listening {
    fn update(&mut self, wanted: Heard, bell: &Arc<Notify>) {
        match self {
            Listening::Refused => {}
            _ if wanted == Heard::default() => *self = Listening::Not,
            Listening::To { heard, .. } if *heard == wanted => {}
            Listening::To { connector, heard, .. } => match connector.hear(&wanted) {
                Ok(()) => *heard = wanted,
                Err(error) => self.refused(&error),
            },
            Listening::Not => match listen(&wanted, bell) {
                Ok((connector, task)) => *self = Listening::To { connector, heard: wanted, task },
                Err(error) => self.refused(&error),
            },
        }
    }

    fn refused(&mut self, error: &io::Error) {
        tracing::debug!(%error, "no process connector; pidfds and the regular looks have to do");
        *self = Listening::Refused;
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Listening::To { task, .. } = self {
            task.abort();
        }
    }
}

/// Subscribes, and rings the bell with each event that gets through.
fn listen(heard: &Heard, bell: &Arc<Notify>) -> io::Result<(Arc<Connector>, JoinHandle<()>)> {
    let connector = Arc::new(Connector::open()?);
    connector.hear(heard)?;
    let (listening, bell) = (connector.clone(), bell.clone());
    let task = tokio::spawn(async move {
        while listening.rung().await.is_ok() {
            bell.notify_one();
        }
    });
    Ok((connector, task))
}

/// A task that rings the bell when the process ends, and says so to `told`; none, with the bell rung, if it has ended
/// already.
fn watch(id: ProcId, bell: Arc<Notify>, told: Option<Arc<AtomicBool>>) -> Option<JoinHandle<()>> {
    let ring = move || {
        if let Some(told) = &told {
            told.store(true, Ordering::SeqCst);
        }
        bell.notify_one();
    };
    match ProcRef::open(id) {
        Ok(Some(process)) => Some(tokio::spawn(async move {
            if os::ended(process).await.is_ok() {
                ring();
            }
        })),
        Ok(None) => {
            ring();
            None
        }
        Err(error) => {
            tracing::debug!(process = %id, %error, "no pidfd; the next look will tell");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BootId, Breadth, Marks, SeenProcess, SeenWorkload, Time, WorkloadUid};
    use crate::os::testing::{KillOnDrop, id_of};
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    fn shell(script: &str) -> (Child, KillOnDrop) {
        let child = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
        let held = KillOnDrop(id_of(&child));
        (child, held)
    }

    fn observed(processes: &[(ProcId, bool)]) -> Observed {
        let seen = |(id, is_shim): &(ProcId, bool)| SeenProcess {
            id: *id,
            parent: None,
            user: 0,
            state: 'S',
            command: String::new(),
            rss_bytes: 0,
            is_shim: *is_shim,
            marks: Marks::default(),
        };
        let tree = SeenWorkload { processes: processes.iter().map(seen).collect(), ..SeenWorkload::default() };
        let workloads = if processes.is_empty() { BTreeMap::new() } else { [(WorkloadUid::from("w"), tree)].into() };
        Observed {
            look: 1,
            as_of: Time(0),
            breadth: Breadth::Host,
            boot_id: BootId::default(),
            workloads: Reading::Known(workloads),
        }
    }

    async fn rings(bell: &Notify) {
        tokio::time::timeout(Duration::from_secs(10), bell.notified()).await.expect("nobody rang");
    }

    #[tokio::test]
    async fn an_end_rings_by_its_pidfd_and_by_the_connector_and_that_of_a_shim_is_remembered() {
        for files in [1024, 0] {
            let bell = Arc::new(Notify::new());
            let mut watches = Watches::new(bell.clone(), files);
            let ((mut shim, shim_held), (mut member, member_held)) = (shell("read line"), shell("read line"));
            let all = observed(&[(shim_held.0, true), (member_held.0, false)]);
            watches.update(&Snapshot::default(), &all);
            let by_connector = matches!(watches.connector, Listening::To { .. });
            // Without descriptors for pidfds, the connector has to do.
            if files == 0 && !by_connector {
                continue;
            }
            assert_eq!(watches.tasks.len(), if files == 0 { 0 } else { 2 });
            drop(member_held);
            rings(&bell).await;
            assert!(!watches.take_shim_ended());
            drop(shim_held);
            member.wait().unwrap();
            shim.wait().unwrap();
            if files > 0 {
                let ended = async {
                    while !watches.take_shim_ended() {
                        bell.notified().await;
                    }
                };
                tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the shim's end was not told");
                assert!(!watches.take_shim_ended(), "told twice");
            } else {
                rings(&bell).await;
            }
            watches.update(&Snapshot::default(), &observed(&[]));
            assert!(watches.tasks.is_empty() && !matches!(watches.connector, Listening::To { .. }));
        }
    }
}
