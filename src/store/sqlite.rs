//! The journal in one SQLite file. One thread owns the connection; callers send it jobs through a bounded queue and await
//! the answer. Writes that wait together share one commit: a durable commit costs about 4 ms, whatever is in it.

use super::file;
use super::tables::{self, RawLine};
use super::{Ages, Answer, Listed, NotedTemplates, Past, Pruned, Readings, Store, StoreError};
use crate::model::journal::{Entry, Event, Kept, Opened};
use crate::model::{RolloutId, Timestamp};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::Mutex;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use tokio::sync::oneshot;

/// Most jobs waiting for the storage thread: four per rollout at the 1,000 rollouts of DESIGN 10.
const QUEUE_MAX: usize = 4096;
/// Most writes that share one commit.
const GROUP_MAX: usize = 256;

/// The open journal. While it is open no other canaryd can open the same folder.
#[derive(Debug)]
pub struct Sqlite {
    jobs: Mutex<Option<Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<Result<(), StoreError>>>>,
    turned_away: AtomicU64,
}

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

#[derive(Debug)]
enum Job {
    Write(Write),
    Read(Read),
}

#[derive(Debug)]
enum Write {
    Open { at: Timestamp, opened: Box<Opened>, reply: Reply<RolloutId> },
    Append { id: RolloutId, lines: Vec<(Timestamp, Event)>, reply: Reply<u64> },
    Keep { rule: String, kept: Kept, reply: Reply<()> },
    Note { rule: String, workload: String, template: Option<String>, reply: Reply<()> },
    ReadAs { rule: String, workload: String, now: BTreeMap<String, String>, renamed: BTreeMap<String, String>, reply: Reply<()> },
    Prune { ages: Ages, reply: Reply<Pruned> },
}

#[derive(Debug)]
enum Read {
    Load { id: RolloutId, reply: Reply<Vec<RawLine>> },
    Outline { id: RolloutId, reply: Reply<Vec<RawLine>> },
    Past { wanted: Past, reply: Reply<Vec<Listed>> },
    Kept { rule: String, reply: Reply<Option<Kept>> },
    Noted { rule: String, reply: Reply<NotedTemplates> },
    Readings { rule: String, reply: Reply<Readings> },
    RolledBack { rule: String, reply: Reply<BTreeSet<String>> },
    List { of: tables::Of, most: usize, reply: Reply<Vec<Listed>> },
}

impl Sqlite {
    /// Opens, or creates, the journal in this folder (the folder is created too). Blocks for the few milliseconds it takes.
    ///
    /// # Errors
    /// The folder cannot be written, the file is no journal, its schema is newer, or another canaryd has it open.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let journal = file::open(folder)?;
        let (jobs, queue) = bounded(QUEUE_MAX);
        let thread = thread::Builder::new()
            .name("canaryd-journal".to_owned())
            .spawn(move || serve(journal, &queue))
            .map_err(|e| StoreError::Database(format!("the storage thread does not start: {e}")))?;
        Ok(Self { jobs: Mutex::new(Some(jobs)), thread: Mutex::new(Some(thread)), turned_away: AtomicU64::new(0) })
    }

    /// How many jobs were refused because the queue was full.
    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    fn ask<T: Send + 'static>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Answer<'_, T> {
        let (reply, answer) = oneshot::channel();
        let sent = self.send(job(reply));
        Box::pin(async move {
            sent?;
            answer.await.unwrap_or_else(|_| Err(closed()))
        })
    }

    fn send(&self, job: Job) -> Result<(), StoreError> {
        let jobs = self.jobs.lock();
        match jobs.as_ref().ok_or_else(closed)?.try_send(job) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(closed()),
            Err(TrySendError::Full(_)) => {
                self.turned_away.fetch_add(1, Ordering::Relaxed);
                Err(StoreError::Database(format!("{QUEUE_MAX} jobs are waiting already: the disk is too slow, or stands still")))
            }
        }
    }

    fn entries(
        &self,
        id: &RolloutId,
        read: fn(RolloutId, Reply<Vec<RawLine>>) -> Read,
        decode: fn(&RolloutId, Vec<RawLine>) -> Result<Vec<Entry>, StoreError>,
    ) -> Answer<'_, Vec<Entry>> {
        let id = id.clone();
        let lines = self.ask(|reply| Job::Read(read(id.clone(), reply)));
        Box::pin(async move {
            let lines = lines.await?;
            // reading the JSON of a long rollout takes too long for the storage thread, and for a worker of the runtime
            let decoded = tokio::task::spawn_blocking(move || decode(&id, lines)).await;
            decoded.map_err(|e| StoreError::Database(e.to_string()))?
        })
    }

    /// No further job is taken; the thread ends when those waiting are done.
    fn end(&self) -> Option<JoinHandle<Result<(), StoreError>>> {
        self.jobs.lock().take();
        self.thread.lock().take()
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        // a checkpoint that fails here loses nothing: the write-ahead log is read at the next start
        drop(self.end().map(JoinHandle::join));
    }
}

impl Store for Sqlite {
    fn open(&self, at: Timestamp, opened: Opened) -> Answer<'_, RolloutId> {
        self.ask(|reply| Job::Write(Write::Open { at, opened: Box::new(opened), reply }))
    }

    fn write(&self, id: &RolloutId, lines: Vec<(Timestamp, Event)>) -> Answer<'_, u64> {
        self.ask(|reply| Job::Write(Write::Append { id: id.clone(), lines, reply }))
    }

    fn load(&self, id: &RolloutId) -> Answer<'_, Vec<Entry>> {
        self.entries(id, |id, reply| Read::Load { id, reply }, tables::decoded)
    }

    fn salvage(&self, id: &RolloutId) -> Answer<'_, Vec<Entry>> {
        self.entries(id, |id, reply| Read::Load { id, reply }, |id, lines| Ok(tables::salvaged(id, lines)))
    }

    fn outline(&self, id: &RolloutId) -> Answer<'_, Vec<Entry>> {
        self.entries(id, |id, reply| Read::Outline { id, reply }, |id, lines| Ok(tables::salvaged(id, lines)))
    }

    fn past(&self, wanted: Past) -> Answer<'_, Vec<Listed>> {
        self.ask(|reply| Job::Read(Read::Past { wanted, reply }))
    }

    fn keep(&self, rule: &str, kept: Kept) -> Answer<'_, ()> {
        self.ask(|reply| Job::Write(Write::Keep { rule: rule.to_owned(), kept, reply }))
    }

    fn kept(&self, rule: &str) -> Answer<'_, Option<Kept>> {
        self.ask(|reply| Job::Read(Read::Kept { rule: rule.to_owned(), reply }))
    }

    fn noted(&self, rule: &str) -> Answer<'_, NotedTemplates> {
        self.ask(|reply| Job::Read(Read::Noted { rule: rule.to_owned(), reply }))
    }

    fn note(&self, rule: &str, workload: &str, template: Option<String>) -> Answer<'_, ()> {
        self.ask(|reply| Job::Write(Write::Note { rule: rule.to_owned(), workload: workload.to_owned(), template, reply }))
    }

    fn readings(&self, rule: &str) -> Answer<'_, Readings> {
        self.ask(|reply| Job::Read(Read::Readings { rule: rule.to_owned(), reply }))
    }

    fn read_as(&self, rule: &str, workload: &str, now: BTreeMap<String, String>, renamed: BTreeMap<String, String>) -> Answer<'_, ()> {
        self.ask(|reply| Job::Write(Write::ReadAs { rule: rule.to_owned(), workload: workload.to_owned(), now, renamed, reply }))
    }

    fn rolled_back(&self, rule: &str) -> Answer<'_, BTreeSet<String>> {
        self.ask(|reply| Job::Read(Read::RolledBack { rule: rule.to_owned(), reply }))
    }

    fn prune(&self, ages: Ages) -> Answer<'_, Pruned> {
        self.ask(|reply| Job::Write(Write::Prune { ages, reply }))
    }

    fn list(&self, rule: Option<&str>, most: usize) -> Answer<'_, Vec<Listed>> {
        let of = rule.map_or(tables::Of::All, |rule| tables::Of::Rule(rule.to_owned()));
        self.ask(|reply| Job::Read(Read::List { of, most, reply }))
    }

    fn unfinished(&self) -> Answer<'_, Vec<Listed>> {
        self.ask(|reply| Job::Read(Read::List { of: tables::Of::Unfinished, most: usize::MAX, reply }))
    }

    fn close(&self) -> Answer<'_, ()> {
        let thread = self.end();
        Box::pin(async move {
            let Some(thread) = thread else { return Ok(()) };
            let ended = tokio::task::spawn_blocking(move || thread.join()).await;
            ended.map_err(|e| StoreError::Database(e.to_string()))?.unwrap_or_else(|_| Err(closed()))
        })
    }
}

fn closed() -> StoreError {
    StoreError::Database("it is closed".to_owned())
}

/// The storage thread: until no sender is left.
fn serve(mut journal: file::Journal, queue: &Receiver<Job>) -> Result<(), StoreError> {
    let mut next = queue.recv().ok();
    while let Some(job) = next.take() {
        match job {
            Job::Read(read) => answer(&journal.connection, read),
            Job::Write(first) => {
                let (group, after) = group(first, queue);
                write(&mut journal.connection, group);
                next = after;
            }
        }
        next = next.or_else(|| queue.recv().ok());
    }
    journal.close()
}

/// The writes that wait already, up to the first that reads.
fn group(first: Write, queue: &Receiver<Job>) -> (Vec<Write>, Option<Job>) {
    let mut group = vec![first];
    while group.len() < GROUP_MAX {
        match queue.try_recv() {
            Ok(Job::Write(write)) => group.push(write),
            Ok(read) => return (group, Some(read)),
            Err(_) => break,
        }
    }
    (group, None)
}

// somebody who no longer waits for an answer is no error: the line is written all the same
fn answer(connection: &Connection, read: Read) {
    match read {
        Read::Load { id, reply } => drop(reply.send(tables::load(connection, &id))),
        Read::Outline { id, reply } => drop(reply.send(tables::outline(connection, &id))),
        Read::Past { wanted, reply } => drop(reply.send(tables::past(connection, &wanted))),
        Read::Kept { rule, reply } => drop(reply.send(tables::kept(connection, &rule))),
        Read::Noted { rule, reply } => drop(reply.send(tables::noted(connection, &rule))),
        Read::Readings { rule, reply } => drop(reply.send(tables::readings(connection, &rule))),
        Read::RolledBack { rule, reply } => drop(reply.send(tables::rolled_back(connection, &rule))),
        Read::List { of, most, reply } => drop(reply.send(tables::list(connection, &of, most))),
    }
}

/// A write that was tried, and is durable once the transaction around it is.
enum Tried {
    Opened(Result<RolloutId, StoreError>, Reply<RolloutId>),
    Appended(Result<u64, StoreError>, Reply<u64>),
    Kept(Result<(), StoreError>, Reply<()>),
    Pruned(Result<Pruned, StoreError>, Reply<Pruned>),
}

impl Tried {
    fn tell(self, committed: &Result<(), String>) {
        fn both<T>(tried: Result<T, StoreError>, committed: &Result<(), String>) -> Result<T, StoreError> {
            tried.and_then(|value| committed.clone().map(|()| value).map_err(StoreError::Database))
        }
        match self {
            Tried::Opened(tried, reply) => drop(reply.send(both(tried, committed))),
            Tried::Appended(tried, reply) => drop(reply.send(both(tried, committed))),
            Tried::Kept(tried, reply) => drop(reply.send(both(tried, committed))),
            Tried::Pruned(tried, reply) => drop(reply.send(both(tried, committed))),
        }
    }
}

/// One transaction for the group, one savepoint for each: a write that fails takes no other with it.
fn write(connection: &mut Connection, group: Vec<Write>) {
    let mut tried = Vec::with_capacity(group.len());
    let committed = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
        Ok(mut tx) => {
            tried.extend(group.into_iter().map(|write| write.tried(&mut tx)));
            tx.commit().map_err(text)
        }
        Err(e) => {
            let why = text(e);
            tried.extend(group.into_iter().map(|write| write.untried(&why)));
            Ok(())
        }
    };
    for write in tried {
        write.tell(&committed);
    }
}

fn text(error: rusqlite::Error) -> String {
    match StoreError::from(error) {
        StoreError::Database(why) => why,
        other => other.to_string(),
    }
}

impl Write {
    fn tried(self, tx: &mut Transaction<'_>) -> Tried {
        match self {
            Write::Open { at, opened, reply } => Tried::Opened(alone(tx, |c| tables::open(c, at, *opened)), reply),
            Write::Append { id, lines, reply } => Tried::Appended(alone(tx, |c| tables::append(c, &id, &lines)), reply),
            Write::Keep { rule, kept, reply } => Tried::Kept(alone(tx, |c| tables::keep(c, &rule, &kept)), reply),
            Write::Note { rule, workload, template, reply } => {
                Tried::Kept(alone(tx, |c| tables::note(c, &rule, &workload, template.as_deref())), reply)
            }
            Write::ReadAs { rule, workload, now, renamed, reply } => {
                Tried::Kept(alone(tx, |c| tables::read_as(c, (&rule, &workload), &now, &renamed)), reply)
            }
            Write::Prune { ages, reply } => Tried::Pruned(alone(tx, |c| tables::prune(c, ages)), reply),
        }
    }

    fn untried(self, why: &str) -> Tried {
        let why = StoreError::Database(why.to_owned());
        match self {
            Write::Open { reply, .. } => Tried::Opened(Err(why), reply),
            Write::Append { reply, .. } => Tried::Appended(Err(why), reply),
            Write::Keep { reply, .. } | Write::Note { reply, .. } | Write::ReadAs { reply, .. } => Tried::Kept(Err(why), reply),
            Write::Prune { reply, .. } => Tried::Pruned(Err(why), reply),
        }
    }
}

fn alone<T>(tx: &mut Transaction<'_>, write: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
    // a full disk may end the whole transaction: a savepoint would then begin another, and commit what was called failed
    if tx.is_autocommit() {
        return Err(StoreError::Database("a write before it in the same transaction failed".to_owned()));
    }
    let savepoint = tx.savepoint()?;
    let value = write(&savepoint)?;
    savepoint.commit()?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Begin, History, Input, Side};
    use std::time::Duration;

    const AT: Timestamp = Timestamp::from_millis(1_000);

    fn opened() -> Opened {
        Opened {
            id: RolloutId(String::new()),
            rule: "r".to_owned(),
            rule_text: String::new(),
            attached: std::collections::BTreeMap::new(),
            file: String::new(),
            interval: Duration::from_secs(15),
            bounds_ms: Vec::new(),
            scale: 1.0,
            incarnation: 0,
            history: History::default(),
            begin: Begin::new(Side::Second, "", ""),
            kept: None,
        }
    }

    fn of_length(bytes: usize) -> Vec<Event> {
        vec![Event::Input(Box::new(Input::Supersede { version: "x".repeat(bytes) }))]
    }

    fn append(id: &RolloutId, events: Vec<Event>) -> (Write, oneshot::Receiver<Result<u64, StoreError>>) {
        let (reply, answer) = oneshot::channel();
        let lines = events.into_iter().map(|event| (AT, event)).collect();
        (Write::Append { id: id.clone(), lines, reply }, answer)
    }

    /// Writes these together; what each was told.
    fn written(connection: &mut Connection, id: &RolloutId, lengths: &[usize]) -> Vec<Result<u64, StoreError>> {
        let (writes, answers): (Vec<_>, Vec<_>) = lengths.iter().map(|l| append(id, of_length(*l))).unzip();
        write(connection, writes);
        answers.into_iter().map(|mut a| a.try_recv().expect("answered")).collect()
    }

    fn started() -> (tempfile::TempDir, file::Journal, RolloutId) {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = file::open(folder.path()).unwrap();
        let (reply, mut answer) = oneshot::channel();
        write(&mut journal.connection, vec![Write::Open { at: AT, opened: Box::new(opened()), reply }]);
        let id = answer.try_recv().unwrap().unwrap();
        (folder, journal, id)
    }

    #[test]
    fn on_a_full_disk_what_was_told_is_what_is_stored_and_writing_goes_on_after() {
        let (_folder, mut journal, id) = started();
        let pages: i64 = journal.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        let limit = |c: &Connection, pages: i64| c.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
        limit(&journal.connection, pages + 20);
        let told = written(&mut journal.connection, &id, &[10, 500_000, 10]);
        let kept = told.iter().filter(|t| t.is_ok()).count();
        let error = told[1].as_ref().unwrap_err().to_string();
        assert!(error.contains("full") && error.contains("make room"), "{error}");
        assert_eq!(tables::load(&journal.connection, &id).unwrap().len(), 1 + kept, "{told:?}");

        limit(&journal.connection, 1_000_000);
        assert!(written(&mut journal.connection, &id, &[500_000]).iter().all(Result::is_ok));
        assert_eq!(tables::load(&journal.connection, &id).unwrap().len(), 2 + kept);
    }

    #[test]
    fn a_write_that_fails_takes_no_other_with_it() {
        let (_folder, mut journal, id) = started();
        let nobody = RolloutId("nobody-1".to_owned());
        let (a, mut first) = append(&id, of_length(1));
        let (b, mut unknown) = append(&nobody, of_length(1));
        let (c, mut last) = append(&id, of_length(1));
        write(&mut journal.connection, vec![a, b, c]);
        assert_eq!(first.try_recv().unwrap().unwrap(), 1);
        assert!(matches!(unknown.try_recv().unwrap(), Err(StoreError::Unknown(id)) if id == "nobody-1"));
        assert_eq!(last.try_recv().unwrap().unwrap(), 2);
    }

    #[test]
    fn a_commit_that_fails_is_told_to_every_writer() {
        let (reply, mut answer) = oneshot::channel();
        Tried::Appended(Ok(7), reply).tell(&Err("disk gone".to_owned()));
        assert!(matches!(answer.try_recv().unwrap(), Err(StoreError::Database(why)) if why == "disk gone"));
    }

    #[test]
    fn a_full_queue_is_an_error_and_counted() {
        let (jobs, queue) = bounded(1);
        let store = Sqlite { jobs: Mutex::new(Some(jobs)), thread: Mutex::new(None), turned_away: AtomicU64::new(0) };
        let id = RolloutId("r-1".to_owned());
        let _first = Store::append(&store, &id, AT, Vec::new());
        assert_eq!(store.turned_away(), 0);
        let _second = Store::append(&store, &id, AT, Vec::new());
        assert_eq!((store.turned_away(), queue.len()), (1, 1));
    }

    #[test]
    fn writes_that_wait_share_a_commit_up_to_the_first_that_reads() {
        let (jobs, queue) = bounded(8);
        let id = RolloutId("r-1".to_owned());
        let (first, _a) = append(&id, Vec::new());
        let (second, _b) = append(&id, Vec::new());
        let (third, _c) = append(&id, Vec::new());
        let (reply, _d) = oneshot::channel();
        jobs.send(Job::Write(second)).unwrap();
        jobs.send(Job::Read(Read::Load { id, reply })).unwrap();
        jobs.send(Job::Write(third)).unwrap();
        let (together, after) = group(first, &queue);
        assert_eq!((together.len(), queue.len()), (2, 1));
        assert!(matches!(after, Some(Job::Read(_))));
    }
}
