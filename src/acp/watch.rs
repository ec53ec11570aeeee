//! Wakes whoever follows the `stdout` of a run directory when it grows.
//!
//! A hint, never the truth: a wake may come for nothing, and may not come at all (the system limits watches), so followers look
//! now and then by themselves. One watcher serves the whole process: inotify instances are scarce (128 a user, by default).

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use tokio::sync::Notify;

type Sleepers = Arc<Mutex<HashMap<PathBuf, Vec<Arc<Notify>>>>>;

struct Shared {
    // Two locks: the watcher's own thread takes the first while a caller, who waits for that thread, holds the second.
    sleepers: Sleepers,
    watcher: Mutex<Option<RecommendedWatcher>>,
}

static SHARED: LazyLock<Shared> = LazyLock::new(|| {
    let sleepers = Sleepers::default();
    let waking = Arc::clone(&sleepers);
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
        Ok(event) if event.kind.is_access() => {}
        Ok(event) if event.need_rescan() => wake_all(&waking),
        Ok(event) => {
            for path in event.paths.iter().filter(|path| path.file_name().is_some_and(|name| name == "stdout")) {
                let sleepers = waking.lock().unwrap_or_else(PoisonError::into_inner);
                let here = path.parent().and_then(|dir| sleepers.get(dir));
                here.into_iter().flatten().for_each(|sleeper| sleeper.notify_one());
            }
        }
        Err(_) => wake_all(&waking),
    });
    if let Err(error) = &watcher {
        tracing::warn!(%error, "files can not be watched; looking at them often instead");
    }
    Shared { sleepers, watcher: Mutex::new(watcher.ok()) }
});

fn wake_all(sleepers: &Sleepers) {
    let sleepers = sleepers.lock().unwrap_or_else(PoisonError::into_inner);
    sleepers.values().flatten().for_each(|sleeper| sleeper.notify_one());
}

/// A watch on the `stdout` of one run directory.
pub(crate) struct Watch {
    dir: PathBuf,
    sleeper: Arc<Notify>,
    /// Whether wakes may be expected.
    pub(crate) works: bool,
}

impl Watch {
    /// Watches from now on; the directory is there.
    pub(crate) fn new(dir: &Path) -> Watch {
        let sleeper = Arc::new(Notify::new());
        let mut sleepers = SHARED.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        sleepers.entry(dir.to_owned()).or_default().push(Arc::clone(&sleeper));
        drop(sleepers);
        let mut watcher = SHARED.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        let watched = watcher.as_mut().map(|watcher| watcher.watch(dir, RecursiveMode::NonRecursive));
        if let Some(Err(error)) = &watched {
            tracing::warn!(%error, dir = %dir.display(), "the run directory can not be watched; looking often instead");
        }
        Watch { dir: dir.to_owned(), sleeper, works: matches!(watched, Some(Ok(()))) }
    }

    /// Returns when `stdout` may have grown.
    pub(crate) async fn woken(&self) {
        self.sleeper.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The watcher's lock first: nobody may begin to watch the same directory between the two halves.
        let mut watcher = SHARED.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sleepers = SHARED.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(here) = sleepers.get_mut(&self.dir) else { return };
        here.retain(|sleeper| !Arc::ptr_eq(sleeper, &self.sleeper));
        if !here.is_empty() {
            return;
        }
        sleepers.remove(&self.dir);
        drop(sleepers);
        if let Some(watcher) = watcher.as_mut() {
            // It fails when the directory is gone, and so is the watch then.
            let _ = watcher.unwatch(&self.dir);
        }
    }
}
