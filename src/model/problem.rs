//! What is wrong with something that a person wrote.

use serde::{Deserialize, Serialize};

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It will run, perhaps not as meant.
    Warning,
    /// It will not run.
    Error,
}

/// One step of the way from the root of a document to a value in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PathSegment {
    /// The entry of this key of a mapping.
    Key(String),
    /// The entry of this index of a list, from 0.
    Index(usize),
}

/// Where in a document: from its root.
pub type DocPath = Vec<PathSegment>;

/// One problem of a document, by path; `manifest` knows the line and column of each path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// The value (or, if `at_key`, the key of it) that is wrong.
    pub path: DocPath,
    /// Whether the key itself is meant: an unknown or misspelt one.
    pub at_key: bool,
    /// Within the value's text, how many characters further to the right (for expressions).
    pub offset: usize,
    /// What is wrong: a lower-case fragment.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// One problem with its place, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Diagnostic {
    /// How bad.
    pub severity: Severity,
    /// The file, as it was named.
    pub file: String,
    /// From 1; 0: the file as a whole.
    pub line: usize,
    /// From 1, in characters; 0: the line as a whole.
    pub column: usize,
    /// The line's text.
    pub source_line: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}
