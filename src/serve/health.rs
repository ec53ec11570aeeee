//! Whether the controller is well, and who it is.

use super::{Api, ApiError, Reason};
use crate::model::Reading;
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use std::sync::Arc;

/// It answers, and its store does.
pub(super) async fn healthz(State(api): State<Arc<Api>>) -> Result<&'static str, ApiError> {
    api.handle.store.revision()?;
    Ok("ok\n")
}

/// It has made a pass.
pub(super) async fn readyz(State(api): State<Arc<Api>>) -> Result<&'static str, ApiError> {
    match api.last_pass().observed {
        Some(_) => Ok("ok\n"),
        None => Err(ApiError::new(Reason::Unavailable, "the controller has made no pass yet: try again in a moment")),
    }
}

/// Who it is, and when it last looked.
pub(super) async fn status(State(api): State<Arc<Api>>) -> Json<Value> {
    let pass = Arc::clone(&api.handle.passes.borrow());
    let last_pass = pass.observed.as_ref().map(|observed| json!({"at": pass.at, "look": observed.look}));
    let held_until = pass.bounds.as_ref().and_then(|bounds| match &bounds.gate {
        Reading::Known(()) => None,
        Reading::Unknown(why) => Some(why),
    });
    Json(json!({
        "instance": api.handle.store.instance(),
        "pid": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
        "lastPass": last_pass,
        "nothingIsEndedUntil": held_until,
    }))
}
