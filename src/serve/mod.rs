//! The API on the unix socket: what the command line and other programs talk to.
//!
//! What it promises:
//! - **Desired state only.** People write `spec`; the `status` in what they send is passed over. Runs and workloads are the
//!   controller's: nobody else writes them. Nothing here starts or ends a process; a write rings the loop's bell, and the
//!   next pass does the rest.
//! - **Level-triggered watches.** A watch compares what is stored with what it has told: changes that came together may be
//!   told as one, none is left out for good, whoever made them.
//! - **Its own user only.** The socket has mode 0600, and each caller's user is checked (this one, or root).
//! - **Errors are objects**: a `Status` with `reason`, `message`, and `code`, whatever went wrong.

mod error;
mod events;
mod health;
mod logs;
mod objects;
mod requests;
mod select;
mod stream;
#[cfg(test)]
mod tests;
mod watch;
mod wishes;

pub use error::{ApiError, Reason};

use crate::controller::{Handle, Pass};
use crate::model::{AnyObject, Diagnostic, Time};
use crate::os::StateDir;
use axum::Router;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::fs::{self, Permissions};
use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;

/// The largest body that is read.
const BODY_LIMIT_BYTES: usize = 4 * 1024 * 1024;

/// How long an orderly end waits for requests under way.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

/// Gives a suspended run its outputs: (name of the run, outputs).
pub type Fulfil = Arc<dyn Fn(&str, Map<String, Value>) -> Result<(), ApiError> + Send + Sync>;

/// Takes the text of a manifest, and gives the objects of it as they are stored.
pub type Apply = Arc<dyn Fn(ApplyRequest) -> Result<Vec<AnyObject>, Vec<Diagnostic>> + Send + Sync>;

/// What the next pass would do: a new look, a new diff, no action.
pub type PlanNow = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Value, String>> + Send>> + Send + Sync>;

/// What the API asks of the floors that it does not know.
#[derive(Clone)]
pub struct Hooks {
    /// For `POST …/stepruns/{name}/fulfill`.
    pub fulfil: Fulfil,
    /// For `POST /apply`.
    pub apply: Apply,
    /// For `GET /plan`.
    pub plan_now: PlanNow,
}

/// The body of `POST /apply`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// The file's name, for messages.
    pub file: String,
    /// Its content.
    pub text: String,
    /// The absolute directory that relative paths in it are relative to.
    pub dir: PathBuf,
}

/// What every handler holds.
struct Api {
    handle: Handle,
    hooks: Hooks,
    /// Turns true at the end; watches end with it.
    stopping: tokio::sync::watch::Receiver<bool>,
}

impl Api {
    fn last_pass(&self) -> Arc<Pass> {
        self.handle.passes.borrow().clone()
    }

    /// Makes the next pass come sooner.
    fn ring(&self) {
        self.handle.bell.notify_one();
    }
}

/// The API's socket in this state directory, with mode 0600 from its first moment. Whoever calls holds the state
/// directory's lock: a socket that is there already is a dead one's, and is replaced.
pub fn bind(state_dir: &StateDir) -> io::Result<UnixListener> {
    let path = state_dir.socket();
    // Bound under another name, and renamed once nobody else can connect. The name must not be longer: the kernel allows 107
    // bytes.
    let fresh = path.with_extension("new");
    let context = |error: io::Error| {
        let length = path.as_os_str().len();
        let hint =
            if length > 107 { ": a shorter state directory is needed (at most 107 bytes with the name)" } else { "" };
        io::Error::new(error.kind(), format!("the socket {} can not be made: {error}{hint}", path.display()))
    };
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(context(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh).map_err(context)?;
    fs::set_permissions(&fresh, Permissions::from_mode(0o600)).map_err(context)?;
    fs::rename(&fresh, &path).map_err(context)?;
    Ok(listener)
}

/// Serves the API until `shutdown` is ready, then ends the watches, lets the other requests finish, and removes the socket.
pub async fn serve(
    listener: UnixListener,
    handle: Handle,
    hooks: Hooks,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let socket = handle.state_dir.socket();
    let mut ending = stopping.clone();
    let app = router(Api { handle, hooks, stopping }).into_make_service_with_connect_info::<Peer>();
    let server = axum::serve(listener, app).with_graceful_shutdown(async move {
        shutdown.await;
        stop.send_replace(true);
    });
    let patience = async move {
        // An error: the sender went with the server, which has ended by itself.
        let _ = ending.wait_for(|stopping| *stopping).await;
        tokio::time::sleep(SHUTDOWN_GRACE).await;
    };
    let result = tokio::select! {
        result = server.into_future() => result,
        () = patience => Ok(()),
    };
    // Best effort: the next controller replaces it anyway.
    let _ = fs::remove_file(socket);
    result
}

fn router(api: Api) -> Router {
    let objects = Router::new()
        .route("/{plural}", get(objects::list).post(objects::create))
        .route(
            "/{plural}/{name}",
            get(objects::read).put(objects::replace).patch(objects::patch).delete(objects::delete),
        )
        .route("/{plural}/{name}/{action}", post(requests::act));
    Router::new()
        .nest("/apis/tenure.dev/v1alpha1", objects)
        .route("/apply", post(requests::apply))
        .route("/plan", get(requests::plan))
        .route("/events", get(events::list))
        .route("/logs/{uid}/{stream}", get(logs::read))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/status", get(health::status))
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(middleware::from_fn(own_user_only))
        .layer(DefaultBodyLimit::max(BODY_LIMIT_BYTES))
        .with_state(Arc::new(api))
}

/// Who is at the other end: the user, if the kernel tells.
#[derive(Debug, Clone, Copy)]
struct Peer(Option<u32>);

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Peer(stream.io().peer_cred().ok().map(|peer| peer.uid()))
    }
}

async fn own_user_only(
    ConnectInfo(Peer(user)): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let own = nix::unistd::geteuid().as_raw();
    match user {
        Some(user) if user == own || user == 0 => Ok(next.run(request).await),
        _ => Err(ApiError::new(Reason::Forbidden, format!("this socket serves user {own} and root only"))),
    }
}

/// The clock of the edge.
fn now() -> Time {
    Time(jiff::Timestamp::now().as_millisecond())
}
