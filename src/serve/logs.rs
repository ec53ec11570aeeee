//! Transcripts: what a workload said and was told, from a byte on.

use super::{Api, ApiError, stream};
use crate::controller::Veil;
use crate::flow::Secrets;
use crate::model::{Kind, WorkloadUid};
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;

const PIECE_BYTES: u64 = 64 * 1024;
/// No longer line is looked at as a whole.
const LONGEST_LINE_BYTES: u64 = 16 << 20;

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
            let secrets = Veil::new(&api.handle.store).of_workload(&uid)?.by_line();
            tokio::task::spawn_blocking(move || match secrets.is_empty() {
                true => copy(file, end - offset, &sender),
                false => copy_masked(file, end - offset, &secrets, &sender),
            });
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

/// The same, line by line, without what is sensitive. A line that is being written may be cut in it: then its halves are lines.
fn copy_masked(file: File, length: u64, secrets: &Secrets, sender: &tokio::sync::mpsc::Sender<Bytes>) {
    let mut lines = BufReader::new(file.take(length));
    loop {
        let mut line = Vec::new();
        let read = lines.by_ref().take(LONGEST_LINE_BYTES).read_until(b'\n', &mut line);
        if read.is_err() || line.is_empty() {
            return;
        }
        let masked = match secrets.mask_text(&String::from_utf8_lossy(&line)) {
            Cow::Owned(masked) => masked.into_bytes(),
            Cow::Borrowed(_) => line,
        };
        if sender.blocking_send(Bytes::from(masked)).is_err() {
            return;
        }
    }
}
