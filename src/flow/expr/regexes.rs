//! `regex_extract`.

use super::error::{Res, too_large, type_error, value_error};
use super::eval::Eval;
use super::meter::{MAX_BYTES, MAX_PATTERN, MAX_REGEX_BYTES};
use super::value::V;
use regex::{Regex, RegexBuilder};

/// What compiling a pattern costs; it bounds how many an expression can compile.
const COMPILE_STEPS: u64 = 20_000;
/// Levels of nesting in a pattern.
const MAX_NESTING: u32 = 40;

/// The first group of the first match, the whole match if there is no group, `default` if there is no match.
pub(super) fn extract<'a>(
    eval: &Eval<'a>,
    pattern: Option<V<'a>>,
    text: Option<V<'a>>,
    default: Option<V<'a>>,
) -> Res<V<'a>> {
    let (Some(V::Str(pattern)), Some(V::Str(text))) = (&pattern, &text) else {
        return type_error("regex_extract needs a pattern and a text, both str; str(…) makes one");
    };
    if text.len() > MAX_BYTES {
        return too_large(format!("regex_extract searches at most {MAX_BYTES} bytes; take a part, like [-2000:]"));
    }
    // A search takes time by text × pattern at worst.
    eval.meter.charge((text.len() as u64 / 16) * (1 + pattern.len() as u64 / 32))?;
    let regex = compiled(eval, pattern)?;
    let whole = regex.captures(text);
    // Python's `$` also matches before a newline that ends the text; here that is a second try, without the newline.
    let trimmed = match text.strip_suffix('\n') {
        Some(line) if pattern.contains('$') => regex.captures(line),
        _ => None,
    };
    let start = |found: &regex::Captures<'_>| found.get(0).map_or(usize::MAX, |found| found.start());
    let found = match (whole, trimmed) {
        (Some(whole), Some(trimmed)) => Some(if start(&trimmed) < start(&whole) { trimmed } else { whole }),
        (whole, trimmed) => whole.or(trimmed),
    };
    let Some(found) = found else { return Ok(default.unwrap_or(V::None)) };
    let group = if found.len() > 1 { found.get(1) } else { found.get(0) };
    Ok(group.map_or(V::None, |group| V::Str(text.part(group.range()))))
}

fn compiled(eval: &Eval<'_>, pattern: &str) -> Res<Regex> {
    if let Some(regex) = eval.regexes.borrow().get(pattern) {
        return Ok(regex.clone());
    }
    eval.meter.charge(COMPILE_STEPS)?;
    if pattern.chars().count() > MAX_PATTERN {
        return too_large(format!("a pattern of more than {MAX_PATTERN} characters"));
    }
    let built = RegexBuilder::new(&translated(pattern))
        .size_limit(MAX_REGEX_BYTES)
        .dfa_size_limit(MAX_REGEX_BYTES)
        .nest_limit(MAX_NESTING)
        .build();
    match built {
        Ok(regex) => {
            eval.regexes.borrow_mut().insert(pattern.to_string(), regex.clone());
            Ok(regex)
        }
        Err(regex::Error::CompiledTooBig(_)) => too_large("the pattern is too large when compiled; use smaller counts"),
        Err(error) => {
            // The crate's message draws the pattern over several lines; its last line says what is wrong.
            let message = error.to_string();
            let reason = message.lines().last().unwrap_or_default().trim_start_matches("error: ");
            value_error(format!("the pattern does not work here: {reason}"))
        }
    }
}

/// Python's spelling of a pattern → this crate's: `\Z`, and what has a meaning in a class here but not there.
fn translated(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars().peekable();
    let mut class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('Z') if !class => out.push_str("\\z"),
                Some(next) => out.extend(['\\', next]),
                None => out.push('\\'),
            },
            '[' if !class => {
                class = true;
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                // A bracket that comes first stands for itself.
                if chars.next_if_eq(&']').is_some() {
                    out.push_str("\\]");
                }
            }
            ']' if class => {
                class = false;
                out.push(']');
            }
            '[' => out.push_str("\\["),
            '&' | '~' if class => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}
