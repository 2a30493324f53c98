//! The tables, and how an older file becomes one of today.

use super::StoreError;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::path::Path;

/// `PRAGMA application_id` of our files: "cnrd".
const APPLICATION_ID: i64 = 0x636e_7264;

/// Every schema there was, in order; the version a file has is `PRAGMA user_version`, the number of entries applied to it.
const MIGRATIONS: &[(i64, &str)] = &[
    (
        1,
        "CREATE TABLE rollout (
        key INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        rule TEXT NOT NULL,
        number INTEGER NOT NULL,
        opened_ms INTEGER NOT NULL,
        version TEXT NOT NULL,
        state TEXT NOT NULL,
        over INTEGER NOT NULL,
        last_seq INTEGER NOT NULL,
        UNIQUE (rule, number)
    );
    CREATE INDEX rollout_unfinished ON rollout (over) WHERE over = 0;
    CREATE TABLE line (
        rollout INTEGER NOT NULL REFERENCES rollout (key),
        seq INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        json TEXT NOT NULL,
        PRIMARY KEY (rollout, seq)
    );",
    ),
    (
        2,
        "CREATE TABLE kept (
        rule TEXT PRIMARY KEY,
        json TEXT NOT NULL
    );
    ALTER TABLE rollout ADD COLUMN ended_ms INTEGER;
    ALTER TABLE rollout ADD COLUMN raw INTEGER NOT NULL DEFAULT 1;
    UPDATE rollout SET ended_ms = coalesce((SELECT at_ms FROM line WHERE line.rollout = key AND seq = last_seq), opened_ms)
        WHERE over = 1;",
    ),
    (
        3,
        "ALTER TABLE rollout ADD COLUMN template TEXT;
    CREATE TABLE noted (
        rule TEXT NOT NULL,
        workload TEXT NOT NULL,
        template TEXT,
        PRIMARY KEY (rule, workload)
    );
    CREATE TABLE rolled_back (
        rule TEXT NOT NULL,
        template TEXT NOT NULL,
        PRIMARY KEY (rule, template)
    );",
    ),
    (
        4,
        "CREATE TABLE reading (
        rule TEXT NOT NULL,
        workload TEXT NOT NULL,
        json TEXT NOT NULL,
        PRIMARY KEY (rule, workload)
    );
    CREATE TABLE renamed (
        rule TEXT NOT NULL,
        was TEXT NOT NULL,
        template TEXT NOT NULL,
        PRIMARY KEY (rule, was)
    );",
    ),
];

/// The version this build writes.
const KNOWN: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// Brings the file to today's schema, in one transaction.
///
/// # Errors
/// It belongs to another program, is newer, or cannot be written.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = number(&tx, "PRAGMA user_version")?;
    if found > KNOWN {
        return Err(StoreError::Newer { path: path.to_owned(), found, known: KNOWN });
    }
    refuse_a_strangers_file(&tx, path)?;
    for (version, sql) in MIGRATIONS.iter().filter(|(version, _)| *version > found) {
        tx.execute_batch(sql)?;
        tx.pragma_update(None, "user_version", version)?;
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    Ok(tx.commit()?)
}

fn refuse_a_strangers_file(tx: &Transaction<'_>, path: &Path) -> Result<(), StoreError> {
    let empty = number(tx, "SELECT count(*) FROM sqlite_schema")? == 0;
    if empty || number(tx, "PRAGMA application_id")? == APPLICATION_ID {
        return Ok(());
    }
    let why = "is a database of another program: give another --data folder".to_owned();
    Err(StoreError::Path { path: path.to_owned(), why })
}

fn number(tx: &Transaction<'_>, sql: &str) -> rusqlite::Result<i64> {
    tx.query_row(sql, [], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_rise_one_by_one() {
        for (position, (version, _)) in MIGRATIONS.iter().enumerate() {
            assert_eq!(*version, position as i64 + 1);
        }
    }
}
