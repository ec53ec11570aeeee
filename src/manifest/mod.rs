//! Manifests: YAML or JSON text → objects, with the line and column of whatever is wrong. Pure: it imports `model` only.
//!
//! Every manifest enters here. The text becomes a generic tree with places; its header says what it is; then the concrete
//! type is read. All problems of a file are found in one go, as far as the text can be read at all.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod diagnostics;
mod names;
mod places;
mod scalar;
mod schema;
#[cfg(test)]
mod tests;
mod tree;
mod typed;

pub use diagnostics::{diagnose, render};
pub use names::{flow_name, is_name, job_name, similar};
pub use places::Positions;
pub use schema::{schema_of, schema_of_all};

use crate::model::{AnyObject, Diagnostic, Kind, Problem, Severity};
use places::Lines;
use serde_json::Value;
use serde_yaml::{Budget, DuplicateKeyPolicy, Options, Spanned};
use std::sync::Arc;
use tree::Tree;

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentKind {
    /// An object of this kind.
    Object(Kind),
    /// A flow file: `steps:` and no `kind:`.
    BareFlow,
}

/// One document of a manifest.
#[derive(Debug, Clone)]
pub struct Document {
    /// What it is.
    pub kind: DocumentKind,
    /// The object; none for a bare flow, and where there are errors.
    pub object: Option<AnyObject>,
    /// The whole document.
    pub value: Value,
    /// Where everything in it is.
    pub positions: Positions,
}

/// What a text gave.
#[derive(Debug, Clone, Default)]
pub struct Parsed {
    /// Its documents, in order.
    pub documents: Vec<Document>,
    /// What is wrong with it.
    pub diagnostics: Vec<Diagnostic>,
}

/// The longest text that is read: 1 MiB takes some 100 ms.
pub const LONGEST: usize = 4 << 20;

/// So many mappings and lists may be inside of each other.
const DEEPEST: usize = 48;

const MOST_DOCUMENTS: usize = 1_000;

/// Values in a file, with those that its aliases stand for: some 30 MB.
const MOST_VALUES: usize = 200_000;

/// Values and brackets that the aliases of a file stand for.
const MOST_OF_ALIASES: usize = 20_000;

/// Parses a manifest; `file` is its name in messages.
pub fn parse(file: &str, text: &[u8]) -> Parsed {
    let mut parsed = Parsed::default();
    match read(file, text, &mut parsed) {
        Ok(()) if parsed.documents.is_empty() && parsed.diagnostics.is_empty() => {
            parsed.diagnostics.push(Diagnostic {
                help: Some("an object has `kind:`, a flow has `steps:`".into()),
                ..Diagnostic::of_file(Severity::Warning, file, "the file holds no document")
            });
        }
        Ok(()) => {}
        Err(diagnostic) => parsed.diagnostics.push(*diagnostic),
    }
    parsed
}

fn read(file: &str, bytes: &[u8], parsed: &mut Parsed) -> Result<(), Box<Diagnostic>> {
    if bytes.len() > LONGEST {
        return Err(Box::new(diagnostics::too_long(file, bytes, LONGEST)));
    }
    let lines = Lines::of(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| diagnostics::not_utf8(file, bytes, &lines, &error))?;
    let trees: Vec<Spanned<Tree>> = serde_yaml::from_multiple_with_options(text, options())
        .map_err(|error| diagnostics::syntax(file, text, &lines, &error))?;
    for tree in trees {
        let mut repeated = Vec::new();
        let (value, root) = tree::take_apart(text, tree, &mut repeated);
        let again = repeated.into_iter().map(|key| diagnostics::repeated(file, text, &lines, key));
        parsed.diagnostics.extend(again);
        let positions = Positions { lines: lines.clone(), root: Arc::new(root) };
        let mut problems = Vec::new();
        parsed.documents.extend(document(value, positions.clone(), &mut problems));
        let problems = problems.iter().map(|problem| diagnose(file, bytes, &positions, problem));
        parsed.diagnostics.extend(problems);
    }
    Ok(())
}

/// The value of a text that is no manifest, such as a file of configuration; else what is wrong with it, and where.
pub fn plain(text: &str) -> Result<Value, String> {
    let lines = Lines::of(text.as_bytes());
    let in_words = |diagnostic: &Diagnostic| format!("line {}: {}", diagnostic.line, diagnostic.message);
    let tree: Spanned<Tree> = serde_yaml::from_str_with_options(text, options())
        .map_err(|error| in_words(&diagnostics::syntax("", text, &lines, &error)))?;
    let mut repeated = Vec::new();
    let (value, _) = tree::take_apart(text, tree, &mut repeated);
    match repeated.into_iter().next() {
        Some(key) => Err(in_words(&diagnostics::repeated("", text, &lines, key))),
        None => Ok(value),
    }
}

/// Strict booleans: `y` and `no` are words. Keys that are there twice are all found, by us. The budget stops an alias bomb
/// long before it costs anything.
fn options() -> Options {
    let mut options = Options::default();
    options.strict_booleans = true;
    options.with_snippet = false;
    options.duplicate_keys = DuplicateKeyPolicy::PassThrough;
    options.alias_limits.max_total_replayed_events = MOST_OF_ALIASES;
    let mut budget = Budget::default();
    budget.max_depth = DEEPEST;
    budget.flow_nesting_limit = DEEPEST;
    budget.max_nodes = MOST_VALUES;
    budget.max_events = 2 * MOST_VALUES;
    budget.max_aliases = 1_000;
    budget.max_documents = MOST_DOCUMENTS;
    options.budget = Some(budget);
    options
}

/// What a document is and gives; `None` where it is nothing that can be used.
fn document(value: Value, positions: Positions, problems: &mut Vec<Problem>) -> Option<Document> {
    // What is behind the last `---` is often nothing.
    if value.is_null() {
        return None;
    }
    let kind = typed::header(&value, problems)?;
    let object = match kind {
        DocumentKind::BareFlow => None,
        DocumentKind::Object(kind) => typed::object(kind, &value, problems),
    };
    Some(Document { kind, object, value, positions })
}
