//! Query packs: which counters give the metrics on a stack (PACKS 6).

/// Packs by name.
#[derive(Clone, Debug, Default)]
pub struct Packs;

impl Packs {
    /// Those compiled in.
    pub fn builtin() -> Self {
        Self
    }

    /// Those compiled in and those in a folder of `*.yaml` files; a file replaces a compiled-in pack of its name.
    ///
    /// # Errors
    /// Every problem found, each with its file.
    pub fn with_folder(_folder: &std::path::Path) -> Result<Self, Vec<String>> {
        Ok(Self)
    }

    /// Names, sorted.
    pub fn names(&self) -> Vec<&str> {
        known_packs()
    }
}

/// Names of the packs compiled in.
pub fn known_packs() -> Vec<&'static str> {
    vec!["envoy", "http"]
}
