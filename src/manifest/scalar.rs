//! From a character of a text's value to where it is written: through quotes, escapes, folded lines, and indentation.

/// How the value of a text is written.
#[derive(Debug, Clone, Default)]
pub(super) enum Written {
    /// It is no text.
    #[default]
    NoText,
    /// As it is, perhaps in quotes.
    AsItIs {
        /// Whether it begins behind a quote.
        quoted: bool,
    },
    /// In another way; the value.
    Otherwise(Box<str>),
}

impl Written {
    /// How this value is written as `raw`.
    pub(super) fn of(value: &str, raw: &str) -> Written {
        let inner = raw.get(1..raw.len().saturating_sub(1)).filter(|_| raw.starts_with(['"', '\'']));
        if inner == Some(value) {
            Written::AsItIs { quoted: true }
        } else if raw == value {
            Written::AsItIs { quoted: false }
        } else {
            Written::Otherwise(value.into())
        }
    }

    /// Where in `raw` the character of this number (from 0) is written. White space that folding may have changed is
    /// found behind the character before it.
    pub(super) fn byte_of(&self, raw: &str, number: usize) -> Option<usize> {
        let nth = |text: &str, number| text.char_indices().nth(number).map_or(text.len(), |(at, _)| at);
        match self {
            Written::NoText => None,
            Written::AsItIs { quoted: false } => Some(nth(raw, number)),
            Written::AsItIs { quoted: true } => {
                let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
                Some(1 + nth(inner, number))
            }
            Written::Otherwise(value) => {
                // All other characters are written once and in order.
                let before = value.chars().take(number).filter(|c| !c.is_whitespace()).count();
                let is_blank = value.chars().nth(number).is_none_or(char::is_whitespace);
                let mut written = characters(raw).into_iter().filter(|written| !written.meaning.is_whitespace());
                Some(match (is_blank, before.checked_sub(1)) {
                    (true, None) => 0,
                    (true, Some(last)) => written.nth(last).map_or(raw.len(), |written| written.end),
                    (false, _) => written.nth(before).map_or(raw.len(), |written| written.start),
                })
            }
        }
    }
}

struct Character {
    start: usize,
    end: usize,
    meaning: char,
}

/// The characters of a scalar as they are written.
fn characters(raw: &str) -> Vec<Character> {
    let quote = raw.chars().next().filter(|c| matches!(c, '"' | '\'') && raw.len() > 1 && raw.ends_with(*c));
    let end = raw.len() - usize::from(quote.is_some());
    let mut at = usize::from(quote.is_some());
    let mut found = Vec::new();
    while let Some(rest) = raw.get(at..end)
        && let Some(first) = rest.chars().next()
    {
        let (length, meaning) = match (quote, first) {
            (Some('\''), '\'') => (2, '\''),
            (Some('"'), '\\') => escape(rest),
            (_, other) => (other.len_utf8(), other),
        };
        found.push(Character { start: at, end: at + length, meaning });
        at += length;
    }
    found
}

/// What an escape at the beginning of this text means, and how long it is.
fn escape(text: &str) -> (usize, char) {
    let hex = |from: usize, digits: usize| u32::from_str_radix(text.get(from..from + digits)?, 16).ok();
    let Some(letter) = text.chars().nth(1) else { return (1, '\\') };
    let digits = match letter {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        'n' | '\n' | '\r' | 'L' | 'P' | 'N' => return (2, '\n'),
        't' | ' ' | '_' | 'v' | 'f' | '\t' => return (2, ' '),
        other => return (1 + other.len_utf8(), other),
    };
    let code = hex(2, digits).unwrap_or(0);
    // JSON writes what is beyond the first 65,536 characters as a pair.
    let is_pair = (0xd800..0xdc00).contains(&code) && text.get(6..8) == Some("\\u");
    let length = (2 + digits + if is_pair { 6 } else { 0 }).min(text.len());
    (length, char::from_u32(code).unwrap_or('\u{fffd}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_found_where_they_are_written() {
        // (value, as written, character, what stands there)
        for (value, raw, number, expected) in [
            ("a == b", "a == b", 5, "b"),
            ("é == b", "é == b", 5, "b"),
            ("a == b", "'a == b'", 5, "b'"),
            ("a == b", "\"a == b\"", 6, "\""),
            ("it's x", "'it''s x'", 5, "x'"),
            ("\té x", r#""\t\u00e9 x""#, 3, "x\""),
            ("😀 x", r#""\ud83d\ude00 x""#, 2, "x\""),
            ("one two", "one\r\n      two", 4, "two"),
            ("one\ntwo\n", "one\r\n      two\r\n   ", 5, "wo\r\n   "),
            ("one\ntwo\n", "one\n  two\n", 8, "\n"),
            ("a b", "\"a \\\n  b\"", 2, "b\""),
        ] {
            let at = Written::of(value, raw).byte_of(raw, number).unwrap();
            assert_eq!(&raw[at..], expected, "{value} as {raw}");
        }
        assert_eq!(Written::NoText.byte_of("1", 0), None);
    }
}
