//! What reading verbs read from: the controller or, when none runs, what its store last held.

use super::client::{Client, path_of};
use super::console::Console;
use super::failure::{Context, Failure};
use super::text::url;
use crate::controller::{self, Veil};
use crate::model::{Event, Kind};
use crate::os::StateDir;
use crate::store::{EventFilter, Store, StoreError};
use hyper::body::Bytes;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};

/// What is read from.
pub enum Source {
    /// A controller that runs.
    Live(Client),
    /// The store of one that does not.
    Stored(Box<Store>, StateDir),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::failed(error.to_string())
    }
}

impl Source {
    /// The controller of this state directory if one runs, else its store.
    pub async fn open(state: &StateDir, console: &mut Console) -> Result<Source, Failure> {
        let client = Client::new(state.clone());
        if client.is_there().await? {
            return Ok(Source::Live(client));
        }
        if !state.store_file().exists() {
            return Err(client.nobody());
        }
        let store = Store::open_read_only(&state.store_file())?;
        console
            .say(&format!("note: no controller runs on {}; this is what its store last held", state.root().display()));
        Ok(Source::Stored(Box::new(store), state.clone()))
    }

    /// The controller, for what needs one.
    pub fn live(&self) -> Result<&Client, Failure> {
        match self {
            Source::Live(client) => Ok(client),
            Source::Stored(_, state) => Err(Client::new(state.clone()).nobody()),
        }
    }

    /// The objects of a kind whose labels are these, by name.
    pub async fn list(&self, kind: Kind, labels: &[(String, String)]) -> Result<Vec<Value>, Failure> {
        let what = || format!("list {}", kind.plural());
        match self {
            Source::Live(client) => {
                let list = client.get(&list_path(kind, labels, None, false)).await.to(what)?;
                Ok(items(list))
            }
            Source::Stored(store, _) => {
                let objects = store.list(kind).map_err(Failure::from).to(what)?;
                let wanted =
                    |meta: &crate::model::Meta| labels.iter().all(|(key, value)| meta.labels.get(key) == Some(value));
                let veil = Veil::new(store);
                let shown = objects.iter().filter(|object| wanted(object.meta())).map(|object| veil.object(object));
                shown.collect::<Result<_, _>>().map_err(Failure::from).to(what)
            }
        }
    }

    /// One object; none: there is no such.
    pub async fn find(&self, kind: Kind, name: &str) -> Result<Option<Value>, Failure> {
        let what = || format!("get {kind} {name}");
        match self {
            Source::Live(client) => match client.get(&path_of(kind, Some(name))).await {
                Err(failure) if failure.exit == super::failure::Exit::NotFound => Ok(None),
                result => result.to(what).map(Some),
            },
            Source::Stored(store, _) => {
                let object = store.get(kind, name).map_err(Failure::from).to(what)?;
                let shown = object.map(|object| Veil::new(store).object(&object)).transpose();
                shown.map_err(Failure::from).to(what)
            }
        }
    }

    /// One object, which must be there.
    pub async fn get(&self, kind: Kind, name: &str) -> Result<Value, Failure> {
        match self.find(kind, name).await? {
            Some(object) => Ok(object),
            None => Err(self.missing(kind, name).await).to(|| format!("get {} {name}", kind.as_str().to_lowercase())),
        }
    }

    /// There is no such object, and perhaps one of a similar name.
    pub async fn missing(&self, kind: Kind, name: &str) -> Failure {
        let lower = kind.as_str().to_lowercase();
        let failure = Failure::not_found(format!("there is no {lower} `{name}`"));
        let objects = self.list(kind, &[]).await.unwrap_or_default();
        let names = objects.iter().filter_map(|object| object.pointer("/metadata/name")?.as_str());
        match crate::manifest::similar(name, names) {
            Some(similar) => failure.help(format!("did you mean `{similar}`?")),
            None => failure.help(format!("`tenure get {}` shows what there is", kind.plural())),
        }
    }

    /// The newest events, or those after an id; oldest first.
    pub async fn events(&self, of: Option<(Kind, &str)>, limit: usize) -> Result<Vec<Event>, Failure> {
        match self {
            Source::Live(client) => {
                let of = of.map(|(kind, name)| format!("&kind={kind}&name={}", url(name))).unwrap_or_default();
                let list = client.get(&format!("/events?limit={limit}{of}")).await.to(|| "list events".into())?;
                let events = items(list).into_iter().map(serde_json::from_value).collect::<Result<_, _>>();
                events.map_err(|error| Failure::failed(format!("an event can not be understood: {error}")))
            }
            Source::Stored(store, _) => {
                let (kind, name) = of.map(|(kind, name)| (kind, name.to_owned())).unzip();
                let events = store.events(0, limit, &EventFilter { kind, name, newest: true })?;
                let veil = Veil::new(store);
                Ok(events.into_iter().map(|event| veil.event(event)).collect::<Result<_, _>>()?)
            }
        }
    }

    /// What the next pass would do.
    pub async fn plan(&self) -> Result<Value, Failure> {
        match self {
            Source::Live(client) => client.get("/plan").await,
            Source::Stored(store, state) => match controller::plan_now(store, state, None) {
                Ok(plan) => Ok(controller::plan_to_json(&plan)),
                Err(error) => Err(Failure::failed(error.to_string())),
            },
        }
        .to(|| "make a plan".into())
    }

    /// What a workload said from `offset` on, and where to go on. Nothing, if there is no such transcript.
    pub async fn log(&self, workload: &str, stream: &str, offset: u64) -> Result<(Bytes, u64), Failure> {
        match self {
            Source::Live(client) => match client.log(workload, stream, offset).await {
                Err(failure) if failure.exit == super::failure::Exit::NotFound => Ok((Bytes::new(), offset)),
                result => result,
            },
            Source::Stored(store, state) => {
                let path = state.transcripts(&workload.into()).join(stream);
                let failed = |error: std::io::Error| Failure::failed(format!("{}: {error}", path.display()));
                let mut bytes = Vec::new();
                match File::open(&path) {
                    Ok(mut file) => {
                        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
                        file.read_to_end(&mut bytes).map_err(failed)?;
                    }
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(failed(error)),
                }
                let end = offset + bytes.len() as u64;
                let secrets = Veil::new(store).of_workload(&workload.into())?.by_line();
                if !secrets.is_empty() {
                    bytes = secrets.mask_text(&String::from_utf8_lossy(&bytes)).into_owned().into_bytes();
                }
                Ok((Bytes::from(bytes), end))
            }
        }
    }
}

/// The path of a list, or of a watch.
pub fn list_path(kind: Kind, labels: &[(String, String)], name: Option<&str>, watch: bool) -> String {
    let mut query = Vec::new();
    if !labels.is_empty() {
        let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        query.push(format!("labelSelector={}", url(&pairs.join(","))));
    }
    if let Some(name) = name {
        query.push(format!("fieldSelector={}", url(&format!("metadata.name={name}"))));
    }
    if watch {
        query.push("watch=1".to_owned());
    }
    let path = path_of(kind, None);
    if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) }
}

/// The items of a list.
pub fn items(mut list: Value) -> Vec<Value> {
    match list.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

/// A list as it is printed.
pub fn list_of(items: Vec<Value>) -> Value {
    json!({"kind": "List", "items": items})
}
