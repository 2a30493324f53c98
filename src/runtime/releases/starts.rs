//! The start of a rollout, by the way a person's goes; what is refused is tried again.

use super::decide::{Shown, Sight};
use super::say::{NOT_STARTED, Said};
use super::{CLUSTER, Releases};
use crate::model::{RolloutId, Rule, Side};
use crate::runtime::handle::{Refusal, StartArgs};
use crate::runtime::supervisor::{Followed, News};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A refused start is tried again after this, or when its workloads change: preparing one asks the source for hours of history.
const START_AGAIN: Duration = Duration::from_secs(60);

/// A start that was refused.
pub(super) struct Refused {
    pub(super) seen: [Sight; 2],
    at: Instant,
    /// Its words, once they are known.
    pub(super) why: Option<String>,
}

impl Releases {
    pub(super) fn start(&mut self, rule: &Rule, release: &Shown, seen: &[Sight; 2]) {
        let again = self.refused.get(&rule.name).is_none_or(|last| last.seen != *seen || last.at.elapsed() >= START_AGAIN);
        if !again {
            return;
        }
        self.free.remove(&rule.name);
        // should it be refused: what was seen then
        let why = self.refused.get(&rule.name).and_then(|last| last.why.clone());
        self.refused.insert(rule.name.clone(), Refused { seen: seen.clone(), at: Instant::now(), why });
        self.starting.insert(rule.name.clone());
        let (news, rule, template) = (self.parts.news.clone(), rule.name.clone(), release.template.clone());
        let args = StartArgs { version: release.version.clone(), retry: false, by: CLUSTER.to_owned() };
        self.starts.spawn(async move {
            let (answer, got) = oneshot::channel();
            let _ = news.send(News::Start { rule: rule.clone(), args, answer }).await;
            (rule, template, got.await.unwrap_or_else(|_| Err(Refusal::new("unavailable", "the daemon is shutting down"))))
        });
    }

    pub(super) async fn started(&mut self, rule: &str, template: &str, result: Result<RolloutId, Refusal>) {
        self.starting.remove(rule);
        let refusal = match result {
            Ok(_) => {
                self.show_waiting(rule, None);
                return drop(self.refused.remove(rule));
            }
            // a person was faster
            Err(refusal) if matches!(refusal.code, "already-running" | "already-starting" | "unavailable") => return,
            Err(refusal) => refusal,
        };
        if let Some(refused) = self.refused.get_mut(rule) {
            refused.why = Some(refusal.text.clone());
        }
        let followed = self.followed().await.into_iter().find(|f| f.rule.name == rule);
        let Some(followed) = followed else { return };
        let text = format!("a new release {NOT_STARTED}: {}", refusal.text);
        let release = [Side::First, Side::Second].into_iter().find_map(|side| match self.sight(&followed.rule, side) {
            Sight::There(shown) if shown.template == template => Some(shown),
            _ => None,
        });
        if let Some(release) = release {
            self.show_waiting(rule, Some((release.version.clone(), format!("{NOT_STARTED}: {}", refusal.text))));
            self.say_and_tell(&followed, &release, "refused", text);
        }
    }

    pub(super) async fn supersede(&mut self, followed: &Followed, release: &Shown) {
        let Some(run) = &followed.on_trial else { return };
        let said = Said::of(&followed.rule, release, "supersedes").in_place_of(&run.id);
        if self.said.contains(&said) {
            return;
        }
        let (answer, got) = oneshot::channel();
        let (rollout, version) = (run.id.clone(), release.version.clone());
        let _ = self.parts.news.send(News::Supersede { rollout, version, answer }).await;
        if got.await.unwrap_or(false) {
            self.said.insert(said);
        } else {
            // a rollout that has no room to hear it is told at the next look
            self.looked.remove(&followed.rule.name);
        }
    }
}
