//! How much a JSON text would be, unpacked. A value of two bytes of text takes some three hundred in memory, so the length of
//! the text alone limits nothing.

/// No outputs, and no message, hold more values than this: some 35 MB.
pub const MOST_VALUES: usize = 100_000;

/// Whether a JSON text holds more than [`MOST_VALUES`] values. Of a text that is no JSON the answer means nothing.
pub fn is_too_much(json: &[u8]) -> bool {
    let (mut values, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in json {
        match (in_text, escaped, byte) {
            (true, true, _) => escaped = false,
            (true, false, b'\\') => escaped = true,
            (_, _, b'"') => in_text = !in_text,
            (false, _, b',' | b'[' | b'{') => values += 1,
            _ => {}
        }
    }
    values > MOST_VALUES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_and_what_is_within_texts_is_not() {
        for (item, count, expected) in [
            ("0,", MOST_VALUES - 1, false),
            ("0,", MOST_VALUES, true),
            ("[],", MOST_VALUES / 2 + 1, true),
            (r#"",[{\",[\\","#, MOST_VALUES - 1, false),
            (r#""\\\",,,,","#, MOST_VALUES - 1, false),
            (r#""x","#, MOST_VALUES, true),
        ] {
            let text = format!("[{}0]", item.repeat(count));
            assert_eq!(is_too_much(text.as_bytes()), expected, "{item} {count} times");
        }
    }
}
