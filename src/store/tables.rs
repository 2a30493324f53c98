//! The statements. Everything here runs inside a transaction of the caller.

use super::{Ages, Listed, NotedTemplates, Past, Pruned, Readings, StoreError, wire};
use crate::model::journal::{Entry, Event, Kept, Opened};
use crate::model::{RolloutId, State, Timestamp, Waiting};
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use std::collections::{BTreeMap, BTreeSet};

/// Rollouts that one call of `prune` touches at most: a decision of another rollout waits no longer than that.
const PRUNED_MAX: u64 = 8;

/// A line as it is stored.
#[derive(Debug)]
pub(super) struct RawLine {
    seq: i64,
    at: Timestamp,
    json: String,
}

/// Which rollouts.
#[derive(Debug)]
pub(super) enum Of {
    All,
    Rule(String),
    Unfinished,
}

/// A new rollout with the next number of its rule, and its first line.
pub(super) fn open(tx: &Connection, at: Timestamp, mut opened: Opened) -> Result<RolloutId, StoreError> {
    let mut last = tx.prepare_cached("SELECT coalesce(max(number), 0) FROM rollout WHERE rule = :rule")?;
    let number: i64 = last.query_row(named_params! {":rule": opened.rule}, |row| row.get::<_, i64>(0))? + 1;
    let id = RolloutId(format!("{}-{number}", opened.rule));
    opened.id = id.clone();
    let mut insert = tx.prepare_cached(
        "INSERT INTO rollout (id, rule, number, opened_ms, version, state, over, last_seq, template)
         VALUES (:id, :rule, :number, :opened_ms, :version, :state, 0, 0, :template)",
    )?;
    insert.execute(named_params! {
        ":id": id.0, ":rule": opened.rule, ":number": number, ":opened_ms": at.as_millis(),
        ":version": opened.begin.version, ":state": state_text(&id, 0, &State::Waiting(Waiting::Router))?,
        ":template": opened.begin.noted.as_ref().map(|noted| &noted.template),
    })?;
    insert_line(tx, (&id, tx.last_insert_rowid()), 0, at, &Event::Opened(Box::new(opened)))?;
    Ok(id)
}

/// Lines after the last one; the number of the last.
pub(super) fn append(tx: &Connection, id: &RolloutId, lines: &[(Timestamp, Event)]) -> Result<u64, StoreError> {
    let mut find = tx.prepare_cached("SELECT key, last_seq FROM rollout WHERE id = :id")?;
    let found = find.query_row(named_params! {":id": id.0}, |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let (key, mut seq): (i64, i64) = found.ok_or_else(|| StoreError::Unknown(id.0.clone()))?;
    for (at, event) in lines {
        seq += 1;
        insert_line(tx, (id, key), seq, *at, event)?;
    }
    let mut update = tx.prepare_cached("UPDATE rollout SET last_seq = :seq WHERE key = :key")?;
    update.execute(named_params! {":seq": seq, ":key": key})?;
    if let Some((at, state)) = last_state(lines) {
        let mut update = tx.prepare_cached("UPDATE rollout SET state = :state, over = :over, ended_ms = :ended WHERE key = :key")?;
        let text = state_text(id, seq, state)?;
        let ended = state.is_over().then_some(at.as_millis());
        update.execute(named_params! {":state": text, ":over": state.is_over(), ":ended": ended, ":key": key})?;
        remember_end(tx, key, state)?;
    }
    Ok(seq.unsigned_abs())
}

/// Beside the rollouts, which go with time: a template that was rolled back stays so until it has succeeded.
fn remember_end(tx: &Connection, key: i64, state: &State) -> Result<(), StoreError> {
    let sql = match state {
        State::RolledBack => {
            "INSERT OR IGNORE INTO rolled_back (rule, template)
             SELECT rule, template FROM rollout WHERE key = :key AND template IS NOT NULL"
        }
        State::Succeeded => "DELETE FROM rolled_back WHERE (rule, template) IN (SELECT rule, template FROM rollout WHERE key = :key)",
        _ => return Ok(()),
    };
    tx.prepare_cached(sql)?.execute(named_params! {":key": key})?;
    Ok(())
}

fn last_state(lines: &[(Timestamp, Event)]) -> Option<(Timestamp, &State)> {
    lines.iter().rev().find_map(|(at, event)| match event {
        Event::Decided(decision) => Some((*at, &decision.state)),
        _ => None,
    })
}

fn insert_line(tx: &Connection, (id, key): (&RolloutId, i64), seq: i64, at: Timestamp, event: &Event) -> Result<(), StoreError> {
    let json = wire::encode(event).map_err(|why| line_error(id, seq, why))?;
    let mut insert = tx.prepare_cached("INSERT INTO line (rollout, seq, at_ms, json) VALUES (:key, :seq, :at_ms, :json)")?;
    insert.execute(named_params! {":key": key, ":seq": seq, ":at_ms": at.as_millis(), ":json": json})?;
    Ok(())
}

/// All lines of a rollout, not yet read.
pub(super) fn load(connection: &Connection, id: &RolloutId) -> Result<Vec<RawLine>, StoreError> {
    let mut select = connection
        .prepare_cached("SELECT seq, at_ms, json FROM line WHERE rollout = (SELECT key FROM rollout WHERE id = :id) ORDER BY seq")?;
    let lines: Vec<RawLine> = select.query_map(named_params! {":id": id.0}, raw_line)?.collect::<Result<_, _>>()?;
    // every rollout has its first line
    if lines.is_empty() { Err(StoreError::Unknown(id.0.clone())) } else { Ok(lines) }
}

/// The lines of a rollout that tell of its life, not yet read.
pub(super) fn outline(connection: &Connection, id: &RolloutId) -> Result<Vec<RawLine>, StoreError> {
    let begins = |n: usize| format!("substr(json, 1, {}) = ?{}", wire::OUTLINE_BEGINS[n].len(), n + 2);
    let any: Vec<String> = (0..wire::OUTLINE_BEGINS.len()).map(begins).collect();
    let of = "rollout = (SELECT key FROM rollout WHERE id = ?1)";
    let mut select =
        connection.prepare_cached(&format!("SELECT seq, at_ms, json FROM line WHERE {of} AND ({}) ORDER BY seq", any.join(" OR ")))?;
    let named = std::iter::once(id.0.as_str()).chain(wire::OUTLINE_BEGINS);
    let lines: Vec<RawLine> = select.query_map(rusqlite::params_from_iter(named), raw_line)?.collect::<Result<_, _>>()?;
    if lines.is_empty() { Err(StoreError::Unknown(id.0.clone())) } else { Ok(lines) }
}

fn raw_line(row: &Row<'_>) -> rusqlite::Result<RawLine> {
    Ok(RawLine { seq: row.get(0)?, at: Timestamp::from_millis(row.get(1)?), json: row.get(2)? })
}

/// The entries of these lines.
pub(super) fn decoded(id: &RolloutId, lines: Vec<RawLine>) -> Result<Vec<Entry>, StoreError> {
    let entry = |line: RawLine| {
        let event = wire::decode(&line.json).map_err(|why| line_error(id, line.seq, why))?;
        Ok(Entry { seq: line.seq.unsigned_abs(), at: line.at, event })
    };
    lines.into_iter().map(entry).collect()
}

/// The same; a line that cannot be read is a gap.
pub(super) fn salvaged(id: &RolloutId, lines: Vec<RawLine>) -> Vec<Entry> {
    let entry = |line: RawLine| {
        let gap = |why: String| Event::Gap(line_error(id, line.seq, why).to_string());
        Entry { seq: line.seq.unsigned_abs(), at: line.at, event: wire::decode(&line.json).unwrap_or_else(gap) }
    };
    lines.into_iter().map(entry).collect()
}

/// Dispersion for the next rollout of this rule.
pub(super) fn keep(tx: &Connection, rule: &str, kept: &Kept) -> Result<(), StoreError> {
    let json = wire::encode_kept(kept).map_err(StoreError::Database)?;
    let mut put = tx.prepare_cached("INSERT INTO kept (rule, json) VALUES (:rule, :json) ON CONFLICT (rule) DO UPDATE SET json = :json")?;
    put.execute(named_params! {":rule": rule, ":json": json})?;
    Ok(())
}

/// What was kept for this rule.
pub(super) fn kept(connection: &Connection, rule: &str) -> Result<Option<Kept>, StoreError> {
    let mut select = connection.prepare_cached("SELECT json FROM kept WHERE rule = :rule")?;
    let json: Option<String> = select.query_row(named_params! {":rule": rule}, |row| row.get(0)).optional()?;
    json.map(|json| wire::decode_kept(&json).map_err(|why| StoreError::Database(format!("dispersion kept for {rule}: {why}")))).transpose()
}

/// What template this workload of the rule is known to have.
pub(super) fn note(tx: &Connection, rule: &str, workload: &str, template: Option<&str>) -> Result<(), StoreError> {
    let mut put = tx.prepare_cached(
        "INSERT INTO noted (rule, workload, template) VALUES (:rule, :workload, :template)
         ON CONFLICT (rule, workload) DO UPDATE SET template = :template",
    )?;
    put.execute(named_params! {":rule": rule, ":workload": workload, ":template": template})?;
    Ok(())
}

/// The same of all its workloads.
pub(super) fn noted(connection: &Connection, rule: &str) -> Result<NotedTemplates, StoreError> {
    let mut select = connection.prepare_cached("SELECT workload, template FROM noted WHERE rule = :rule")?;
    let pair = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    Ok(select.query_map(named_params! {":rule": rule}, pair)?.collect::<Result<_, _>>()?)
}

/// How a rule's templates were read last.
pub(super) fn readings(connection: &Connection, rule: &str) -> Result<Readings, StoreError> {
    let text = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let mut select = connection.prepare_cached("SELECT workload, json FROM reading WHERE rule = :rule")?;
    let rows: Vec<(String, String)> = select.query_map(named_params! {":rule": rule}, text)?.collect::<Result<_, _>>()?;
    let mut last = BTreeMap::new();
    for (workload, json) in rows {
        let read = serde_json::from_str(&json).map_err(|e| StoreError::Database(format!("templates of {workload} under {rule}: {e}")))?;
        last.insert(workload, read);
    }
    let mut select = connection.prepare_cached("SELECT was, template FROM renamed WHERE rule = :rule")?;
    let renamed = select.query_map(named_params! {":rule": rule}, text)?.collect::<Result<_, _>>()?;
    Ok(Readings { last, renamed })
}

/// A workload's templates are read so from now on, and some have new identities by that.
pub(super) fn read_as(
    tx: &Connection,
    (rule, workload): (&str, &str),
    now: &BTreeMap<String, String>,
    renamed: &BTreeMap<String, String>,
) -> Result<(), StoreError> {
    let json = serde_json::to_string(now).map_err(|e| StoreError::Database(e.to_string()))?;
    let mut put = tx.prepare_cached(
        "INSERT INTO reading (rule, workload, json) VALUES (:rule, :workload, :json)
         ON CONFLICT (rule, workload) DO UPDATE SET json = :json",
    )?;
    put.execute(named_params! {":rule": rule, ":workload": workload, ":json": json})?;
    for (was, template) in renamed {
        rename(tx, rule, was, template)?;
    }
    Ok(())
}

/// Beside what is known of templates the rollouts that are not over: their ends will be known of theirs.
fn rename(tx: &Connection, rule: &str, was: &str, template: &str) -> Result<(), StoreError> {
    const EVERYWHERE: [&str; 5] = [
        "UPDATE renamed SET template = :template WHERE rule = :rule AND template = :was",
        "INSERT INTO renamed (rule, was, template) VALUES (:rule, :was, :template)
         ON CONFLICT (rule, was) DO UPDATE SET template = :template",
        "UPDATE noted SET template = :template WHERE rule = :rule AND template = :was",
        "UPDATE OR REPLACE rolled_back SET template = :template WHERE rule = :rule AND template = :was",
        "UPDATE rollout SET template = :template WHERE rule = :rule AND template = :was AND over = 0",
    ];
    for sql in EVERYWHERE {
        tx.prepare_cached(sql)?.execute(named_params! {":rule": rule, ":was": was, ":template": template})?;
    }
    // an older API server is back
    tx.prepare_cached("DELETE FROM renamed WHERE rule = :rule AND was = template")?.execute(named_params! {":rule": rule})?;
    Ok(())
}

/// Templates whose last rollout was rolled back.
pub(super) fn rolled_back(connection: &Connection, rule: &str) -> Result<BTreeSet<String>, StoreError> {
    let mut select = connection.prepare_cached("SELECT template FROM rolled_back WHERE rule = :rule")?;
    Ok(select.query_map(named_params! {":rule": rule}, |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Whole rollouts first, then polls of those that stay.
pub(super) fn prune(tx: &Connection, ages: Ages) -> Result<Pruned, StoreError> {
    let gone = old_rollouts(tx, ages)?;
    for key in &gone {
        tx.execute("DELETE FROM line WHERE rollout = ?1", [key])?;
        tx.execute("DELETE FROM rollout WHERE key = ?1", [key])?;
    }
    let raw = old_polls(tx, ages, PRUNED_MAX.saturating_sub(gone.len() as u64))?;
    let mut pruned = Pruned { rollouts: gone.len() as u64, polls: 0, more: gone.len() as u64 + raw.len() as u64 >= PRUNED_MAX };
    for key in raw {
        pruned.polls += drop_polls(tx, key)?;
    }
    Ok(pruned)
}

fn old_rollouts(tx: &Connection, ages: Ages) -> Result<Vec<i64>, StoreError> {
    let succeeded = wire::encode_state(&State::Succeeded).map_err(StoreError::Database)?;
    let mut select = tx.prepare_cached(
        "SELECT key FROM rollout AS old WHERE over = 1 AND ended_ms < :before
            AND EXISTS (SELECT 1 FROM rollout WHERE rule = old.rule AND number > old.number)
            AND (state <> :succeeded OR EXISTS (SELECT 1 FROM rollout WHERE rule = old.rule AND number > old.number AND state = :succeeded))
         ORDER BY key LIMIT :most",
    )?;
    let named = named_params! {":before": ages.rollouts_before.as_millis(), ":succeeded": succeeded, ":most": PRUNED_MAX as i64};
    Ok(select.query_map(named, |row| row.get(0))?.collect::<Result<_, _>>()?)
}

fn old_polls(tx: &Connection, ages: Ages, most: u64) -> Result<Vec<i64>, StoreError> {
    let mut select =
        tx.prepare_cached("SELECT key FROM rollout WHERE over = 1 AND raw = 1 AND ended_ms < :before ORDER BY key LIMIT :most")?;
    let named = named_params! {":before": ages.polls_before.as_millis(), ":most": most as i64};
    Ok(select.query_map(named, |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// The first poll's line becomes a gap, the others go; how many polls there were.
fn drop_polls(tx: &Connection, key: i64) -> Result<u64, StoreError> {
    let gap = wire::encode(&Event::Gap("polls were dropped by age (retention_days)".to_owned())).map_err(StoreError::Database)?;
    let is_poll = "rollout = :key AND substr(json, 1, :length) = :begins";
    let (length, begins) = (wire::POLL_BEGINS.len() as i64, wire::POLL_BEGINS);
    let named = named_params! {":key": key, ":length": length, ":begins": begins};
    let first: Option<i64> = tx.query_row(&format!("SELECT min(seq) FROM line WHERE {is_poll}"), named, |row| row.get(0))?;
    let Some(first) = first else {
        tx.execute("UPDATE rollout SET raw = 0 WHERE key = ?1", [key])?;
        return Ok(0);
    };
    let polls = tx.execute(&format!("DELETE FROM line WHERE {is_poll}"), named)?;
    let at: i64 =
        tx.query_row("SELECT at_ms FROM line WHERE rollout = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT 1", [key, first], |row| row.get(0))?;
    tx.execute("INSERT INTO line (rollout, seq, at_ms, json) VALUES (?1, ?2, ?3, ?4)", rusqlite::params![key, first, at, gap])?;
    tx.execute("UPDATE rollout SET raw = 0 WHERE key = ?1", [key])?;
    Ok(polls as u64)
}

/// The newest first.
pub(super) fn list(connection: &Connection, of: &Of, most: usize) -> Result<Vec<Listed>, StoreError> {
    let (which, rule) = match of {
        Of::All => ("", None),
        Of::Rule(rule) => ("WHERE rule = ?1", Some(rule)),
        Of::Unfinished => ("WHERE over = 0", None),
    };
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let sql = format!("SELECT id, rule, opened_ms, version, state, last_seq, ended_ms FROM rollout {which} ORDER BY key DESC LIMIT {most}");
    let mut select = connection.prepare(&sql)?;
    let mut rows = select.query(rusqlite::params_from_iter(rule))?;
    let mut listed = Vec::new();
    while let Some(row) = rows.next()? {
        listed.push(listed_row(row)?);
    }
    Ok(listed)
}

/// A page of the past, the newest first.
pub(super) fn past(connection: &Connection, wanted: &Past) -> Result<Vec<Listed>, StoreError> {
    let before: Option<i64> = match &wanted.before {
        None => None,
        Some(id) => {
            let found = connection.query_row("SELECT key FROM rollout WHERE id = ?1", [&id.0], |row| row.get(0)).optional()?;
            Some(found.ok_or_else(|| StoreError::Unknown(id.0.clone()))?)
        }
    };
    let mut select = connection.prepare_cached(
        "SELECT id, rule, opened_ms, version, state, last_seq, ended_ms FROM rollout
         WHERE (:rule IS NULL OR rule = :rule) AND (:since IS NULL OR opened_ms >= :since) AND (:before IS NULL OR key < :before)
         ORDER BY key DESC LIMIT :most",
    )?;
    let since = wanted.since.map(Timestamp::as_millis);
    let most = i64::try_from(wanted.most).unwrap_or(i64::MAX);
    let mut rows = select.query(named_params! {":rule": wanted.rule, ":since": since, ":before": before, ":most": most})?;
    let mut listed = Vec::new();
    while let Some(row) = rows.next()? {
        listed.push(listed_row(row)?);
    }
    Ok(listed)
}

fn listed_row(row: &Row<'_>) -> Result<Listed, StoreError> {
    let (id, state, seq): (String, String, i64) = (row.get(0)?, row.get(4)?, row.get(5)?);
    let id = RolloutId(id);
    Ok(Listed {
        rule: row.get(1)?,
        opened: Timestamp::from_millis(row.get(2)?),
        ended: row.get::<_, Option<i64>>(6)?.map(Timestamp::from_millis),
        state: wire::decode_state(&state).map_err(|why| line_error(&id, seq, format!("state of the rollout: {why}")))?,
        version: row.get(3)?,
        seq: seq.unsigned_abs(),
        id,
    })
}

fn state_text(id: &RolloutId, seq: i64, state: &State) -> Result<String, StoreError> {
    wire::encode_state(state).map_err(|why| line_error(id, seq, why))
}

fn line_error(id: &RolloutId, seq: i64, why: String) -> StoreError {
    StoreError::Line { rollout: id.0.clone(), seq: seq.unsigned_abs(), why }
}
