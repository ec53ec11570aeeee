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
    /// The column behind what is wrong, in the same line.
    #[serde(default)]
    pub end_column: usize,
    /// The line's text; of a long one, a part around what is wrong.
    pub source_line: String,
    /// The column of the first character of `source_line`; 0 is 1.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub source_column: usize,
    /// The way to it, from the root of its document.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: DocPath,
    /// What is wrong.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Diagnostic {
    /// Something that is wrong with a file as a whole.
    pub fn of_file(severity: Severity, file: impl Into<String>, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity,
            file: file.into(),
            line: 0,
            column: 0,
            end_column: 0,
            source_line: String::new(),
            source_column: 0,
            path: DocPath::new(),
            message: message.into(),
            help: None,
        }
    }
}
