//! What a driver still has to store, and the effects that wait for it. While the store is down nothing is lost and nothing
//! steps up: lines queue here in order, and so do the effects of their decisions.

use crate::model::journal::Event;
use crate::model::{Decision, Input, RolloutId, Timestamp};
use crate::store::{Store, StoreError};
use crate::telemetry::{Metrics, events};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Longest a driver waits for the store before it calls it down.
const SAVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it waits before it tries again.
const RETRY: Duration = Duration::from_secs(1);
/// Lines kept while the store is down, an hour of ticks at 5 s with their decisions; what is seen after that is dropped and
/// counted, and the rollout goes on from memory. What was decided and said is kept: there is no other trace of it.
const LINES_MAX: usize = 2048;

/// The unwritten end of one rollout's journal.
pub(super) struct Memory {
    id: RolloutId,
    store: Arc<dyn Store>,
    metrics: Metrics,
    lines: Vec<(Timestamp, Event)>,
    /// Decisions with effects, in order.
    withheld: Vec<Arc<Decision>>,
    under_way: Option<UnderWay>,
    down: Option<(String, Instant)>,
    /// Polls and readings for which there was no room.
    dropped: u64,
    /// Of those, since the last save; the first left a gap in its place.
    gap: u64,
}

impl Memory {
    pub(super) fn new(id: RolloutId, store: Arc<dyn Store>, metrics: Metrics) -> Self {
        Self { id, store, metrics, lines: Vec::new(), withheld: Vec::new(), under_way: None, down: None, dropped: 0, gap: 0 }
    }

    pub(super) fn push(&mut self, at: Timestamp, event: Event) {
        if self.lines.len() >= LINES_MAX && is_only_seen(&event) {
            self.dropped += 1;
            self.note_gap(at);
            return;
        }
        self.lines.push((at, event));
    }

    /// Whoever reads the journal must know that evidence cannot be derived past this line.
    fn note_gap(&mut self, at: Timestamp) {
        self.gap += 1;
        let what = format!("{} polls and readings were not kept while the journal could not be written", self.gap);
        match self.lines.iter_mut().find_map(|(_, e)| if let Event::Gap(what) = e { Some(what) } else { None }) {
            Some(noted) => *noted = what,
            None => self.lines.push((at, Event::Gap(what))),
        }
    }

    /// The effects of this decision wait until everything pushed so far is stored.
    pub(super) fn withhold(&mut self, decision: &Arc<Decision>) {
        if !decision.effects.is_empty() {
            self.withheld.push(Arc::clone(decision));
        }
    }

    pub(super) fn is_saved(&self) -> bool {
        self.lines.is_empty()
    }

    pub(super) fn is_down(&self) -> bool {
        self.down.is_some()
    }

    /// A sentence while the store is down.
    pub(super) fn trouble(&self) -> Option<String> {
        let (why, _) = self.down.as_ref()?;
        let lost = if self.dropped > 0 { format!("; {} polls and readings were not kept", self.dropped) } else { String::new() };
        Some(format!("the journal cannot be written ({why}): nothing steps up until it can; {} lines wait{lost}", self.lines.len()))
    }

    /// Ready when it is time to try again.
    pub(super) async fn retry_due(&self) {
        if let Some((_, since)) = &self.down {
            tokio::time::sleep_until((*since + RETRY).into()).await;
        }
    }

    /// Stores every line, in order, those there are now in one transaction. Answers the decisions whose effects may go out: all
    /// that waited, or none. A write that is not answered in time is not sent again, it may still be done: the next call waits on.
    pub(super) async fn save(&mut self) -> Vec<Arc<Decision>> {
        while !self.lines.is_empty() {
            if let Err(why) = self.save_once().await {
                events::StoreFailed { what: &self.id.0, error: &why }.emit(&self.metrics);
                self.down = Some((why, Instant::now()));
                return Vec::new();
            }
        }
        self.gap = 0;
        self.down = None;
        std::mem::take(&mut self.withheld)
    }

    async fn save_once(&mut self) -> Result<(), String> {
        let began = Instant::now();
        let (count, mut write) = self.under_way.take().unwrap_or_else(|| self.send());
        match tokio::time::timeout(SAVE_TIMEOUT, &mut write).await {
            Ok(Ok(Ok(_))) => {
                self.lines.drain(..count);
                events::StoreAppended { took: began.elapsed(), lines: count }.emit(&self.metrics);
                Ok(())
            }
            Ok(Ok(Err(e))) => Err(e.to_string()),
            Ok(Err(e)) => Err(e.to_string()),
            Err(_) => {
                self.under_way = Some((count, write));
                Err(format!("no answer within {} s", SAVE_TIMEOUT.as_secs()))
            }
        }
    }

    fn send(&self) -> UnderWay {
        let (store, id, lines) = (Arc::clone(&self.store), self.id.clone(), self.lines.clone());
        (lines.len(), tokio::spawn(async move { store.write(&id, lines).await }))
    }
}

/// Was it only looked at? It comes again, with every tick or every second.
fn is_only_seen(event: &Event) -> bool {
    match event {
        Event::Poll { .. } => true,
        Event::Input(input) => matches!(**input, Input::Traffic(_) | Input::Workloads(_)),
        _ => false,
    }
}

/// Lines that were sent to the store, and its answer.
type UnderWay = (usize, JoinHandle<Result<u64, StoreError>>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Sqlite;

    const AT: Timestamp = Timestamp::from_millis(1_000);

    fn read() -> Event {
        Event::Input(Box::new(Input::Traffic(Err("away".to_owned()))))
    }

    #[tokio::test]
    async fn a_store_that_stays_down_costs_a_bounded_room_and_no_decision() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Sqlite::open(folder.path()).unwrap());
        let mut memory = Memory::new(RolloutId("shop-1".to_owned()), store, Metrics::new());
        let workloads = || Event::Input(Box::new(Input::Workloads(Err("away".to_owned()))));
        for _ in 0..LINES_MAX {
            memory.push(AT, read());
            memory.push(AT, workloads());
        }
        assert_eq!((memory.lines.len(), memory.dropped), (LINES_MAX + 1, LINES_MAX as u64), "one line says that there is a gap");
        memory.push(AT, Event::Input(Box::new(Input::Wake)));
        assert_eq!(memory.lines.len(), LINES_MAX + 2, "what a machine was told once is kept");
        let said = format!("{LINES_MAX} polls and readings were not kept while the journal could not be written");
        assert_eq!(memory.lines[LINES_MAX].1, Event::Gap(said));
    }
}
