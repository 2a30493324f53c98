//! The folder, its lock, and the file inside.

use super::{StoreError, schema};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

const FILE: &str = "journal.db";
const LOCK: &str = "canaryd.lock";
/// How long SQLite waits for a lock somebody else holds (a backup, a person with the command line tool).
const BUSY_MAX: Duration = Duration::from_secs(5);
/// The write-ahead log is cut back to this after a checkpoint, bytes.
const WAL_BYTES_MAX: i64 = 64 << 20;

/// The open file. The lock is let go after the connection is closed: fields drop in this order.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) connection: Connection,
    _lock: File,
}

impl Journal {
    /// Everything into the main file, then closed.
    pub(super) fn close(self) -> Result<(), StoreError> {
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        self.connection.close().map_err(|(_, e)| e.into())
    }
}

/// Opens or creates the journal of this folder, for this process alone.
pub(super) fn open(folder: &Path) -> Result<Journal, StoreError> {
    fs::create_dir_all(folder).map_err(|e| unusable(folder, &format!("the folder cannot be made: {e}")))?;
    let lock = locked(folder)?;
    let path = folder.join(FILE);
    let connection = connected(&path).map_err(|e| at_path(e, &path))?;
    Ok(Journal { connection, _lock: lock })
}

/// The lock of the operating system: a killed daemon leaves none behind.
fn locked(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join(LOCK);
    let cannot = |e: std::io::Error| unusable(&path, &format!("cannot be written: {e}"));
    let mut lock = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(cannot)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(in_use(folder, &mut lock)),
        Err(TryLockError::Error(e)) => return Err(unusable(&path, &format!("cannot be locked: {e}"))),
    }
    lock.set_len(0).and_then(|()| lock.seek(SeekFrom::Start(0))).map_err(cannot)?;
    write!(lock, "{}", std::process::id()).map_err(cannot)?;
    Ok(lock)
}

fn in_use(folder: &Path, lock: &mut File) -> StoreError {
    let mut pid = String::new();
    // only for the sentence: whoever holds the lock may not have written its number yet
    let _ = lock.take(20).read_to_string(&mut pid);
    let who = if pid.is_empty() { "another canaryd".to_owned() } else { format!("another canaryd (process {pid})") };
    unusable(folder, &format!("{who} uses this folder: stop it, or give this one another --data folder"))
}

fn connected(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_MAX)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(unusable(path, &format!("the file system allows no write-ahead log (journal mode {mode:?}): use a local disk")));
    }
    // a decision is on disk before its effect: FULL, and not NORMAL, which may lose the last commits with the power
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES_MAX)?;
    schema::migrate(&mut connection, path)?;
    Ok(connection)
}

fn unusable(path: &Path, why: &str) -> StoreError {
    StoreError::Path { path: path.to_owned(), why: why.to_owned() }
}

/// SQLite's errors of the opening name no file.
fn at_path(error: StoreError, path: &Path) -> StoreError {
    match error {
        StoreError::Database(why) => unusable(path, &why),
        named => named,
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let way_out = match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                " (it is no SQLite database, or damaged: move it away, or restore a copy)"
            }
            Some(ErrorCode::DiskFull) => " (make room on the disk; writing goes on by itself)",
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                " (canaryd must be able to write the file and its folder)"
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => " (another program holds the file)",
            _ => "",
        };
        Self::Database(format!("{error}{way_out}"))
    }
}
