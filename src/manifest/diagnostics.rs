//! Problems with their places, and how they are shown: as a compiler does.

use super::tree::Positions;
use crate::model::{Diagnostic, Problem, Severity};
use std::str::Utf8Error;

/// A problem with its place in a file.
pub fn diagnose(file: &str, text: &[u8], positions: &Positions, problem: &Problem) -> Diagnostic {
    let (line, column) = if problem.at_key { positions.key(&problem.path) } else { positions.value(&problem.path) };
    let source_line = line_of(text, line);
    // Inside a quoted scalar the text begins behind the quote.
    let quoted = source_line.chars().nth(column.saturating_sub(1)).is_some_and(|c| matches!(c, '"' | '\''));
    let offset = if problem.offset > 0 { problem.offset + usize::from(quoted) } else { 0 };
    Diagnostic {
        severity: problem.severity,
        file: file.to_owned(),
        line,
        column: column + offset,
        source_line,
        message: problem.message.clone(),
        help: problem.help.clone(),
    }
}

fn line_of(text: &[u8], line: usize) -> String {
    let found = text.split(|byte| *byte == b'\n').nth(line.saturating_sub(1)).unwrap_or_default();
    String::from_utf8_lossy(found).trim_end_matches('\r').to_owned()
}

/// The text cannot be read as YAML at all.
pub(super) fn syntax(file: &str, text: &str, error: &serde_yaml::Error) -> Diagnostic {
    let location = error.location();
    let line = location.map_or(0, |at| usize::try_from(at.line()).unwrap_or(0));
    let column = location.map_or(0, |at| usize::try_from(at.column()).unwrap_or(0));
    let source_line = if line > 0 { line_of(text.as_bytes(), line) } else { String::new() };
    let tab = source_line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t');
    let help = if tab {
        "indent with spaces; YAML allows no tabs there"
    } else {
        "check the indentation, the quotes, and the brackets there and in the line before"
    };
    // The crate's message ends with the place, which is said in front already.
    let whole = error.without_snippet().to_string();
    let message = whole.split(" at line ").next().unwrap_or(&whole).to_owned();
    Diagnostic {
        severity: Severity::Error,
        file: file.to_owned(),
        line,
        column,
        source_line,
        message: message.lines().next().unwrap_or_default().to_owned(),
        help: Some(help.into()),
    }
}

pub(super) fn not_utf8(file: &str, text: &[u8], error: &Utf8Error) -> Diagnostic {
    let before = text.get(..error.valid_up_to()).unwrap_or_default();
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let column = String::from_utf8_lossy(before.get(start..).unwrap_or_default()).chars().count() + 1;
    Diagnostic {
        severity: Severity::Error,
        file: file.to_owned(),
        line,
        column,
        source_line: line_of(text, line),
        message: "the text is not UTF-8".into(),
        help: Some("save the file as UTF-8".into()),
    }
}

/// A diagnostic as a person reads it.
pub fn render(diagnostic: &Diagnostic, colour: bool) -> String {
    let paint = |code: &str, text: &str| if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
    let head = match diagnostic.severity {
        Severity::Error => paint("1;31", "error"),
        Severity::Warning => paint("1;33", "warning"),
    };
    let mut text = format!("{head}: {}\n", diagnostic.message);
    if diagnostic.line == 0 {
        text.push_str(&format!(" --> {}\n", diagnostic.file));
    } else {
        let number = diagnostic.line.to_string();
        let margin = " ".repeat(number.len());
        text.push_str(&format!("{margin}--> {}:{number}:{}\n", diagnostic.file, diagnostic.column));
        let source: String = diagnostic.source_line.chars().take(200).collect();
        text.push_str(&format!("{margin} |\n{number} | {source}\n"));
        // Tabs stay tabs, so that the caret is below its character.
        let before = diagnostic.source_line.chars().take(diagnostic.column.saturating_sub(1));
        let indent: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        text.push_str(&format!("{margin} | {indent}{}\n", paint("1", "^")));
    }
    if let Some(help) = &diagnostic.help {
        text.push_str(&format!("help: {help}\n"));
    }
    text
}
