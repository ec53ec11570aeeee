//! The bounds of an evaluation, and the count of its steps.

use super::error::{Res, too_large};
use std::cell::Cell;

/// Characters of an expression's text.
pub const MAX_TEXT: usize = 16_384;
/// Levels of nesting in an expression.
pub const MAX_DEPTH: usize = 64;
/// Levels of nesting in a value.
pub const MAX_VALUE_DEPTH: usize = 160;
/// Steps of one evaluation.
pub const MAX_STEPS: u64 = 1_000_000;
/// Elements of a value that is made.
pub const MAX_ITEMS: usize = 100_000;
/// Bytes of a text that is made.
pub const MAX_BYTES: usize = 1 << 20;
/// Bytes of all text in a result.
pub const MAX_RESULT_BYTES: usize = 16 << 20;
/// Characters of a regular expression.
pub const MAX_PATTERN: usize = 1_000;
/// Bytes of a compiled regular expression.
pub const MAX_REGEX_BYTES: usize = 256 << 10;

/// Bytes of text that can be looked through for one step.
const BYTES_A_STEP: usize = 64;

/// How many steps are left.
pub(super) struct Meter {
    left: Cell<u64>,
}

impl Meter {
    pub(super) fn new() -> Meter {
        Meter { left: Cell::new(MAX_STEPS) }
    }

    /// Takes steps.
    pub(super) fn charge(&self, steps: u64) -> Res<()> {
        match self.left.get().checked_sub(steps) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => {
                self.left.set(0);
                too_large(format!("the expression takes more than {MAX_STEPS} steps"))
            }
        }
    }

    /// Takes the steps to look through a text.
    pub(super) fn scan(&self, text: &str) -> Res<()> {
        self.charge((text.len() / BYTES_A_STEP) as u64)
    }

    /// Takes the steps to make a text of so many bytes, or refuses.
    pub(super) fn text(&self, bytes: usize) -> Res<()> {
        if bytes > MAX_BYTES {
            return too_large(format!("a text of more than {MAX_BYTES} bytes"));
        }
        self.charge((bytes / BYTES_A_STEP) as u64)
    }

    /// Takes the steps to make a value with so many elements, or refuses.
    pub(super) fn items(&self, count: usize) -> Res<()> {
        if count > MAX_ITEMS {
            return too_large(format!("a value of more than {MAX_ITEMS} elements"));
        }
        self.charge(count as u64)
    }

    /// Refuses a value that is nested too deeply.
    pub(super) fn depth(&self, depth: usize) -> Res<()> {
        if depth > MAX_VALUE_DEPTH {
            return too_large(format!("a value with more than {MAX_VALUE_DEPTH} levels"));
        }
        self.charge(1)
    }
}
