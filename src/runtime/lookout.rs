//! What the cluster shows of one rollout's workloads, as news for its driver: only what differs from what was told last, and not
//! more often than a machine needs to hear it. Everything is answered from the cluster's memory.

use super::releases::Templates;
use crate::cluster::Cluster;
use crate::model::rule::Workloads;
use crate::model::{Noted, PerArm, Rule, Side, Timestamp, WorkloadSeen};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Between two pieces of news: a rollout is journaled, and a rolling update of a hundred pods is a thousand changes.
const APART: Duration = Duration::from_secs(1);
/// How long the cluster may be out of sight, or stable short of pods, before that is told: a watch that begins anew is no news.
const LASTS: Duration = Duration::from_secs(5);
/// How often it looks without being told that anything changed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What may be seen.
pub(super) type Seen = Result<PerArm<WorkloadSeen>, String>;

/// News for a driver.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum News {
    /// The workloads look different, or are out of sight.
    Workloads(Seen),
    /// Stable has the canary's template, and is ready.
    MadeEqual,
    /// Stable, to which the traffic goes back, has not the pods it had; with a sentence.
    NotReady(String),
}

/// What a promotion waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Watched {
    /// Nothing.
    #[default]
    Nothing,
    /// Somebody makes stable equal.
    Equal,
    /// Stable keeps so many ready pods while the traffic goes back to it.
    Ready(u32),
}

/// One rollout's eyes.
pub(super) struct Lookout {
    cluster: Cluster,
    changed: watch::Receiver<u64>,
    workloads: Workloads,
    canary: Side,
    since: Timestamp,
    noted: Noted,
    /// Its rule, and what its templates are called.
    named: (String, Templates),
    /// Number of the last change that was looked at.
    mark: Option<(u64, Instant)>,
    filter: Filter,
    watched: Watched,
    /// Since when stable is short of pods.
    short: Option<Instant>,
    /// When news of the promotion was told last: a machine that does not act on it hears it again, and not at once.
    told_at: Option<Instant>,
}

impl Lookout {
    /// `of`: its rule, and which workload is on trial; what went wrong after `since` counts.
    pub(super) fn new(cluster: Cluster, templates: Templates, of: (&Rule, Side), since: Timestamp, noted: Noted) -> Self {
        let changed = cluster.changed();
        let (rule, canary) = of;
        let (workloads, named) = (rule.workloads.clone(), (rule.name.clone(), templates));
        Self {
            cluster,
            changed,
            workloads,
            canary,
            since,
            noted,
            named,
            mark: None,
            filter: Filter::default(),
            watched: Watched::Nothing,
            short: None,
            told_at: None,
        }
    }

    /// What the promotion waits for from now on.
    pub(super) fn watch(&mut self, watched: Watched) {
        if self.watched != watched {
            (self.watched, self.short) = (watched, None);
        }
    }

    /// The next news. May be dropped at any time: nothing is lost.
    pub(super) async fn next(&mut self) -> News {
        loop {
            if let Some(news) = self.look(Instant::now()) {
                return news;
            }
            let wait = self.filter.rest(Instant::now()).unwrap_or(LOOK_EVERY);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                changed = self.changed.changed(), if self.filter.rest(Instant::now()).is_none() => if changed.is_err() {
                    // the cluster is not watched any more: the daemon stops
                    std::future::pending::<()>().await;
                },
            }
        }
    }

    fn look(&mut self, now: Instant) -> Option<News> {
        if let Some(news) = self.of_promotion(now) {
            self.told_at = Some(now);
            return Some(news);
        }
        let changes = self.cluster.changes(&self.workloads);
        if self.mark.is_some_and(|(mark, at)| mark == changes && now.duration_since(at) < LOOK_EVERY) {
            return None;
        }
        // what does not pass because it comes too soon is looked at again
        self.mark = self.filter.rest(now).is_none().then_some((changes, now));
        let seen = self.cluster.seen(&self.workloads, self.canary, self.since);
        self.filter.pass(seen, now).map(News::Workloads)
    }

    fn of_promotion(&mut self, now: Instant) -> Option<News> {
        let just_told = self.told_at.is_some_and(|at| now.duration_since(at) < LASTS);
        if self.watched == Watched::Nothing || just_told {
            return None;
        }
        let stable = self.workloads.side(self.canary.other());
        // out of sight is told as such
        let release = self.cluster.release(stable).ok()?;
        let (rule, templates) = &self.named;
        let on_trial = templates.called(rule, &self.noted.template);
        let released =
            self.cluster.release(self.workloads.side(self.canary)).ok()?.filter(|r| templates.called(rule, &r.template) == on_trial);
        // their templates are never the same: labels tell the two workloads apart
        let equal = release.as_ref().zip(released).is_some_and(|(stable, ours)| stable.program == ours.program && stable.ready);
        let ready = release.as_ref().map_or(0, |r| r.ready_replicas);
        match self.watched {
            Watched::Equal => equal.then_some(News::MadeEqual),
            Watched::Ready(least) if ready < least => {
                let short = *self.short.get_or_insert(now);
                let text = format!("{ready} of {least} pods of {} are ready", stable.name());
                (now.duration_since(short) >= LASTS).then_some(News::NotReady(text))
            }
            _ => {
                self.short = None;
                None
            }
        }
    }
}

/// Lets through what differs from what went through last, and not too often; "out of sight" only when it lasts, and once.
#[derive(Debug, Default)]
struct Filter {
    told: Option<Seen>,
    told_at: Option<Instant>,
    blind_since: Option<Instant>,
}

impl Filter {
    /// How long to wait before anything may pass.
    fn rest(&self, now: Instant) -> Option<Duration> {
        let rest = APART.saturating_sub(now.saturating_duration_since(self.told_at?));
        (!rest.is_zero()).then_some(rest)
    }

    fn pass(&mut self, seen: Seen, now: Instant) -> Option<Seen> {
        let since = match &seen {
            Ok(_) => {
                self.blind_since = None;
                None
            }
            Err(_) => Some(*self.blind_since.get_or_insert(now)),
        };
        let is_news = match (&seen, &self.told) {
            (Err(_), Some(Err(_))) => false,
            (Err(_), _) => since.is_some_and(|since| now.duration_since(since) >= LASTS),
            (seen, told) => told.as_ref() != Some(seen),
        };
        if !is_news || self.rest(now).is_some() {
            return None;
        }
        (self.told, self.told_at) = (Some(seen.clone()), Some(now));
        Some(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(ready: u32) -> Seen {
        Ok(PerArm { baseline: WorkloadSeen::default(), canary: WorkloadSeen { ready, ..WorkloadSeen::default() } })
    }

    fn away(why: &str) -> Seen {
        Err(why.to_owned())
    }

    #[test]
    fn what_differs_passes_at_once_and_then_not_too_often() {
        let (mut filter, t) = (Filter::default(), Instant::now());
        assert_eq!(filter.pass(with(1), t), Some(with(1)));
        assert_eq!(filter.pass(with(1), t + APART), None, "the same");
        assert_eq!(filter.pass(with(2), t + APART), Some(with(2)));
        let soon = t + APART + Duration::from_millis(10);
        assert_eq!(filter.pass(with(3), soon), None);
        assert_eq!(filter.rest(soon), Some(APART - Duration::from_millis(10)));
        assert_eq!(filter.pass(with(4), t + APART * 2), Some(with(4)), "the newest, once");
    }

    #[test]
    fn out_of_sight_passes_when_it_lasts_and_once() {
        let (mut filter, t) = (Filter::default(), Instant::now());
        filter.pass(with(1), t);
        assert_eq!(filter.pass(away("a"), t + APART), None);
        assert_eq!(filter.pass(with(1), t + APART + LASTS / 2), None, "seen again: nothing happened");
        let gone = t + APART + LASTS;
        assert_eq!(filter.pass(away("a"), gone), None);
        assert_eq!(filter.pass(away("b"), gone + LASTS), Some(away("b")));
        assert_eq!(filter.pass(away("c"), gone + LASTS * 3), None);
        assert_eq!(filter.pass(with(1), gone + LASTS * 4), Some(with(1)), "back, though nothing else differs");
    }

    #[test]
    fn a_cluster_that_was_never_seen_is_out_of_sight_too() {
        let (mut filter, t) = (Filter::default(), Instant::now());
        assert_eq!(filter.pass(away("not looked yet"), t), None);
        assert_eq!(filter.pass(away("not looked yet"), t + LASTS), Some(away("not looked yet")));
    }
}
