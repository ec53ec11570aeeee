//! A served store in a directory of its own, and a client of it.

use crate::controller::Pass;
use crate::model::*;
use crate::serve::*;
use crate::store::{Store, Txn};
use axum::body::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::sync::Mutex;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(super) const V1: &str = "/apis/tenure.dev/v1alpha1";
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A served store in a directory of its own.
pub(super) struct World {
    pub(super) state_dir: StateDir,
    pub(super) store: Arc<Store>,
    pub(super) passes: watch::Sender<Arc<Pass>>,
    bell: Arc<Notify>,
    pub(super) stop: Option<oneshot::Sender<()>>,
    pub(super) server: JoinHandle<io::Result<()>>,
    pub(super) fulfilled: Arc<Mutex<Vec<(String, Value)>>>,
    _dir: TempDir,
}

impl World {
    pub(super) async fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = StateDir(dir.path().to_owned());
        let store = Arc::new(Store::open(&state_dir.store_file()).unwrap());
        let (passes, receiver) = watch::channel(Arc::new(Pass::default()));
        let bell = Arc::new(Notify::new());
        let fulfilled = Arc::new(Mutex::new(Vec::new()));
        let handle = Handle {
            store: Arc::clone(&store),
            state_dir: state_dir.clone(),
            passes: receiver,
            bell: Arc::clone(&bell),
        };
        let (stop, stopped) = oneshot::channel();
        let listener = bind(&state_dir).unwrap();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let server = tokio::spawn(serve(listener, handle, hooks(Arc::clone(&fulfilled)), shutdown));
        World { state_dir, store, passes, bell, stop: Some(stop), server, fulfilled, _dir: dir }
    }

    pub(super) async fn connect(&self) -> SendRequest<Full<Bytes>> {
        let stream = UnixStream::connect(self.state_dir.socket()).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> hyper::Response<hyper::body::Incoming> {
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "tenure")
            .body(Full::new(body.into()))
            .unwrap();
        timeout(PATIENCE, self.connect().await.send_request(request)).await.unwrap().unwrap()
    }

    pub(super) async fn call(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let response = self.send(method, path, body.to_string()).await;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&bytes).unwrap())
    }

    pub(super) async fn get(&self, path: &str) -> (u16, Value) {
        self.call(Method::GET, path, Value::Null).await
    }

    pub(super) async fn lines(&self, path: &str) -> Lines {
        let response = self.send(Method::GET, path, "").await;
        assert_eq!(response.status(), StatusCode::OK);
        Lines { body: response.into_body(), text: String::new() }
    }

    pub(super) fn commit(&self, txn: Txn) {
        self.store.commit(txn, now()).unwrap();
    }

    pub(super) fn job(&self, name: &str) -> Job {
        match self.store.get(Kind::Job, name).unwrap() {
            Some(AnyObject::Job(job)) => job,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn rung(&self) {
        timeout(PATIENCE, self.bell.notified()).await.expect("the bell rings");
    }
}

/// The lines of a watch.
pub(super) struct Lines {
    body: hyper::body::Incoming,
    text: String,
}

impl Lines {
    pub(super) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((line, rest)) = self.text.split_once('\n') {
                let value = serde_json::from_str(line).unwrap();
                self.text = rest.to_owned();
                return Some(value);
            }
            let frame = timeout(PATIENCE, self.body.frame()).await.expect("a line in time")?;
            self.text.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
        }
    }

    /// Type and name of the next change.
    pub(super) async fn change(&mut self) -> (String, String) {
        let line = self.next().await.unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&line["type"]), text(&line["object"]["metadata"]["name"]))
    }
}

pub(super) fn hooks(fulfilled: Arc<Mutex<Vec<(String, Value)>>>) -> Hooks {
    Hooks {
        fulfil: Arc::new(move |name, outputs| {
            if outputs.is_empty() {
                return Err(ApiError::conflict("it waits for nothing"));
            }
            fulfilled.lock().unwrap().push((name.to_owned(), Value::Object(outputs)));
            Ok(())
        }),
        apply: Arc::new(|request| {
            if request.text == "good" {
                return Ok(vec![AnyObject::Flow(Flow { metadata: Meta::named("f"), ..Flow::default() })]);
            }
            Err(vec![Diagnostic {
                line: 3,
                column: 5,
                source_line: "  oops".to_owned(),
                ..Diagnostic::of_file(Severity::Error, request.file, "unknown field")
            }])
        }),
        plan_now: Arc::new(|| Box::pin(async { Ok(json!({"actions": []})) })),
    }
}

pub(super) fn body(name: &str, spec: Value) -> Value {
    json!({"apiVersion": API_VERSION, "kind": "Job", "metadata": {"name": name}, "spec": spec})
}

pub(super) fn status_of(status: &Value) -> (&str, u64) {
    assert_eq!((&status["kind"], &status["status"]), (&json!("Status"), &json!("Failure")));
    assert!(!status["message"].as_str().unwrap().is_empty());
    (status["reason"].as_str().unwrap(), status["code"].as_u64().unwrap())
}

pub(super) fn workload(uid: &str) -> AnyObject {
    let mut workload = Workload { metadata: Meta::named(uid), ..Workload::default() };
    workload.metadata.uid = uid.to_owned();
    AnyObject::Workload(workload)
}

pub(super) fn run(name: &str) -> AnyObject {
    AnyObject::StepRun(StepRun { metadata: Meta::named(name), ..StepRun::default() })
}
