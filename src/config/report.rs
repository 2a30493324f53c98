//! What is wrong with what was written, all of it at once.

use std::fmt;

/// One mistake, where it is and the way out of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file as it was named, or the environment variable (`CANARYD_LISTEN`) or flag (`--listen`) that says it.
    pub file: String,
    /// Line in the file, 1-based; 0 where there is none.
    pub line: u64,
    /// Path of the key, such as `steps[2].weight`; empty for the file as a whole.
    pub path: String,
    /// What is wrong, with the offending value.
    pub what: String,
    /// What to write instead; may be empty.
    pub way_out: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        for part in [&self.path, &self.what, &self.way_out] {
            if !part.is_empty() {
                write!(f, ": {part}")?;
            }
        }
        Ok(())
    }
}

/// Every problem found, in the order of files and lines. As an error it shows one per line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// All of them; an error carries at least one.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Nothing wrong so far.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// A problem of a whole file, or of what is no file.
    pub(crate) fn whole(file: impl Into<String>, what: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self { problems: vec![Problem { file: file.into(), line: 0, path: String::new(), what: what.into(), way_out: way_out.into() }] }
    }

    /// Adds another's.
    pub(crate) fn join(&mut self, other: Report) {
        self.problems.extend(other.problems);
    }

    /// In the order of files and lines.
    #[must_use]
    pub(crate) fn sorted(mut self) -> Self {
        self.problems.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        self
    }

    /// `value` if nothing is wrong.
    pub(crate) fn or<T>(self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(self.sorted()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}
