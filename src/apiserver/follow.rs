//! A collection followed for ever: listed once, then watched. What breaks is mended: a watch that ended goes on from the version it
//! had reached, so that nothing is lost and nothing is told twice; what the server has forgotten (410) is listed again, and so is
//! everything when its present is older than that version, as it is when etcd was put back to an earlier state.

use super::collection::{Broken, Change, Collection};
use super::{CallError, chance};
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::time::Instant;

/// Waits before it is tried again: the first, doubled up to the longest.
const AGAIN_MIN: Duration = Duration::from_millis(250);
const AGAIN_MAX: Duration = Duration::from_secs(8);
/// The same where we lack the right, or there is no such kind: until a person has mended it.
const AGAIN_DENIED: Duration = Duration::from_secs(15);
/// A watch that held for so long was in order: its end is no failure that makes us wait longer.
const HELD: Duration = Duration::from_secs(5);

/// What becomes of what is followed.
pub trait Follower<T>: Send {
    /// All there is now: what is not among it is gone.
    fn listed(&mut self, objects: Vec<T>);
    /// This one is new, or another.
    fn put(&mut self, object: T);
    /// This one is gone; as it was.
    fn gone(&mut self, object: T);
    /// What was told until now is how it stands now. Comes with every change, and where nothing changes at least once in 45 s.
    fn confirmed(&mut self);
    /// It cannot be followed for now. It goes on being tried.
    fn failed(&mut self, error: &CallError);
}

/// Follows a collection; never ends.
pub async fn follow<T: DeserializeOwned>(collection: &Collection, follower: &mut impl Follower<T>) {
    let (mut version, mut again) = (None, AGAIN_MIN);
    loop {
        let begun = Instant::now();
        let wait = match once(collection, follower, &mut version).await {
            Ok(()) if begun.elapsed() >= HELD => Duration::ZERO,
            Ok(()) => again,
            Err(Broken::Expired) => {
                version = None;
                again
            }
            Err(Broken::Failed(error)) => {
                follower.failed(&error);
                if matches!(error, CallError::Unreachable(_)) { again } else { AGAIN_DENIED }
            }
        };
        again = if begun.elapsed() >= HELD { AGAIN_MIN } else { (again * 2).min(AGAIN_MAX) };
        tokio::time::sleep(scattered(wait)).await;
    }
}

/// One watch, after a list where there is no version to go on from.
async fn once<T: DeserializeOwned>(
    collection: &Collection,
    follower: &mut impl Follower<T>,
    version: &mut Option<String>,
) -> Result<(), Broken> {
    if let Some(reached) = version.as_deref()
        && collection.is_ahead(reached).await?
    {
        return Err(Broken::Expired);
    }
    if version.is_none() {
        let (objects, listed) = collection.list_at("").await?;
        follower.listed(objects);
        follower.confirmed();
        *version = Some(listed);
    }
    let mut watch = collection.watch(version.as_deref().unwrap_or_default()).await?;
    follower.confirmed();
    while let Some(change) = watch.next().await? {
        match change {
            Change::Put(object) => follower.put(object),
            Change::Gone(object) => follower.gone(object),
            Change::Nothing => {}
        }
        follower.confirmed();
        *version = Some(watch.version.clone());
    }
    follower.confirmed();
    Ok(())
}

/// Between half of it and all: many that broke at once do not come back at once.
fn scattered(wait: Duration) -> Duration {
    wait.mul_f64(0.5 + chance() / 2.0)
}
