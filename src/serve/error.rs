//! Errors as objects: `{"kind":"Status","status":"Failure","reason":…,"message":…,"code":…}`.

use crate::store::StoreError;
use axum::Json;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::fmt;

/// One word for what went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There is no such object, or no such path.
    NotFound,
    /// The object is not what the request supposed.
    Conflict,
    /// What was sent can not be taken.
    Invalid,
    /// This can not be done to this.
    MethodNotAllowed,
    /// The caller may not.
    Forbidden,
    /// Not yet.
    Unavailable,
    /// It is not the caller's fault.
    Internal,
}

impl Reason {
    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::NotFound => "NotFound",
            Reason::Conflict => "Conflict",
            Reason::Invalid => "Invalid",
            Reason::MethodNotAllowed => "MethodNotAllowed",
            Reason::Forbidden => "Forbidden",
            Reason::Unavailable => "Unavailable",
            Reason::Internal => "Internal",
        }
    }

    fn code(self) -> StatusCode {
        match self {
            Reason::NotFound => StatusCode::NOT_FOUND,
            Reason::Conflict => StatusCode::CONFLICT,
            Reason::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Reason::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Reason::Forbidden => StatusCode::FORBIDDEN,
            Reason::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Reason::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    /// One word.
    pub reason: Reason,
    /// The HTTP status.
    pub code: u16,
    /// The same for a person, with what to do.
    pub message: String,
    /// The single things that are wrong, such as the diagnostics of a manifest.
    pub causes: Vec<Value>,
}

impl ApiError {
    /// An error with the usual code of its reason.
    pub fn new(reason: Reason, message: impl Into<String>) -> ApiError {
        ApiError { reason, code: reason.code().as_u16(), message: message.into(), causes: Vec::new() }
    }

    /// There is none.
    pub fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new(Reason::NotFound, message)
    }

    /// It is not as supposed.
    pub fn conflict(message: impl Into<String>) -> ApiError {
        ApiError::new(Reason::Conflict, message)
    }

    /// It can not be taken.
    pub fn invalid(message: impl Into<String>) -> ApiError {
        ApiError::new(Reason::Invalid, message)
    }

    /// Not the caller's fault.
    pub fn internal(message: impl Into<String>) -> ApiError {
        ApiError::new(Reason::Internal, message)
    }

    /// What was sent is not even of the right form.
    pub(super) fn malformed(message: impl Into<String>) -> ApiError {
        ApiError { code: 400, ..ApiError::invalid(message) }
    }

    /// As it is sent.
    pub fn to_json(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "status": "Failure",
            "reason": self.reason.as_str(),
            "message": self.message,
            "code": self.code,
        });
        if !self.causes.is_empty() {
            status["details"] = json!({"causes": self.causes});
        }
        status
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (code, Json(self.to_json())).into_response()
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        let reason = match error {
            StoreError::Conflict { .. } => Reason::Conflict,
            StoreError::Invalid { .. } => Reason::Invalid,
            StoreError::Busy { .. } => Reason::Unavailable,
            _ => Reason::Internal,
        };
        ApiError::new(reason, error.to_string())
    }
}

impl From<BytesRejection> for ApiError {
    fn from(rejection: BytesRejection) -> ApiError {
        ApiError { code: rejection.status().as_u16(), ..ApiError::invalid(rejection.body_text()) }
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> ApiError {
        ApiError::malformed(rejection.body_text())
    }
}

/// A handler's task that did not come to its end.
impl From<tokio::task::JoinError> for ApiError {
    fn from(error: tokio::task::JoinError) -> ApiError {
        ApiError::internal(format!("the request was not finished: {error}"))
    }
}

pub(super) async fn no_such_path(uri: Uri) -> ApiError {
    ApiError::not_found(format!("there is no {}", uri.path()))
}

pub(super) async fn no_such_method(method: Method, uri: Uri) -> ApiError {
    ApiError::new(Reason::MethodNotAllowed, format!("{method} is not for {}", uri.path()))
}
