//! Aligned columns, as `kubectl` prints them: heads in capitals, two spaces between, no borders. Pure.

use super::console::{Tone, one_line, paint};

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell with a meaning for the eye.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Cell {
        Cell { text: one_line(&text.into()), tone }
    }

    /// What it says.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::toned(text, Tone::Plain)
    }
}

/// Columns whose widths are known, and grow with what is printed.
#[derive(Debug, Clone)]
pub struct Columns {
    heads: Vec<&'static str>,
    widths: Vec<usize>,
}

impl Columns {
    /// Columns with these heads.
    pub fn new(heads: &[&'static str]) -> Columns {
        Columns { heads: heads.to_vec(), widths: heads.iter().map(|head| head.chars().count()).collect() }
    }

    /// Makes room for a row. An empty cell is shown as `-`, so that a program that splits at blanks still counts right.
    pub fn fit(&mut self, row: &[Cell]) {
        for (width, cell) in self.widths.iter_mut().zip(row) {
            *width = (*width).max(cell.text.chars().count()).max(1);
        }
    }

    /// Makes room for what will come in a column, where there is one.
    pub fn reserve(&mut self, head: &str, width: usize) {
        for (_, column) in self.heads.iter().zip(&mut self.widths).filter(|(name, _)| **name == head) {
            *column = (*column).max(width);
        }
    }

    /// The line of heads.
    pub fn head(&self, colour: bool) -> String {
        let heads: Vec<Cell> = self.heads.iter().map(|head| Cell::toned(*head, Tone::Bold)).collect();
        self.line(&heads, colour)
    }

    /// One line, with its line feed.
    pub fn line(&self, row: &[Cell], colour: bool) -> String {
        let mut line = String::new();
        for (index, (cell, width)) in row.iter().zip(&self.widths).enumerate() {
            let text = if cell.text.is_empty() { "-" } else { &cell.text };
            line.push_str(&paint(colour, cell.tone, text));
            if index + 1 < row.len() {
                line.push_str(&" ".repeat(width.saturating_sub(text.chars().count()) + 2));
            }
        }
        line.push('\n');
        line
    }
}

/// A whole table.
pub fn render(heads: &[&'static str], rows: &[Vec<Cell>], colour: bool) -> String {
    let mut columns = Columns::new(heads);
    rows.iter().for_each(|row| columns.fit(row));
    let lines: String = rows.iter().map(|row| columns.line(row, colour)).collect();
    columns.head(colour) + &lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_end_with_their_text() {
        let rows = [
            vec![Cell::from("triage-482"), Cell::toned("Running", Tone::Good), Cell::from("")],
            vec![Cell::from("ü"), Cell::from("Failed"), Cell::from("two\nlines")],
        ];
        insta::assert_snapshot!(render(&["NAME", "PHASE", "MESSAGE"], &rows, false), @r"
        NAME        PHASE    MESSAGE
        triage-482  Running  -
        ü           Failed   two lines
        ");
        let painted = render(&["NAME", "PHASE", "MESSAGE"], &rows, true);
        assert!(painted.contains("\x1b[32mRunning\x1b[0m  -"), "{painted:?}");
    }
}
