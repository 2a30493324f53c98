//! One shard: the loop of the thread that alone writes its slots.

use super::{Answer, Judging, Order, Slot, Snapshot};
use crate::model::{Judgement, Poll, Timestamp};
use arc_swap::ArcSwap;
use crossbeam_channel::Receiver;
use std::sync::Arc;

/// A rollout's judge and the place its judgement is written to, allocated when the slot is opened.
struct Cell<J> {
    judge: Box<J>,
    out: Box<Judgement>,
}

pub(super) struct Shard<J> {
    inbox: Receiver<Order<J>>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// By slot number; dense because the caller hands out small numbers.
    cells: Vec<Option<Cell<J>>>,
}

impl<J: Judging> Shard<J> {
    pub(super) fn new(inbox: Receiver<Order<J>>, snapshot: Arc<ArcSwap<Snapshot>>) -> Self {
        Self { inbox, snapshot, cells: Vec::new() }
    }

    /// Until every sender is gone.
    pub(super) fn run(mut self) {
        while let Ok(order) = self.inbox.recv() {
            match order {
                Order::Open { slot, judge } => self.open(slot, judge),
                Order::Take { slot, answer } => answer(self.take(slot)),
                Order::Tick { at, polls, answer } => {
                    self.judge(&polls);
                    self.publish(at, &polls, answer);
                }
            }
        }
    }

    fn open(&mut self, slot: Slot, judge: Box<J>) {
        let index = slot.0 as usize;
        if self.cells.len() <= index {
            self.cells.resize_with(index + 1, || None);
        }
        self.cells[index] = Some(Cell { judge, out: Box::new(Judgement::empty(Timestamp::default(), 0)) });
    }

    fn take(&mut self, slot: Slot) -> Option<Box<J>> {
        self.cells.get_mut(slot.0 as usize)?.take().map(|cell| cell.judge)
    }

    /// The hot path.
    fn judge(&mut self, polls: &[(Slot, Poll)]) {
        for (slot, poll) in polls {
            if let Some(Some(cell)) = self.cells.get_mut(slot.0 as usize) {
                cell.judge.poll(poll, &mut cell.out);
            }
        }
    }

    /// Behind it: one snapshot for all readers.
    fn publish(&self, at: Timestamp, polls: &[(Slot, Poll)], answer: Answer) {
        let said = |slot: &Slot| self.cells.get(slot.0 as usize).and_then(Option::as_ref).map(|c| (*slot, Arc::new((*c.out).clone())));
        let snapshot = Arc::new(Snapshot { at, judged: polls.iter().filter_map(|(slot, _)| said(slot)).collect() });
        self.snapshot.store(Arc::clone(&snapshot));
        answer(snapshot);
    }
}
