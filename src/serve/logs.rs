//! Transcripts: what a workload said and was told, from a byte on.

use super::{Api, ApiError, stream};
use crate::model::{Kind, WorkloadUid};
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

const PIECE_BYTES: u64 = 64 * 1024;

/// The query.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LogQuery {
    offset: u64,
}

/// The bytes from `offset` to the end that the file has now. The header `x-offset` says where to go on.
pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Path((uid, name)): Path<(String, String)>,
    query: Result<Query<LogQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(LogQuery { offset }) = query?;
    // What is not a plain word could climb out of the directory.
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if uid.is_empty() || !uid.bytes().all(is_word) || !["stdin", "stdout", "stderr"].contains(&name.as_str()) {
        return Err(ApiError::not_found(format!(
            "there is no transcript {uid}/{name}: it is stdin, stdout, or stderr"
        )));
    }
    let uid = WorkloadUid(uid);
    let (sender, body) = stream::body();
    let end = match open(&api, &uid, &name) {
        Ok(mut file) => {
            let context =
                |error: io::Error| ApiError::internal(format!("the {name} of {uid} can not be read: {error}"));
            let end = file.metadata().map_err(context)?.len().max(offset);
            file.seek(SeekFrom::Start(offset)).map_err(context)?;
            tokio::task::spawn_blocking(move || copy(file, end - offset, &sender));
            end
        }
        // It has said nothing yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_active(&api, &uid)? => offset,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ApiError::not_found(format!("there is no {name} of workload {uid}")));
        }
        Err(error) => return Err(ApiError::internal(format!("the {name} of {uid} can not be opened: {error}"))),
    };
    let headers = [(CONTENT_TYPE.as_str(), "application/octet-stream".to_owned()), ("x-offset", end.to_string())];
    Ok((headers, body).into_response())
}

fn open(api: &Api, uid: &WorkloadUid, name: &str) -> io::Result<File> {
    let open = || File::open(api.handle.state_dir.transcripts(uid).join(name));
    match open() {
        // The clean-up may have moved the directory between the two steps.
        Err(error) if error.kind() == io::ErrorKind::NotFound => open(),
        result => result,
    }
}

fn is_active(api: &Api, uid: &WorkloadUid) -> Result<bool, ApiError> {
    Ok(api.handle.store.get(Kind::Workload, uid.as_str())?.is_some_and(|workload| workload.is_active()))
}

/// Sends this many bytes, or fewer if the file ends before, or the client goes.
fn copy(file: File, length: u64, sender: &tokio::sync::mpsc::Sender<Bytes>) {
    let mut rest = file.take(length);
    loop {
        let mut piece = Vec::new();
        let read = rest.by_ref().take(PIECE_BYTES).read_to_end(&mut piece);
        if read.is_err() || piece.is_empty() || sender.blocking_send(Bytes::from(piece)).is_err() {
            return;
        }
    }
}
