//! Where a verb writes to, and whether it may paint.

use super::failure::Failure;
use crate::model::Time;
use std::io::{self, BufWriter, IsTerminal, Write};

/// What something means, for the eye.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    /// As it is.
    #[default]
    Plain,
    /// Well.
    Good,
    /// Not well.
    Bad,
    /// To be looked at.
    Warn,
    /// Beside the point.
    Dim,
    /// A heading.
    Bold,
}

/// The two outputs of a verb. Results go to `out`; what is said about them goes to `err`.
pub struct Console {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    /// Whether `out` is painted.
    pub colour: bool,
    /// Whether `err` is painted.
    pub colour_err: bool,
    /// The time of day: for ages.
    pub now: fn() -> Time,
}

impl Console {
    /// The process's own. Colour only on a terminal, and not with `NO_COLOR`.
    pub fn of_process() -> Console {
        let allowed = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|value| value != "dumb");
        Console {
            colour: allowed && io::stdout().is_terminal(),
            colour_err: allowed && io::stderr().is_terminal(),
            out: Box::new(BufWriter::new(io::stdout())),
            err: Box::new(io::stderr()),
            now: crate::controller::clock,
        }
    }

    /// Writes to `out`, as it is.
    pub fn print(&mut self, text: &str) -> Result<(), Failure> {
        Ok(self.out.write_all(text.as_bytes())?)
    }

    /// Writes a line to `out`.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.print(text)?;
        self.print("\n")
    }

    /// Writes bytes to `out`, as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.out.write_all(bytes)?)
    }

    /// Makes the reader see what was written.
    pub fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }

    /// Says something about the result. Nobody listening is no reason to fail.
    pub fn say(&mut self, text: &str) {
        // In order with what was printed.
        let _ = self.out.flush();
        let _ = writeln!(self.err, "{}", text.trim_end_matches('\n'));
    }

    /// Says what failed.
    pub fn say_error(&mut self, failure: &Failure) {
        let head = paint(self.colour_err, Tone::Bad, "error:");
        self.say(&format!("{head} {failure}"));
    }

    /// The text in the colour of its tone, for `out`.
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        paint(self.colour, tone, text)
    }

    #[cfg(test)]
    pub(super) fn for_test(
        out: impl Write + Send + 'static,
        err: impl Write + Send + 'static,
        now: fn() -> Time,
    ) -> Console {
        Console { out: Box::new(out), err: Box::new(err), colour: false, colour_err: false, now }
    }
}

/// The text in the colour of its tone.
pub fn paint(colour: bool, tone: Tone, text: &str) -> String {
    let code = match tone {
        Tone::Plain => "",
        Tone::Good => "32",
        Tone::Bad => "31",
        Tone::Warn => "33",
        Tone::Dim => "2",
        Tone::Bold => "1",
    };
    if !colour || code.is_empty() || text.is_empty() { text.to_owned() } else { format!("\x1b[{code}m{text}\x1b[0m") }
}

/// Text that others wrote, without what could steer a terminal, or show it in another order than it is. Line feeds and tabs stay.
pub fn harmless(text: &str) -> String {
    text.chars().filter(|c| (!c.is_control() && !is_invisible(*c)) || matches!(c, '\n' | '\t')).collect()
}

/// Marks of direction, and characters of no width.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The same on one line.
pub fn one_line(text: &str) -> String {
    harmless(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\x1b[2J\tb\r\nc\u{9b}"), "a[2J\tb\nc");
        assert_eq!(harmless("a\u{202e}b\u{2066}\u{feff}é"), "abé");
        assert_eq!(one_line("  two\n lines\x07 "), "two lines");
    }
}
