//! Objects: list, create, read, replace, patch, delete.

use super::select::{ListQuery, Selector};
use super::{Api, ApiError, Reason, now, watch};
use crate::controller::{Pass, Veil};
use crate::model::{AnyObject, Event, EventType, Kind, SOURCE_ANNOTATION};
use crate::plan::Line;
use crate::store::{StoreError, Txn};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// How often a write that names no revision is tried again when another one came between.
const TRIES: usize = 8;

pub(super) type Body = Result<Bytes, BytesRejection>;

pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Path(plural): Path<String>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let kind = kind(&plural)?;
    let Query(query) = query?;
    let selector = query.selector()?;
    if query.watch() {
        return Ok(watch::objects(api, kind, selector));
    }
    let list = tokio::task::spawn_blocking(move || read_list(&api, kind, &selector)).await??;
    Ok(Json(list).into_response())
}

fn read_list(api: &Api, kind: Kind, selector: &Selector) -> Result<Value, ApiError> {
    let store = &api.handle.store;
    // Read before the rows: who watches from this revision on sees a change twice rather than never.
    let revision = store.revision()?;
    let objects = match &selector.name {
        Some(name) => store.get(kind, name)?.into_iter().collect(),
        None => store.list(kind)?,
    };
    let pass = api.last_pass();
    let selected = objects.into_iter().filter(|object| selector.matches(object));
    let veil = Veil::new(store);
    let items = selected.map(|object| shown(object, &pass, &veil)).collect::<Result<_, _>>()?;
    Ok(list_of(revision, items))
}

/// A list as it is sent.
pub(super) fn list_of(revision: u64, items: Vec<Value>) -> Value {
    json!({"kind": "List", "metadata": {"resourceVersion": revision}, "items": items})
}

pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Path(plural): Path<String>,
    body: Body,
) -> Result<Response, ApiError> {
    let kind = authored_kind(&plural)?;
    let body = parse(&body?)?;
    let object = authored(kind, body, None)?;
    if object.meta().resource_version != 0 {
        return Err(ApiError::conflict("a new object has no resourceVersion: leave it out, or use PUT"));
    }
    let name = object.meta().name.clone();
    let created = write(&api, Txn::new().put(object)).map_err(|error| match error {
        StoreError::Conflict { .. } => ApiError::conflict(format!("{kind} {name} exists already")),
        other => other.into(),
    })?;
    Ok((StatusCode::CREATED, Json(created)).into_response())
}

pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Path((plural, name)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let object = stored(&api, kind(&plural)?, &name)?;
    Ok(Json(shown(object, &api.last_pass(), &Veil::new(&api.handle.store))?))
}

pub(super) async fn replace(
    State(api): State<Arc<Api>>,
    Path((plural, name)): Path<(String, String)>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let kind = authored_kind(&plural)?;
    let body = parse(&body?)?;
    modify(&api, kind, &name, revision_in(&body)?, Txn::new, |before| authored(kind, body.clone(), Some(before)))
        .map(Json)
}

pub(super) async fn patch(
    State(api): State<Arc<Api>>,
    Path((plural, name)): Path<(String, String)>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let kind = authored_kind(&plural)?;
    let patch = parse(&body?)?;
    let expected = revision_in(&patch)?;
    let patched = |before: &AnyObject| {
        let mut whole = before.to_json();
        merge(&mut whole, patch.clone());
        authored(kind, whole, Some(before))
    };
    modify(&api, kind, &name, expected, Txn::new, patched).map(Json)
}

/// Deletes the row and nothing else: what it owned has lost its reason to live, and the next pass sees that.
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Path((plural, name)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let kind = authored_kind(&plural)?;
    let object = stored(&api, kind, &name)?;
    // Once it is gone, nobody knows what of it is sensitive.
    let masked = Veil::new(&api.handle.store).object(&object)?;
    let event = event(kind, &name, "Deleted", "it was deleted through the API");
    write(&api, Txn::new().delete(kind, name, 0).event(event))?;
    Ok(Json(masked))
}

/// Reads, changes, and writes an object; again when somebody else wrote meanwhile, unless the caller insists on a revision.
pub(super) fn modify(
    api: &Api,
    kind: Kind,
    name: &str,
    expected: Option<u64>,
    with: impl Fn() -> Txn,
    change: impl Fn(&AnyObject) -> Result<AnyObject, ApiError>,
) -> Result<Value, ApiError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let before = stored(api, kind, name)?;
        let found = before.meta().resource_version;
        if let Some(expected) = expected
            && expected != found
        {
            return Err(StoreError::Conflict { kind, name: name.to_owned(), expected, found }.into());
        }
        let mut after = change(&before)?;
        after.meta_mut().resource_version = found;
        match write(api, with().put(after)) {
            Err(error) if error.is_conflict() && expected.is_none() && tries < TRIES => {}
            result => return Ok(result?),
        }
    }
}

/// Commits, rings the bell, and gives the object that was put as it is stored now.
fn write(api: &Api, txn: Txn) -> Result<Value, StoreError> {
    let committed = api.handle.store.commit(txn, now())?;
    api.ring();
    committed.objects.first().map_or(Ok(Value::Null), |object| Veil::new(&api.handle.store).object(object))
}

pub(super) fn stored(api: &Api, kind: Kind, name: &str) -> Result<AnyObject, ApiError> {
    let found = api.handle.store.get(kind, name)?;
    found.ok_or_else(|| ApiError::not_found(format!("there is no {kind} {name}")))
}

/// An object as it is shown: a workload with what the last pass saw of it and, while it is being ended, with what that waits
/// for.
pub(super) fn shown(mut object: AnyObject, pass: &Pass, veil: &Veil<'_>) -> Result<Value, StoreError> {
    if let AnyObject::Workload(workload) = &mut object {
        let uid = workload.uid();
        let trees = pass.observed.as_ref().and_then(|observed| observed.workloads.known());
        let status = &mut workload.status;
        if let Some(seen) = trees.and_then(|trees| trees.get(&uid)) {
            status.pids = seen.processes.iter().map(|process| process.id.pid).collect();
            status.rss_bytes = Some(seen.rss_bytes());
            status.let_go.clone_from(&seen.let_go);
        }
        if let (Some(_), Some(Line::Held(why, _))) = (status.stage, pass.plan.lines.get(&uid)) {
            let message = status.message.take().unwrap_or_default();
            status.message = Some(format!("{message} ({why})").trim_start().to_owned());
        }
    }
    veil.object(&object)
}

/// An event of a person's request.
pub(super) fn event(kind: Kind, name: &str, reason: &str, message: &str) -> Event {
    Event {
        id: 0,
        time: now(),
        kind,
        name: name.to_owned(),
        r#type: EventType::Normal,
        reason: reason.to_owned(),
        message: message.to_owned(),
        details: Value::Null,
    }
}

pub(super) fn kind(plural: &str) -> Result<Kind, ApiError> {
    Kind::ALL
        .into_iter()
        .find(|kind| kind.plural() == plural)
        .ok_or_else(|| ApiError::not_found(format!("there is no kind `{plural}`: see `jobs`, `flows`, `workloads`, …")))
}

fn authored_kind(plural: &str) -> Result<Kind, ApiError> {
    let kind = kind(plural)?;
    if kind.is_authored() {
        return Ok(kind);
    }
    let message = format!("a {kind} is the controller's: change the job that it belongs to");
    Err(ApiError::new(Reason::MethodNotAllowed, message))
}

pub(super) fn parse(body: &Bytes) -> Result<Value, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::malformed(format!("the body is not JSON: {error}")))
}

/// The revision that the author of a body had read, if it says one.
fn revision_in(body: &Value) -> Result<Option<u64>, ApiError> {
    match &body["metadata"]["resourceVersion"] {
        Value::Null => Ok(None),
        number => match number.as_u64() {
            Some(0) => Ok(None),
            Some(revision) => Ok(Some(revision)),
            None => Err(ApiError::invalid(format!("metadata.resourceVersion is a number, not {number}"))),
        },
    }
}

/// What a person wrote, as the object that it makes of the stored one: status, and the metadata that is not theirs, stay.
fn authored(kind: Kind, body: Value, before: Option<&AnyObject>) -> Result<AnyObject, ApiError> {
    let Value::Object(mut body) = body else {
        return Err(ApiError::invalid("an object is a mapping with `metadata` and `spec`"));
    };
    check_header(kind, &body)?;
    let mut metadata = match body.remove("metadata") {
        Some(Value::Object(metadata)) => metadata,
        _ => return Err(ApiError::invalid("the object has no `metadata`")),
    };
    for field in ["uid", "generation", "creationTimestamp", "deletionTimestamp"] {
        metadata.remove(field);
    }
    let mut whole = Map::new();
    whole.insert("metadata".to_owned(), Value::Object(metadata));
    whole.extend(body.remove("spec").map(|spec| ("spec".to_owned(), spec)));
    if let Some(status) = before.and_then(|before| before.to_json().get("status").cloned()) {
        whole.insert("status".to_owned(), status);
    }
    let mut object = AnyObject::from_json(kind, Value::Object(whole))
        .map_err(|error| ApiError::invalid(format!("this is no {kind}: {error}")))?;
    if let AnyObject::Job(job) = &mut object {
        // Whose sub-job it is, the controller says.
        job.spec.parent = match before {
            Some(AnyObject::Job(before)) => before.spec.parent.clone(),
            _ => None,
        };
    }
    let meta = object.meta_mut();
    // Which file an object came from is for the watched directory to say.
    meta.annotations.remove(SOURCE_ANNOTATION);
    if let Some(before) = before.map(AnyObject::meta) {
        if meta.name != before.name {
            return Err(ApiError::invalid(format!("the object is {}, not {}", before.name, meta.name)));
        }
        let source = before.annotations.get(SOURCE_ANNOTATION);
        meta.annotations.extend(source.map(|source| (SOURCE_ANNOTATION.to_owned(), source.clone())));
        meta.uid.clone_from(&before.uid);
        meta.generation = before.generation;
        meta.creation_timestamp = before.creation_timestamp;
        meta.deletion_timestamp = before.deletion_timestamp;
    }
    check_name(&meta.name)?;
    Ok(object)
}

fn check_header(kind: Kind, body: &Map<String, Value>) -> Result<(), ApiError> {
    let expected = [("apiVersion", crate::model::API_VERSION), ("kind", kind.as_str())];
    for (field, expected) in expected {
        match body.get(field) {
            None => {}
            Some(found) if found == expected => {}
            Some(found) => {
                return Err(ApiError::invalid(format!("{field} is {found}, and this is the place for {expected}")));
            }
        }
    }
    let strange = body.keys().find(|key| !["apiVersion", "kind", "metadata", "spec", "status"].contains(&key.as_str()));
    strange.map_or(Ok(()), |key| Err(ApiError::invalid(format!("an object has no field `{key}`"))))
}

fn check_name(name: &str) -> Result<(), ApiError> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !name.is_empty() && name.len() <= 253 && name.bytes().all(good) {
        return Ok(());
    }
    Err(ApiError::invalid(format!("`{name}` is no name: use letters, digits, `-`, `_`, and `.`, at most 253 in all")))
}

/// JSON merge patch, RFC 7386.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            fields.shift_remove(&key);
        } else {
            merge(fields.entry(key).or_insert(Value::Null), value);
        }
    }
}
