//! Requests that are more than a write of one object: fulfil, apply, plan.

use super::objects::{self, Body};
use super::wishes::{self, Wish};
use super::{Api, ApiError, ApplyRequest, Reason};
use crate::controller::Veil;
use crate::model::{Diagnostic, Kind};
use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The body of `…/fulfill`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FulfilRequest {
    outputs: Map<String, Value>,
}

/// `POST /{plural}/{name}/{action}`.
pub(super) async fn act(
    State(api): State<Arc<Api>>,
    Path((plural, name, action)): Path<(String, String, String)>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let kind = objects::kind(&plural)?;
    if let (Kind::Job, Some(wish)) = (kind, Wish::parse(&action)) {
        return wishes::grant(&api, &name, wish).map(Json);
    }
    match (kind, action.as_str()) {
        (Kind::StepRun, "fulfill") => {
            let request: FulfilRequest = serde_json::from_slice(&body?)
                .map_err(|error| ApiError::malformed(format!("the body is {{\"outputs\": {{…}}}}: {error}")))?;
            fulfil(api, name, request.outputs).await.map(Json)
        }
        (kind, _) => Err(ApiError::not_found(format!("there is no `{action}` of a {kind}"))),
    }
}

async fn fulfil(api: Arc<Api>, name: String, outputs: Map<String, Value>) -> Result<Value, ApiError> {
    objects::stored(&api, Kind::StepRun, &name)?;
    tokio::task::spawn_blocking(move || {
        (api.hooks.fulfil)(&name, outputs)?;
        api.ring();
        let run = objects::stored(&api, Kind::StepRun, &name)?;
        Ok(Veil::new(&api.handle.store).object(&run)?)
    })
    .await?
}

pub(super) async fn apply(State(api): State<Arc<Api>>, body: Body) -> Result<Json<Value>, ApiError> {
    let request: ApplyRequest = serde_json::from_slice(&body?).map_err(|error| {
        ApiError::malformed(format!("the body is {{\"file\": …, \"text\": …, \"dir\": …}}: {error}"))
    })?;
    if !request.dir.is_absolute() {
        return Err(ApiError::invalid(format!("`dir` is an absolute path, not {}", request.dir.display())));
    }
    tokio::task::spawn_blocking(move || {
        let file = request.file.clone();
        let applied = (api.hooks.apply)(request).map_err(|found| refused(&file, &found))?;
        api.ring();
        let revision = api.handle.store.revision()?;
        let veil = Veil::new(&api.handle.store);
        let items = applied.iter().map(|object| veil.object(object)).collect::<Result<_, _>>()?;
        Ok(Json(objects::list_of(revision, items)))
    })
    .await?
}

fn refused(file: &str, diagnostics: &[Diagnostic]) -> ApiError {
    let first = diagnostics.first().map_or("it can not be taken".to_owned(), |first| {
        format!("{}:{}: {}", first.line, first.column, first.message)
    });
    let rest = if diagnostics.len() > 1 { format!(" (and {} more)", diagnostics.len() - 1) } else { String::new() };
    ApiError {
        causes: diagnostics.iter().map(|diagnostic| json!(diagnostic)).collect(),
        ..ApiError::invalid(format!("{file}:{first}{rest}"))
    }
}

pub(super) async fn plan(State(api): State<Arc<Api>>) -> Result<Json<Value>, ApiError> {
    (api.hooks.plan_now)().await.map(Json).map_err(|message| ApiError::new(Reason::Internal, message))
}
