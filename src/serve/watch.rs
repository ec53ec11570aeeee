//! Watching the objects of a kind: what is stored, compared with what was told, at each change.

use super::select::Selector;
use super::stream::{self, line};
use super::{Api, ApiError, objects};
use crate::controller::Veil;
use crate::model::{Kind, Uid};
use axum::body::Bytes;
use axum::response::Response;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tokio::sync::watch::Receiver;

/// How often the store is asked for changes that other programs made: those ring no bell. A cheap question.
const STRANGERS: Duration = Duration::from_secs(1);

/// What was told of one object.
struct Told {
    uid: Uid,
    resource_version: u64,
    /// None: it was not selected.
    object: Option<Value>,
}

type Known = BTreeMap<String, Told>;

/// `ADDED` for all that is there, then each change.
pub(super) fn objects(api: Arc<Api>, kind: Kind, selector: Selector) -> Response {
    let (sender, body) = stream::body();
    tokio::spawn(async move {
        let mut bell = Bell::new(&api);
        let mut known = Known::new();
        while bell.wait(&api, &sender).await {
            let task = {
                let (api, selector) = (Arc::clone(&api), selector.clone());
                tokio::task::spawn_blocking(move || {
                    let lines = differences(&api, kind, &selector, &mut known);
                    (lines, known)
                })
            };
            let Ok((lines, after)) = task.await else { return };
            known = after;
            if !send(&sender, lines).await {
                return;
            }
        }
    });
    stream::lines(body)
}

/// Sends all of it, or the error, which ends the watch. False: it is at its end.
pub(super) async fn send(sender: &Sender<Bytes>, lines: Result<Vec<Value>, ApiError>) -> bool {
    match lines {
        Ok(lines) => {
            for value in &lines {
                if sender.send(line(value)).await.is_err() {
                    return false;
                }
            }
            true
        }
        Err(error) => {
            // Nothing more can be told to a client that has gone.
            let _ = sender.send(line(&json!({"type": "ERROR", "object": error.to_json()}))).await;
            false
        }
    }
}

fn differences(api: &Api, kind: Kind, selector: &Selector, known: &mut Known) -> Result<Vec<Value>, ApiError> {
    let store = &api.handle.store;
    let pass = api.last_pass();
    let veil = Veil::new(store);
    let mut before = std::mem::take(known);
    let mut lines = Vec::new();
    let mut tell = |r#type: &str, object: &Value| lines.push(json!({"type": r#type, "object": object}));
    for version in store.versions(kind)? {
        let mut told = before.remove(&version.name);
        if let Some(same) =
            told.take_if(|told| (&told.uid, told.resource_version) == (&version.uid, version.resource_version))
        {
            known.insert(version.name, same);
            continue;
        }
        // None: it went between the two questions; the next round tells.
        let Some(stored) = store.get(kind, &version.name)? else {
            before.extend(told.map(|told| (version.name, told)));
            continue;
        };
        let (uid, resource_version) = (stored.uid(), stored.meta().resource_version);
        let object = match selector.matches(&stored) {
            true => Some(objects::shown(stored, &pass, &veil)?),
            false => None,
        };
        let earlier = told.and_then(|told| told.object.map(|object| (told.uid, object)));
        match (earlier, &object) {
            (Some((of, _)), Some(object)) if of == uid => tell("MODIFIED", object),
            (Some((_, gone)), Some(object)) => {
                tell("DELETED", &gone);
                tell("ADDED", object);
            }
            (Some((_, gone)), None) => tell("DELETED", &gone),
            (None, Some(object)) => tell("ADDED", object),
            (None, None) => {}
        }
        known.insert(version.name, Told { uid, resource_version, object });
    }
    for gone in before.into_values().filter_map(|told| told.object) {
        tell("DELETED", &gone);
    }
    Ok(lines)
}

/// Says when to look again.
pub(super) struct Bell {
    revisions: Receiver<u64>,
    stopping: Receiver<bool>,
    mark: Option<i64>,
}

impl Bell {
    pub(super) fn new(api: &Api) -> Bell {
        Bell { revisions: api.handle.store.subscribe(), stopping: api.stopping.clone(), mark: None }
    }

    /// Waits until something has changed since it was last called; the first time, not at all. False: the client is gone, or
    /// the controller ends.
    pub(super) async fn wait(&mut self, api: &Api, sender: &Sender<Bytes>) -> bool {
        loop {
            if *self.stopping.borrow() || sender.is_closed() {
                return false;
            }
            // An error is told by the look that follows.
            let mark = api.handle.store.change_mark().ok();
            if mark.is_none() || mark != self.mark {
                self.mark = mark;
                return true;
            }
            tokio::select! {
                told = self.revisions.changed() => if told.is_err() { return false },
                _ = self.stopping.changed() => return false,
                () = sender.closed() => return false,
                () = tokio::time::sleep(STRANGERS) => {}
            }
        }
    }
}
