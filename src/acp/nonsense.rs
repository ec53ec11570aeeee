//! What an agent writes that is no message. Programs do talk on stdout, and a line of that is worth a word to a person, not an
//! agent's work. But who writes nothing else does not speak our protocol, and what was too long to be kept may have been the
//! answer that is waited for: then there is no sense in waiting on. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

/// So many lines in a row that are no messages are no accident.
const MOST_IN_A_ROW: u32 = 1000;
/// How much of a line is shown, in bytes.
const SHOWN_BYTES: usize = 80;

/// What was heard that makes no sense.
#[derive(Debug, Default)]
pub(crate) struct Nonsense {
    in_a_row: u32,
    lines: u64,
    first: Option<String>,
    fatal: Option<String>,
}

impl Nonsense {
    /// A message was heard.
    pub(crate) fn sense(&mut self) {
        self.in_a_row = 0;
    }

    /// A line that begins at this byte of `stdout` is no message. Gives the words for the log, but for a flood.
    pub(crate) fn line(&mut self, at: u64, line: &[u8], why: &str) -> Option<String> {
        let shown = String::from_utf8_lossy(line.get(..SHOWN_BYTES).unwrap_or(line));
        let shown = shown.replace(char::is_control, "\u{fffd}");
        let cut = if line.len() > SHOWN_BYTES { "…" } else { "" };
        let words =
            format!("the agent wrote what is no message of ACP (at byte {at} of its stdout): {why}: `{shown}{cut}`");
        self.lines += 1;
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.in_a_row >= MOST_IN_A_ROW {
            self.give_up(format!("{MOST_IN_A_ROW} lines in a row of the agent are no messages; the last: {words}"));
        }
        let is_news = self.lines.is_power_of_two();
        self.first.get_or_insert_with(|| words.clone());
        is_news.then_some(words)
    }

    /// There is no sense in going on. The first reason counts.
    pub(crate) fn give_up(&mut self, why: String) {
        self.fatal.get_or_insert(why);
    }

    /// The first line that is no message, in words.
    pub(crate) fn first(&self) -> Option<&str> {
        self.first.as_deref()
    }

    /// Why there is no sense in going on, if so.
    pub(crate) fn fatal(&self) -> Option<&str> {
        self.fatal.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_sense_are_told_and_only_a_flood_of_them_is_fatal() {
        let mut nonsense = Nonsense::default();
        let told = nonsense.line(7, b"Loading\xff \x1b[1m", "expected value").unwrap();
        assert_eq!(
            told,
            "the agent wrote what is no message of ACP (at byte 7 of its stdout): expected value: `Loading\u{fffd} \u{fffd}[1m`"
        );
        nonsense.sense();
        for _ in 0..10 {
            (0..MOST_IN_A_ROW - 1).for_each(|at| drop(nonsense.line(u64::from(at), b"x", "no")));
            nonsense.sense();
        }
        assert_eq!((nonsense.first(), nonsense.fatal()), (Some(told.as_str()), None));
        let logged = (0..MOST_IN_A_ROW).filter_map(|_| nonsense.line(0, &[b'y'; 100], "no")).count();
        assert!(logged <= 1, "{logged}");
        let fatal = nonsense.fatal().unwrap().to_owned();
        assert!(fatal.starts_with("1000 lines in a row of the agent are no messages; the last: "), "{fatal}");
        nonsense.give_up("another reason".into());
        assert_eq!(nonsense.fatal(), Some(fatal.as_str()));
    }
}
