//! Where reading verbs read: from the controller or, when none runs, from its store.

use super::CliError;
use super::client::{self, API, escaped};
use crate::model::{Event, Kind};
use crate::os::StateDir;
use crate::store::{EventFilter, Store};
use anyhow::Context;
use hyper::Method;
use serde_json::Value;
use tokio::sync::OnceCell;

/// Where to read.
pub(super) struct Source<'a> {
    state: &'a StateDir,
    store: OnceCell<Option<Store>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(state: &'a StateDir) -> Source<'a> {
        Source { state, store: OnceCell::new() }
    }

    /// The store, when no controller answers.
    async fn store(&self) -> Result<Option<&Store>, CliError> {
        let open = || async {
            if client::is_up(self.state).await {
                return Ok(None);
            }
            let path = self.state.store_file();
            if !path.exists() {
                return Err(CliError::Failed(anyhow::anyhow!(
                    "there is no controller and no store in {}; start one with `tenure run`, or name another state directory with --state",
                    self.state.root().display()
                )));
            }
            let store = Store::open_read_only(&path).context("failed to open the store")?;
            eprintln!("note: no controller runs; this is what its store last said");
            Ok(Some(store))
        };
        Ok(self.store.get_or_try_init(open).await?.as_ref())
    }

    /// All objects of a kind, as JSON.
    pub(super) async fn list(&self, kind: Kind, selector: Option<&str>) -> Result<Vec<Value>, CliError> {
        let Some(store) = self.store().await? else {
            let query = selector.map(|text| format!("?labelSelector={}", escaped(text))).unwrap_or_default();
            let path = format!("{API}/{}{query}", kind.plural());
            let list = client::call(self.state, Method::GET, &path, None).await?;
            return Ok(list["items"].as_array().cloned().unwrap_or_default());
        };
        let objects = store.list(kind).context("failed to read the store")?;
        let wanted = |object: &Value| {
            selector.unwrap_or_default().split(',').filter(|part| !part.is_empty()).all(|part| {
                let (name, value) = part.split_once('=').unwrap_or((part, ""));
                object["metadata"]["labels"][name] == value
            })
        };
        Ok(objects.iter().map(crate::model::AnyObject::to_json).filter(wanted).collect())
    }

    /// One object, as JSON.
    pub(super) async fn get(&self, kind: Kind, name: &str) -> Result<Value, CliError> {
        let Some(store) = self.store().await? else {
            let path = format!("{API}/{}/{}", kind.plural(), escaped(name));
            return client::call(self.state, Method::GET, &path, None).await;
        };
        let object = store.get(kind, name).context("failed to read the store")?;
        object.map(|object| object.to_json()).ok_or_else(|| {
            CliError::NotFound(format!(
                "there is no {kind} `{name}`; `tenure get {}` shows what there is",
                kind.plural()
            ))
        })
    }

    /// The last events.
    pub(super) async fn events(&self) -> Result<Vec<Event>, CliError> {
        let Some(store) = self.store().await? else {
            let list = client::call(self.state, Method::GET, "/events", None).await?;
            let items = list["items"].as_array().cloned().unwrap_or_default();
            return Ok(items.into_iter().filter_map(|item| serde_json::from_value(item).ok()).collect());
        };
        let filter = EventFilter { newest: true, ..EventFilter::default() };
        Ok(store.events(0, 1000, &filter).context("failed to read the store")?)
    }
}
