//! Hints that a watched directory changed. A lost one costs latency: every resync reads the directories anyway, and renews
//! the watches.

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// How long a change may go on before it is read: editors write in several steps.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// How often lost watches are made again.
const RENEW: Duration = Duration::from_secs(30);

/// Rings `dirty` some time after something changed in one of `dirs`. Ends when it is dropped.
pub(super) fn watch_directories(dirs: &[PathBuf], dirty: Arc<Notify>) -> Watching {
    let raw = Arc::new(Notify::new());
    let dirs = dirs.to_vec();
    let task = tokio::spawn(async move {
        let mut watcher = watcher(&dirs, &raw);
        loop {
            let changed = tokio::time::timeout(RENEW, raw.notified()).await.is_ok();
            if changed {
                tokio::time::sleep(DEBOUNCE).await;
            } else {
                watcher = self::watcher(&dirs, &raw);
            }
            // A directory that was made meanwhile has flows in it that no watch has seen.
            if changed && let Some(watcher) = &mut watcher {
                watch_all(watcher, &dirs);
            }
            dirty.notify_one();
        }
    });
    Watching(task)
}

/// The task that watches.
pub(super) struct Watching(JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn watcher(dirs: &[PathBuf], raw: &Arc<Notify>) -> Option<RecommendedWatcher> {
    let raw = raw.clone();
    let made = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if event.as_ref().map_or(true, is_change) {
            raw.notify_one();
        }
    });
    match made {
        Ok(mut watcher) => {
            watch_all(&mut watcher, dirs);
            Some(watcher)
        }
        Err(error) => {
            tracing::warn!(%error, "the manifest directories cannot be watched; each resync reads them");
            None
        }
    }
}

/// Each directory, its parent (for when it is removed and made again), and the directories in it.
fn watch_all(watcher: &mut RecommendedWatcher, dirs: &[PathBuf]) {
    for dir in dirs {
        let inner = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let parent = dir.canonicalize().ok().and_then(|dir| dir.parent().map(PathBuf::from));
        for path in [dir.clone()].into_iter().chain(parent).chain(inner.filter(|path| path.is_dir())) {
            if let Err(error) = watcher.watch(&path, RecursiveMode::NonRecursive) {
                tracing::debug!(path = %path.display(), %error, "not watched; each resync reads it");
            }
        }
    }
}

/// Reading our own files makes events too: those are not changes.
fn is_change(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => true,
    }
}
