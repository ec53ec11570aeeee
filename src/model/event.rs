//! Events: what happened, and why.

use crate::model::{Kind, Time};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventType {
    /// As it should be.
    Normal,
    /// Somebody should look.
    Warning,
}

/// One thing that happened to one object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Its place in the sequence of all events; 0 until it is stored.
    #[serde(default)]
    pub id: u64,
    /// When.
    pub time: Time,
    /// The kind of the object.
    pub kind: Kind,
    /// The name of the object.
    pub name: String,
    /// How much it matters.
    pub r#type: EventType,
    /// One word, such as `Stopping`, `Reaped`, `JobFailed`.
    pub reason: String,
    /// The same for a person.
    pub message: String,
    /// The evidence, for machines: owners, processes, memory.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub details: Value,
}
