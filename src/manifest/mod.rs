//! Manifests: YAML or JSON text → objects, with the line and column of whatever is wrong. Pure: it imports `model` only.
//!
//! Every manifest enters here. The text becomes a generic tree with places; its header says what it is; then the concrete
//! type is read. All problems of a file are found in one go, as far as the text can be read at all.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod diagnostics;
mod names;
#[cfg(test)]
mod tests;
mod tree;
mod typed;

pub use diagnostics::{diagnose, render};
pub use names::{flow_name, is_name, job_name, similar};
pub use tree::{Place, Positions};

use crate::model::{AnyObject, Diagnostic, Kind, Problem, Severity};
use serde_json::Value;
use serde_yaml::{Budget, Options, Spanned};
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

/// Parses a manifest; `file` is its name in messages.
pub fn parse(file: &str, text: &[u8]) -> Parsed {
    let mut parsed = Parsed::default();
    let text = match std::str::from_utf8(text) {
        Ok(text) => text,
        Err(error) => {
            parsed.diagnostics.push(diagnostics::not_utf8(file, text, &error));
            return parsed;
        }
    };
    let trees: Vec<Spanned<Tree>> = match serde_yaml::from_multiple_with_options(text, options()) {
        Ok(trees) => trees,
        Err(error) => {
            parsed.diagnostics.push(diagnostics::syntax(file, text, &error));
            return parsed;
        }
    };
    for tree in trees {
        let (value, positions) = tree::take_apart(tree);
        let mut problems = Vec::new();
        let document = document(value, positions, &mut problems);
        for problem in &problems {
            parsed.diagnostics.push(diagnose(file, text.as_bytes(), &document.1, problem));
        }
        parsed.documents.extend(document.0);
    }
    if parsed.documents.is_empty() && parsed.diagnostics.is_empty() {
        parsed.diagnostics.push(Diagnostic {
            severity: Severity::Warning,
            file: file.to_owned(),
            line: 0,
            column: 0,
            source_line: String::new(),
            message: "the file holds no document".into(),
            help: Some("an object has `kind:`, a flow has `steps:`".into()),
        });
    }
    parsed
}

/// The value of a text that is no manifest, such as a file of configuration; else what is wrong with it, and where.
pub fn plain(text: &str) -> Result<Value, String> {
    let tree: Spanned<Tree> = serde_yaml::from_str_with_options(text, options()).map_err(|error| {
        let diagnostic = diagnostics::syntax("", text, &error);
        format!("line {}: {}", diagnostic.line, diagnostic.message)
    })?;
    Ok(tree::take_apart(tree).0)
}

/// Strict booleans: `y` and `no` are words. The budget stops an alias bomb long before it costs anything.
fn options() -> Options {
    let mut options = Options::default();
    options.strict_booleans = true;
    options.with_snippet = false;
    let mut budget = Budget::default();
    budget.max_depth = 48;
    budget.flow_nesting_limit = 48;
    budget.max_nodes = 200_000;
    budget.max_events = 500_000;
    budget.max_aliases = 1_000;
    budget.max_documents = 1_000;
    options.budget = Some(budget);
    options
}

/// What a document is and gives; `None` where it is nothing that can be used.
fn document(value: Value, positions: Positions, problems: &mut Vec<Problem>) -> (Option<Document>, Positions) {
    // What is behind the last `---` is often nothing.
    if value.is_null() {
        return (None, positions);
    }
    let kind = typed::header(&value, problems);
    let document = kind.map(|kind| {
        let object = match kind {
            DocumentKind::BareFlow => None,
            DocumentKind::Object(kind) => typed::object(kind, &value, problems),
        };
        Document { kind, object, value, positions: positions.clone() }
    });
    (document, positions)
}
