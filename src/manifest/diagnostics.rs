//! Problems with their places, and how they are shown: as a compiler does.

use super::places::{Lines, Positions, Stretch};
use super::tree::Repeated;
use crate::model::{Diagnostic, Problem, Severity};
use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use std::str::Utf8Error;

/// Of a longer line only a part is kept.
const LONGEST_LINE: usize = 240;

/// How much of it is before what is wrong.
const BEFORE: usize = 80;

/// A problem with its place in a file.
pub fn diagnose(file: &str, text: &[u8], positions: &Positions, problem: &Problem) -> Diagnostic {
    let (stretch, used) = positions.find(text, &problem.path, problem.at_key, problem.offset);
    let message = match used {
        Some(used) => {
            format!("{} (used through the alias in line {})", problem.message, positions.lines.line(used.start).0)
        }
        None => problem.message.clone(),
    };
    let found = Diagnostic {
        path: problem.path.clone(),
        help: problem.help.clone(),
        ..Diagnostic::of_file(problem.severity, file, message)
    };
    placed(found, text, &positions.lines, stretch)
}

/// A key that is there twice.
pub(super) fn repeated(file: &str, text: &str, lines: &Lines, repeated: Repeated) -> Diagnostic {
    let key = text.get(repeated.again.start..repeated.again.end()).unwrap_or_default();
    let found = Diagnostic {
        path: repeated.path,
        help: Some(format!("the first is in line {}; keep one of them", lines.line(repeated.first.start).0)),
        ..Diagnostic::of_file(Severity::Error, file, format!("the key `{key}` is there twice"))
    };
    placed(found, text.as_bytes(), lines, repeated.again)
}

/// The same, there.
fn placed(found: Diagnostic, text: &[u8], lines: &Lines, stretch: Stretch) -> Diagnostic {
    let (line, start) = lines.line(stretch.start.min(text.len()));
    let whole = text.get(start..).unwrap_or_default().split(|byte| *byte == b'\n').next().unwrap_or_default();
    let whole = whole.strip_suffix(b"\r").unwrap_or(whole);
    let (before, rest) = whole.split_at(stretch.start.saturating_sub(start).min(whole.len()));
    let meant = rest.get(..stretch.length.min(rest.len())).unwrap_or_default();
    let characters = |part: &[u8]| String::from_utf8_lossy(part).chars().count();
    let column = characters(before) + 1;
    let end_column = column + characters(meant.trim_ascii_end());
    let whole = String::from_utf8_lossy(whole);
    let skipped = if characters(whole.as_bytes()) > LONGEST_LINE { column.saturating_sub(BEFORE + 1) } else { 0 };
    Diagnostic {
        line,
        column,
        end_column,
        source_line: whole.chars().skip(skipped).take(LONGEST_LINE).collect(),
        source_column: if skipped > 0 { skipped + 1 } else { 0 },
        ..found
    }
}

/// The text cannot be read as YAML at all, or would be too much.
pub(super) fn syntax(file: &str, text: &str, lines: &Lines, error: &serde_yaml::Error) -> Diagnostic {
    let (message, help) = match what(error) {
        Wrong::TooMuch(message) => (message, Some("make several files of it".to_owned())),
        Wrong::Known(message, help) => (message.to_owned(), Some(help.to_owned())),
        Wrong::Syntax(message) => (message, None),
    };
    let mut found = Diagnostic::of_file(Severity::Error, file, message.as_str());
    if let Some(location) = error.location() {
        let start = usize::try_from(location.line()).ok().and_then(|line| lines.start(line)).unwrap_or(text.len());
        let before = usize::try_from(location.column()).unwrap_or(0).saturating_sub(1);
        let in_line: usize = text.get(start..).unwrap_or_default().chars().take(before).map(char::len_utf8).sum();
        let stretch = match location.span().byte_offset() {
            Some(_) => Stretch::of(location),
            None => Stretch { start: start + in_line, length: 0 },
        };
        // A tab is told of behind it, or at what it ends in the line before.
        let tab = [Some(start), lines.start(lines.line(start).0 + 1)].into_iter().flatten().find_map(|line| {
            let rest = text.get(line..)?;
            let indent = rest.len() - rest.trim_start_matches([' ', '\t']).len();
            Some(line + rest.get(..indent)?.find('\t')?)
        });
        let tab = tab.filter(|_| message.contains("tab"));
        let stretch = tab.map_or(stretch, |at| Stretch { start: at, length: 1 });
        found = placed(found, text.as_bytes(), lines, stretch);
    }
    let is_tab = found.source_line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t');
    found.help = help.or_else(|| {
        Some(match is_tab {
            true => "indent with spaces; YAML allows no tabs there".into(),
            false => "check the indentation, the quotes, and the brackets there and in the line before".into(),
        })
    });
    found
}

/// Why a text is refused.
enum Wrong {
    TooMuch(String),
    Known(&'static str, &'static str),
    Syntax(String),
}

fn what(error: &serde_yaml::Error) -> Wrong {
    use serde_yaml::Error as E;
    use serde_yaml::budget::BudgetBreach as B;
    let error = error.without_snippet();
    let whole = error.to_string();
    // The crate's message ends with the place, which is said in front already.
    let said = whole.split(" at line ").next().unwrap_or(&whole).lines().next().unwrap_or_default();
    match error {
        E::AliasError { error, .. } => what(error),
        E::Budget { breach: B::Depth { .. }, .. } => Wrong::TooMuch(too_deep()),
        E::Budget { breach: B::Documents { .. }, .. } => {
            Wrong::TooMuch(format!("the file holds more than {} documents", super::MOST_DOCUMENTS))
        }
        E::Budget { breach: B::Nodes { .. } | B::Events { .. }, .. } => {
            Wrong::TooMuch(format!("the file holds more than {} values", super::MOST_VALUES))
        }
        E::Budget { .. } => Wrong::TooMuch("the file holds too many anchors, aliases, or merges".into()),
        E::AliasReplayLimitExceeded { .. }
        | E::AliasReplayCounterOverflow { .. }
        | E::AliasExpansionLimitExceeded { .. }
        | E::AliasReplayStackDepthExceeded { .. } => {
            Wrong::Known("the aliases of the file stand for too much", "write out what they stand for")
        }
        E::RecursiveReferencesRequireWeakTypes { .. } => {
            Wrong::Known("the alias stands inside of what it stands for", "write out what it stands for")
        }
        E::UnknownAnchor { .. } => Wrong::Known(
            "nothing before has the anchor that this alias names",
            "write `&name` before the value, or quote the `*`",
        ),
        E::NonFiniteFloat { .. } => Wrong::Known("a number must be finite", "quote it if it is a text"),
        _ if said.contains("recursion limit") => Wrong::TooMuch(too_deep()),
        _ => Wrong::Syntax(said.to_owned()),
    }
}

fn too_deep() -> String {
    format!("more than {} levels are inside of each other", super::DEEPEST)
}

pub(super) fn not_utf8(file: &str, text: &[u8], lines: &Lines, error: &Utf8Error) -> Diagnostic {
    let length = error.error_len().unwrap_or(1);
    let help = match text {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "it looks like UTF-16; save the file as UTF-8",
        _ => "save the file as UTF-8",
    };
    let found =
        Diagnostic { help: Some(help.into()), ..Diagnostic::of_file(Severity::Error, file, "the text is not UTF-8") };
    placed(found, text, lines, Stretch { start: error.valid_up_to(), length })
}

/// A text of which only so much is read; the place is where that ends.
pub(super) fn too_long(file: &str, text: &[u8], most: usize) -> Diagnostic {
    let (read, _) = text.split_at(most.min(text.len()));
    let message = format!("the file is longer than {} MiB, the most that is read", most >> 20);
    let found = Diagnostic {
        help: Some("make several files of it".into()),
        ..Diagnostic::of_file(Severity::Error, file, message)
    };
    placed(found, read, &Lines::of(read), Stretch { start: most, length: 0 })
}

/// A diagnostic as a person reads it. What stands in the file cannot steer the terminal.
pub fn render(diagnostic: &Diagnostic, colour: bool) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(visible(&diagnostic.message));
    let report = if diagnostic.line == 0 {
        title.element(Origin::path(visible(&diagnostic.file)))
    } else {
        // What was cut off in front is blank, so that the columns are right.
        let mut source = " ".repeat(diagnostic.source_column.saturating_sub(1));
        source.push_str(&visible(&diagnostic.source_line));
        let byte = |column: usize| source.chars().take(column.saturating_sub(1)).map(char::len_utf8).sum::<usize>();
        let span = byte(diagnostic.column)..byte(diagnostic.end_column.max(diagnostic.column));
        title.element(
            Snippet::source(source)
                .path(visible(&diagnostic.file))
                .line_start(diagnostic.line)
                .annotation(AnnotationKind::Primary.span(span)),
        )
    };
    let report = match &diagnostic.help {
        Some(help) => report.element(Level::HELP.message(visible(help))),
        None => report,
    };
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    renderer.render(&[report])
}

/// The same number of characters, without those that steer a terminal; tabs stay.
fn visible(text: &str) -> String {
    let picture = |c: char| match u32::from(c) {
        code @ 0..0x20 => char::from_u32(0x2400 + code).unwrap_or(c),
        _ => char::REPLACEMENT_CHARACTER,
    };
    text.chars().map(|c| if c.is_control() && c != '\t' { picture(c) } else { c }).collect()
}
