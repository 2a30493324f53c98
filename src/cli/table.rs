//! Text in aligned columns, with colours that do not count as width.

use crate::telemetry::words;

/// With colours or without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Text alone.
    #[default]
    Plain,
    /// ANSI colours.
    Colours,
}

/// Colour of a cell, as a person reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    /// As it is.
    #[default]
    Plain,
    /// A heading, or what matters less.
    Dim,
    /// All is well.
    Good,
    /// Look at it.
    Odd,
    /// It is bad.
    Bad,
}

impl Tone {
    const fn code(self) -> Option<&'static str> {
        match self {
            Tone::Plain => None,
            Tone::Dim => Some("2"),
            Tone::Good => Some("32"),
            Tone::Odd => Some("33"),
            Tone::Bad => Some("31"),
        }
    }

    /// The text in this colour, where colours are wanted.
    pub(super) fn paint(self, text: &str, style: Style) -> String {
        match self.code() {
            Some(code) if style == Style::Colours && !text.is_empty() => format!("\x1b[{code}m{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }
}

/// One cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell of cleaned text.
    pub(super) fn new(text: &str, tone: Tone) -> Self {
        Self { text: words::printable(text), tone }
    }

    pub(super) fn plain(text: &str) -> Self {
        Self::new(text, Tone::Plain)
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// A row of headings.
pub(super) fn headings(names: &[&str]) -> Vec<Cell> {
    names.iter().map(|name| Cell::new(name, Tone::Dim)).collect()
}

/// Rows as lines, two spaces between columns, each line after `indent`; no spaces at the end of a line.
pub(super) fn lines(rows: &[Vec<Cell>], indent: &str, style: Style) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(Cell::width).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter().map(|row| line(row, &widths, indent, style)).collect()
}

fn line(row: &[Cell], widths: &[usize], indent: &str, style: Style) -> String {
    let last = row.iter().rposition(|cell| !cell.text.is_empty()).map_or(0, |at| at + 1);
    let mut line = indent.to_owned();
    for (at, (cell, width)) in row.iter().zip(widths).enumerate().take(last) {
        line.push_str(&cell.tone.paint(&cell.text, style));
        if at + 1 < last {
            line.push_str(&" ".repeat(width.saturating_sub(cell.width()) + 2));
        }
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_whatever_the_colours() {
        let rows = vec![headings(&["A", "B", ""]), vec![Cell::new("long", Tone::Bad), Cell::plain("x"), Cell::plain("")]];
        assert_eq!(lines(&rows, " ", Style::Plain), " A     B\n long  x\n");
        assert_eq!(lines(&rows, "", Style::Colours), "\x1b[2mA\x1b[0m     \x1b[2mB\x1b[0m\n\x1b[31mlong\x1b[0m  x\n");
    }
}
