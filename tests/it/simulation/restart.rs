//! The daemon comes back: a journal cut anywhere leads on to the same decisions and the same evidence, from memory and from
//! the disk.

use super::path;
use super::whole::{self, folded};
use canaryd::model::journal::{Entry, Event};
use canaryd::model::{Input, Judgement, Tick, Timestamp};
use canaryd::runtime::replay;
use canaryd::store::{Sqlite, Store};

/// From every kept line on, the machine decides as if it had never been away.
pub(super) fn restarts(journal: &[Entry], cuts: &[usize], evidence: u64) -> Result<(), String> {
    for cut in cuts {
        let why = |what: &str| format!("restart after line {cut} of {}: {what}", journal.len());
        let rebuilt = replay::rebuild(&journal[..*cut], &path::known(), canaryd::model::Timestamp::default()).map_err(|e| why(&e))?;
        if !rebuilt.differing.is_empty() {
            return Err(why(&format!("lines {:?} would be decided otherwise", rebuilt.differing)));
        }
        let (mut judge, mut machine, mut decision) = (rebuilt.judge, rebuilt.machine, rebuilt.left.decision);
        let mut out = rebuilt.judgement.unwrap_or_else(|| Judgement::empty(Timestamp::default(), 0));
        for entry in &journal[*cut..] {
            match &entry.event {
                Event::Opened(_) => return Err(why("opened twice")),
                Event::Poll { poll, missing, detail, orphans } => {
                    judge.poll(poll, &mut out);
                    let tick = Tick { judgement: out.clone(), missing: *missing, detail: detail.clone(), orphans: *orphans };
                    decision = machine.handle(entry.at, &Input::Tick(Box::new(tick)));
                }
                Event::Input(input) => decision = machine.handle(entry.at, input),
                Event::Decided(was) if **was != decision => return Err(why(&format!("line {}: {was:?} became {decision:?}", entry.seq))),
                Event::Decided(_) | Event::Gap(_) | Event::Restarted { .. } => {}
            }
        }
        if folded(&out) != evidence {
            return Err(why("the evidence at the end differs"));
        }
    }
    Ok(())
}

/// What the store gives back is what was put in, to the last bit of every number.
#[tokio::test]
async fn a_journal_from_the_disk_leads_to_the_same_evidence() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Sqlite::open(folder.path()).expect("a store");
    for seed in 0..8 {
        let ran = whole::run(seed).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        let Event::Opened(opened) = &ran.journal[0].event else { panic!("a journal begins with its opening") };
        let id = store.open(ran.journal[0].at, (**opened).clone()).await.expect("opened");
        for entry in &ran.journal[1..] {
            store.append(&id, entry.at, vec![entry.event.clone()]).await.expect("appended");
        }
        let loaded = store.load(&id).await.expect("loaded");
        assert_eq!(loaded[1..], ran.journal[1..], "seed {seed}");
        restarts(&loaded, &[loaded.len() / 3, loaded.len()], folded(&ran.out)).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}
