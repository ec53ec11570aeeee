//! What is wrapped around the work of a step: limits, decorators, the cache.

use super::super::schema;
use super::super::types::{Backoff, Cache, Decorator, Limits};
use super::executor;
use super::reader::{Reader, index, key, problem};
use crate::model::{DocPath, Problem};
use serde_json::Value;
use std::time::Duration;

pub(super) fn limits(reader: &mut Reader<'_, '_>) -> Limits {
    let Some((value, path)) = reader.field("limits") else { return Limits::default() };
    let Some(mut limits) = Reader::mapping(value, path, "`limits`", reader.problems()) else {
        return Limits::default();
    };
    limits.known(schema::keys_of_limits());
    Limits {
        max_duration: limits.minutes("max_duration_minutes"),
        max_cost_usd: limits.number("max_cost_usd"),
        max_iterations: limits.count("max_iterations"),
    }
}

pub(super) fn cache(reader: &mut Reader<'_, '_>) -> Option<Cache> {
    let (value, path) = reader.field("cache")?;
    match value {
        Value::Bool(false) => None,
        Value::Bool(true) => Some(Cache::default()),
        _ => {
            let mut cache = Reader::mapping(value, path, "`cache`", reader.problems())?;
            cache.known(schema::keys_of_cache());
            let enabled = cache.flag("enabled").unwrap_or(true);
            let found = Cache { ttl: cache.span("ttl"), key_extra: cache.text("key_extra") };
            enabled.then_some(found)
        }
    }
}

pub(super) fn decorators(reader: &mut Reader<'_, '_>, has_outputs: bool) -> Vec<Decorator> {
    let Some((value, path)) = reader.field("decorators") else { return Vec::new() };
    let Some(items) = value.as_array() else {
        let help = Some("write `decorators: [{type: retry, config: {max_retries: 3}}]`".to_owned());
        reader.error(path, "`decorators` must be a list", help);
        return Vec::new();
    };
    let one = |(at, item)| decorator(item, index(&path, at), has_outputs, reader.problems());
    items.iter().enumerate().filter_map(one).collect()
}

#[derive(Clone, Copy)]
enum Word {
    Timeout,
    Retry,
    Fallback,
    Notification,
}

const WORDS: [(&str, Word); 4] = [
    ("timeout", Word::Timeout),
    ("retry", Word::Retry),
    ("fallback", Word::Fallback),
    ("notification", Word::Notification),
];

/// `{type: retry, config: {…}}`, or shorter: `{retry: {…}}`, or the fields beside `type`.
fn decorator(value: &Value, path: DocPath, has_outputs: bool, problems: &mut Vec<Problem>) -> Option<Decorator> {
    let mut reader = Reader::mapping(value, path.clone(), "a decorator", problems)?;
    if let Some((name, word)) = WORDS.iter().find(|(name, _)| reader.has(name)) {
        reader.known(&[name]);
        let (config, at) = reader.field(name)?;
        let mut config = Reader::mapping(config, at, "a decorator", reader.problems())?;
        return of_word(*word, &mut config, has_outputs);
    }
    if !reader.has("type") {
        let help = "write `type: timeout`, `retry`, `fallback`, or `notification`".to_owned();
        problems.push(problem(path, "the decorator has no `type`", Some(help)));
        return None;
    }
    let word = reader.word("type", &WORDS)?;
    match reader.field("config") {
        Some((config, at)) => {
            reader.known(&["type", "config"]);
            let mut config = Reader::mapping(config, at, "`config`", reader.problems())?;
            of_word(word, &mut config, has_outputs)
        }
        None => of_word(word, &mut reader, has_outputs),
    }
}

fn of_word(word: Word, reader: &mut Reader<'_, '_>, has_outputs: bool) -> Option<Decorator> {
    let path = reader.path().clone();
    match word {
        Word::Timeout => {
            reader.known(&["type", "seconds", "minutes"]);
            let limit = reader.seconds("seconds").or_else(|| reader.minutes("minutes"));
            if limit.is_none() && !reader.has("seconds") && !reader.has("minutes") {
                reader.error(path, "the timeout has no limit", Some("write `seconds: …` or `minutes: …`".into()));
            }
            limit.map(Decorator::Timeout)
        }
        Word::Retry => {
            reader.known(&["type", "max_retries", "backoff"]);
            let words = [("none", Backoff::None), ("exponential", Backoff::Exponential)];
            let backoff = reader.word("backoff", &words).unwrap_or_default();
            if !reader.has("max_retries") {
                reader.error(path, "the retry has no `max_retries`", Some("write `max_retries: 3`".into()));
            }
            Some(Decorator::Retry { max_retries: reader.count("max_retries")?, backoff })
        }
        Word::Fallback => {
            reader.known(&["type", "fallback_ref"]);
            let Some((value, at)) = reader.field("fallback_ref") else {
                let help = "write `fallback_ref: {type: script, config: {run: …}}`".to_owned();
                reader.error(path, "the fallback has no `fallback_ref`", Some(help));
                return None;
            };
            let mut inner = Reader::mapping(value, at, "`fallback_ref`", reader.problems())?;
            inner.known(&["type", "config"]);
            executor::of_fallback(&mut inner, has_outputs).map(|executor| Decorator::Fallback(Box::new(executor)))
        }
        Word::Notification => {
            reader.known(&["type", "webhook_url", "url"]);
            let webhook_url = reader.text("webhook_url").or_else(|| reader.text("url"));
            let Some(webhook_url) = webhook_url else {
                reader.error(path, "the notification has no `webhook_url`", None);
                return None;
            };
            let is_url = ["http://", "https://", "$"].iter().any(|start| webhook_url.starts_with(start));
            if !is_url {
                let help = Some("write `http://…` or `https://…`".to_owned());
                reader.error(key(&path, "webhook_url"), &format!("`{webhook_url}` is no URL of a web server"), help);
            }
            Some(Decorator::Notification { webhook_url })
        }
    }
}

/// The most that a duration of a flow may be.
pub(super) const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
