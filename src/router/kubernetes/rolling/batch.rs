//! The next few pods that change sides, while the Deployment is paused. Pure.
//!
//! Only the numbers of the two ReplicaSets are written, one at a time; its controller answers with the other's (see `state.rs`): it
//! keeps the sum of them, and gives or takes at the larger. So the smaller of two is made larger, or the larger's other is made smaller,
//! and which of them it will be must be certain before. No pod is ended that the strategy does not let go.

use super::found::{Found, Size, asked};
use serde_json::Value;

/// What comes next on the way to so many new pods.
#[derive(Debug, PartialEq)]
pub(super) enum Batch {
    /// They are asked for.
    Complete,
    /// Some that are asked for are still to be there.
    Starting,
    /// This ReplicaSet gets so many replicas.
    Scale { set: Value, replicas: u64 },
    /// Only its controller can make them, or there is no ReplicaSet of theirs yet.
    LetGo,
}

/// The two sides as they are asked for.
struct Sides<'a> {
    new: &'a Value,
    /// The largest of the others.
    old: &'a Value,
}

impl Batch {
    pub(super) fn of(found: &Found, template: &str, wanted: u64) -> Self {
        let size = found.size();
        let Some(new) = found.of(template).max_by_key(|set| asked(set)) else { return Self::LetGo };
        let others = found.sets.iter().filter(|set| !found.of(template).any(|own| own == *set));
        let Some(old) = others.max_by_key(|set| asked(set)).filter(|set| asked(set) > 0) else { return Self::alone(new, size, wanted) };
        let sides = Sides { new, old };
        let now = asked(new);
        if now > wanted {
            return sides.fewer(now - wanted).unwrap_or(Self::Complete);
        }
        if now == wanted {
            return Self::Complete;
        }
        match sides.count(found, size, wanted) {
            0 => Self::Starting,
            count => sides.more(count).unwrap_or(Self::LetGo),
        }
    }

    /// No other has replicas: there is nothing to give or take.
    fn alone(new: &Value, size: Size, wanted: u64) -> Self {
        // all are new already, or its controller has begun nothing
        if asked(new) >= wanted.min(size.replicas) { Self::Complete } else { Self::LetGo }
    }
}

impl Sides<'_> {
    /// How many may change sides now. Never as many new ones as there are replicas: then all would.
    fn count(&self, found: &Found, size: Size, wanted: u64) -> u64 {
        let (all, now) = (Found::pods(found.sets.iter()), asked(self.new));
        if Found::pods(std::iter::once(self.new)).available < now {
            return 0;
        }
        let room = size.whole().saturating_sub(all.asked);
        let spare = all.available.saturating_sub(size.replicas.saturating_sub(size.unavailable));
        // what is above the sum is about to be ended
        let spare = spare.saturating_sub(all.asked.saturating_sub(size.whole()));
        let most = if size.surge + size.unavailable == 0 { 1 } else { room + spare }.min(size.batch());
        let count = most.min(wanted - now);
        match now + count == size.replicas {
            true if now + count < wanted && count < most => count + 1,
            true => count - 1,
            false => count,
        }
    }

    /// So many more of the new: it is made larger if the old one is what gives; else the old one is made smaller if the new one is what
    /// gets.
    fn more(&self, count: u64) -> Option<Batch> {
        let (old, new) = (asked(self.old), asked(self.new));
        if new + count < old || (new + count == old && is_older(self.old, self.new)) {
            return Some(Batch::Scale { set: self.new.clone(), replicas: new + count });
        }
        let left = old.checked_sub(count).filter(|left| *left > 0)?;
        let gets = new > left || (new == left && is_older(self.old, self.new));
        gets.then(|| Batch::Scale { set: self.old.clone(), replicas: left })
    }

    /// So many fewer of the new, where that can be: they only came because its controller makes its first ones all at once.
    fn fewer(&self, count: u64) -> Option<Batch> {
        let (old, left) = (asked(self.old), asked(self.new).checked_sub(count)?);
        (old > left).then(|| Batch::Scale { set: self.new.clone(), replicas: left })
    }
}

/// As its controller says which of two that are as large comes first: by their age.
fn is_older(one: &Value, other: &Value) -> bool {
    let made = |set: &Value| set.pointer("/metadata/creationTimestamp").and_then(Value::as_str).map(str::to_owned);
    match (made(one), made(other)) {
        (Some(one), Some(other)) => one < other,
        _ => false,
    }
}
