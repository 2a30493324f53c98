//! What goes on by itself, a rolling update, is stopped when its rollout may not begin, and let go when nothing is new.

use super::decide::Shown;
use super::say::Said;
use super::{Parts, READ_MAX, Releases, router_of};
use crate::model::{Mode, Rule, Side};
use crate::runtime::supervisor::Followed;
use crate::telemetry::events;

impl Releases {
    /// It is not led again by itself. What would go on all the same is stopped as it is before a rollout, once: a person may let it go.
    pub(super) async fn rolled_back_before(&mut self, followed: &Followed, release: &Shown, text: String) {
        let rule = &followed.rule;
        let retry = format!("`canaryd retry {}` starts one", rule.name);
        if !holds_releases(rule) {
            return self.say_and_tell(followed, release, "rolled-back", format!("{text}: no rollout is started; {retry}"));
        }
        if self.said.contains(&Said::of(rule, release, "rolled-back")) {
            return;
        }
        self.free.remove(&rule.name);
        match hold_still(rule, &self.parts).await {
            Ok(()) => {
                let text =
                    format!("{text}: it is paused, and no rollout is started; {retry}, `kubectl rollout resume` lets it go on without");
                self.say_and_tell(followed, release, "rolled-back", text);
            }
            Err(why) => {
                self.looked.remove(&rule.name);
                self.say_and_tell(
                    followed,
                    release,
                    "goes on",
                    format!("{text}, and goes on: it cannot be paused, which is tried again: {why}"),
                );
            }
        }
    }

    /// Nothing is new, and no rollout runs: what was stopped for one goes on, such as a release that was taken back.
    pub(super) async fn let_go(&mut self, rule: &Rule) {
        if !holds_releases(rule) || self.free.contains(&rule.name) {
            return;
        }
        let let_go = async { router_of(rule, &self.parts.news).await?.let_go().await.map_err(|e| e.to_string()) };
        match tokio::time::timeout(READ_MAX, let_go).await {
            Ok(Ok(())) => drop(self.free.insert(rule.name.clone())),
            // at the next look
            Ok(Err(why)) => events::ReleaseSeen { rule: &rule.name, about: "held", text: &why }.emit(),
            Err(_) => {}
        }
    }
}

/// Is a new template of this rule stopped as soon as it is seen?
fn holds_releases(rule: &Rule) -> bool {
    rule.traffic.leads_rolling_update() && rule.mode == Mode::Enforce && rule.start.on_new_template
}

/// What moves the traffic by itself is stopped.
async fn hold_still(rule: &Rule, parts: &Parts) -> Result<(), String> {
    let router = router_of(rule, &parts.news).await?;
    let held = async {
        let noted = parts.cluster.note(&rule.workloads, Side::Second).await?;
        router.hold_still(&noted).await.map_err(|e| e.to_string())
    };
    let held = tokio::time::timeout(READ_MAX, held).await;
    held.map_err(|_| format!("{}: no answer within {} s", router.name(), READ_MAX.as_secs()))?
}
