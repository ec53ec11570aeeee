//! Which objects of a kind are asked for.

use super::ApiError;
use crate::model::AnyObject;
use serde::Deserialize;

/// The query of a list.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ListQuery {
    label_selector: String,
    field_selector: String,
    watch: String,
}

/// Labels and fields that must be equal; none: everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Selector {
    labels: Vec<(String, String)>,
    /// `metadata.name`.
    pub(super) name: Option<String>,
    phase: Option<String>,
}

impl ListQuery {
    pub(super) fn selector(&self) -> Result<Selector, ApiError> {
        let mut selector = Selector { labels: pairs(&self.label_selector)?, ..Selector::default() };
        for (field, value) in pairs(&self.field_selector)? {
            match field.as_str() {
                "metadata.name" => selector.name = Some(value),
                "status.phase" => selector.phase = Some(value),
                _ => {
                    let message = format!("objects are not selected by {field}: use metadata.name or status.phase");
                    return Err(ApiError::malformed(message));
                }
            }
        }
        Ok(selector)
    }

    pub(super) fn watch(&self) -> bool {
        is_on(&self.watch)
    }
}

impl Selector {
    pub(super) fn matches(&self, object: &AnyObject) -> bool {
        let meta = object.meta();
        self.name.as_ref().is_none_or(|name| *name == meta.name)
            && self.phase.as_ref().is_none_or(|phase| phase == object.phase())
            && self.labels.iter().all(|(key, value)| meta.labels.get(key) == Some(value))
    }
}

/// Whether a switch in a query is on.
pub(super) fn is_on(text: &str) -> bool {
    matches!(text, "1" | "true")
}

/// `a=b,c==d`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, ApiError> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let pair = |part: &str| match part.split_once('=') {
        Some((key, value)) if !key.is_empty() && !key.ends_with('!') => {
            Ok((key.trim().to_owned(), value.strip_prefix('=').unwrap_or(value).trim().to_owned()))
        }
        _ => Err(ApiError::malformed(format!("`{part}` selects nothing: write key=value"))),
    };
    parts.map(pair).collect()
}
