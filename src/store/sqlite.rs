//! The journal in one SQLite file.

use super::{Answer, Listed, Store, StoreError};
use crate::model::journal::{Entry, Event, Opened};
use crate::model::{RolloutId, Timestamp};
use std::path::{Path, PathBuf};

/// The open journal.
#[derive(Debug)]
pub struct Sqlite {
    path: PathBuf,
}

impl Sqlite {
    /// Opens, or creates, the journal in this folder (the folder is created too).
    ///
    /// # Errors
    /// The folder cannot be written, the file is no journal, its schema is newer, or another canaryd has it open.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Ok(Self { path: folder.join("journal.db") })
    }

    fn unbuilt<T: Send + 'static>(&self) -> Answer<'_, T> {
        Box::pin(std::future::ready(Err(StoreError::Path { path: self.path.clone(), why: "not built".to_owned() })))
    }
}

impl Store for Sqlite {
    fn open(&self, _at: Timestamp, _opened: Opened) -> Answer<'_, RolloutId> {
        self.unbuilt()
    }

    fn append(&self, _id: &RolloutId, _at: Timestamp, _events: Vec<Event>) -> Answer<'_, u64> {
        self.unbuilt()
    }

    fn load(&self, _id: &RolloutId) -> Answer<'_, Vec<Entry>> {
        self.unbuilt()
    }

    fn list(&self, _rule: Option<&str>, _most: usize) -> Answer<'_, Vec<Listed>> {
        self.unbuilt()
    }

    fn unfinished(&self) -> Answer<'_, Vec<Listed>> {
        self.unbuilt()
    }

    fn close(&self) -> Answer<'_, ()> {
        self.unbuilt()
    }
}
