use super::*;
use crate::model::{Blind, Poll};
use crossbeam_channel::{Receiver, unbounded};
use std::time::Duration;

/// Counts its polls; can be told to wait before it answers.
struct Counting {
    seen: u32,
    gate: Option<Receiver<()>>,
}

impl Judging for Counting {
    fn poll(&mut self, poll: &Poll, out: &mut Judgement) {
        if let Some(gate) = &self.gate {
            let _ = gate.recv();
        }
        self.seen += 1;
        *out = Judgement::empty(poll.at, self.seen);
    }
}

fn poll_at(ms: i64) -> Poll {
    Poll::blind(Timestamp::from_millis(ms), 0, Blind::NoSeries)
}

fn tick(engine: &Engine<Counting>, ms: i64, slots: &[u32]) -> Arc<Snapshot> {
    let (told, answer) = unbounded();
    let polls = slots.iter().map(|s| (Engine::<Counting>::slot(*s), poll_at(ms))).collect();
    let shard = engine.shard_of(Slot(slots[0]));
    engine.tick(shard, Timestamp::from_millis(ms), polls, Box::new(move |s| told.send(s).unwrap())).unwrap();
    answer.recv_timeout(Duration::from_secs(10)).expect("the shard answers")
}

#[test]
fn each_slot_keeps_its_own_judge_and_the_snapshot_shows_the_last_tick() {
    let engine = Engine::start(2).unwrap();
    for slot in [0, 2, 4] {
        engine.open(Slot(slot), Box::new(Counting { seen: 0, gate: None })).unwrap();
    }
    tick(&engine, 15_000, &[0, 2, 4]);
    let second = tick(&engine, 30_000, &[0, 4]);
    let seen: Vec<_> = second.judged.iter().map(|(slot, j)| (slot.0, j.step)).collect();
    assert_eq!(seen, [(0, 2), (4, 2)]);
    assert_eq!(tick(&engine, 45_000, &[2]).judged[0].1.step, 2);
    assert_eq!(engine.snapshot(engine.shard_of(Slot(2))).at, Timestamp::from_millis(45_000));
}

#[test]
fn a_closed_slot_and_one_of_another_shard_are_left_out() {
    let engine = Engine::start(2).unwrap();
    engine.open(Slot(0), Box::new(Counting { seen: 0, gate: None })).unwrap();
    engine.open(Slot(1), Box::new(Counting { seen: 0, gate: None })).unwrap();
    assert_eq!(tick(&engine, 1000, &[0, 1, 7]).judged.len(), 1);
    engine.close(Slot(0)).unwrap();
    assert!(tick(&engine, 2000, &[0]).judged.is_empty());
}

#[test]
fn a_full_channel_pushes_back_and_is_counted() {
    let engine = Arc::new(Engine::start(1).unwrap());
    let (open, gate) = unbounded();
    engine.open(Slot(0), Box::new(Counting { seen: 0, gate: Some(gate) })).unwrap();
    let (told, answers) = unbounded();
    let sender = {
        let engine = Arc::clone(&engine);
        #[allow(clippy::disallowed_methods)]
        std::thread::spawn(move || {
            let mut waited = 0;
            for k in 0..(ORDERS_MAX as i64 + 2) {
                let told = told.clone();
                let polls = vec![(Slot(0), poll_at(k * 1000))];
                let late = engine.tick(0, Timestamp::from_millis(k * 1000), polls, Box::new(move |s| told.send(s.at).unwrap())).unwrap();
                waited += u64::from(late);
            }
            waited
        })
    };
    // the shard holds the first tick at the gate; the channel fills; the last order has to wait
    while engine.pushed_back() == 0 {
        std::thread::yield_now();
    }
    for _ in 0..(ORDERS_MAX + 2) {
        open.send(()).unwrap();
    }
    assert_eq!(sender.join().unwrap(), engine.pushed_back(), "each sender that waited was told so");
    let all: Vec<_> = answers.iter().take(ORDERS_MAX + 2).collect();
    assert!(all.is_sorted(), "orders of one shard are carried out in order");
    assert_eq!(engine.waiting(0), 0);
}

#[test]
fn dropping_the_engine_finishes_what_it_was_told() {
    let engine = Engine::start(1).unwrap();
    engine.open(Slot(0), Box::new(Counting { seen: 0, gate: None })).unwrap();
    let (told, answers) = unbounded();
    for k in 0..5 {
        let told = told.clone();
        let answer: Answer = Box::new(move |s| told.send(s.judged[0].1.step).unwrap());
        engine.tick(0, Timestamp::from_millis(k), vec![(Slot(0), poll_at(k))], answer).unwrap();
    }
    drop(engine);
    assert_eq!(answers.try_iter().collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
}
