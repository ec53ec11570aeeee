//! Events: a list of them, or as they come.

use super::select::is_on;
use super::watch::{self, Bell};
use super::{Api, ApiError, objects, stream};
use crate::controller::Veil;
use crate::model::{Event, Kind};
use crate::store::{EventFilter, Store, StoreError};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// How many are given where the query does not say.
const LIMIT: usize = 1000;

/// The query.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct EventQuery {
    after: Option<u64>,
    kind: Option<String>,
    name: Option<String>,
    limit: Option<usize>,
    watch: String,
}

pub(super) async fn list(
    State(api): State<Arc<Api>>,
    query: Result<Query<EventQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query?;
    let kind = query
        .kind
        .as_deref()
        .map(|text| Kind::parse(text).ok_or_else(|| ApiError::malformed(format!("there is no kind `{text}`"))));
    let filter = EventFilter { kind: kind.transpose()?, name: query.name, newest: false };
    if is_on(&query.watch) {
        return Ok(follow(api, query.after.unwrap_or(0), filter));
    }
    // Who does not say where to begin wants the latest ones.
    let filter = EventFilter { newest: query.after.is_none(), ..filter };
    let (after, limit) = (query.after.unwrap_or(0), query.limit.unwrap_or(LIMIT));
    let list = tokio::task::spawn_blocking(move || -> Result<Value, StoreError> {
        let store = &api.handle.store;
        let revision = store.revision()?;
        let events = masked(store, store.events(after, limit, &filter)?)?;
        Ok(objects::list_of(revision, events.iter().map(|event| json!(event)).collect()))
    });
    Ok(Json(list.await??).into_response())
}

/// Events as they may be shown.
fn masked(store: &Store, events: Vec<Event>) -> Result<Vec<Event>, StoreError> {
    let veil = Veil::new(store);
    events.into_iter().map(|event| veil.event(event)).collect()
}

/// All events after this one, then each as it comes.
fn follow(api: Arc<Api>, mut after: u64, filter: EventFilter) -> Response {
    let (sender, body) = stream::body();
    tokio::spawn(async move {
        let mut bell = Bell::new(&api);
        while bell.wait(&api, &sender).await {
            loop {
                let store = &api.handle.store;
                let found = store.events(after, LIMIT, &filter).and_then(|events| masked(store, events));
                let last = found.as_ref().ok().and_then(|events| events.last()).map(|event: &Event| event.id);
                let lines = found.map(|events| events.iter().map(|event| json!(event)).collect());
                if !watch::send(&sender, lines.map_err(ApiError::from)).await {
                    return;
                }
                match last {
                    Some(id) => after = id,
                    None => break,
                }
            }
        }
    });
    stream::lines(body)
}
