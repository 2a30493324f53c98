//! The rules in force: read again, and what follows for running rollouts, routers and watches.

use super::{RulesRefused, Supervisor};
use crate::cluster::Cluster;
use crate::config::RuleSet;
use crate::model::Rule;
use crate::runtime::handle::{Refusal, RuleView};
use crate::runtime::{changes, parts};
use crate::telemetry::events;
use std::sync::Arc;

impl Supervisor {
    pub(super) fn reload(&mut self) -> Result<(), Refusal> {
        match (self.setting.rules)(&self.rules) {
            Ok(rules) => {
                self.put_in_force(rules);
                self.registry.set_reload_problems(Vec::new());
                Ok(())
            }
            Err(RulesRefused { report, stays }) => {
                // a file that is wrong keeps no object out
                if stays != self.rules {
                    self.put_in_force(stays);
                }
                self.tell_refused(&report);
                Err(Refusal::new("rules", format!("the rules that files gave stay as they are:\n{report}")))
            }
        }
    }

    pub(super) fn put_in_force(&mut self, rules: RuleSet) {
        let views = self.registry.views();
        // rules that are objects come after the rollouts that a restart took up
        let running = |name: &str| self.running.get(name).map(|run| run.id.clone());
        let last = |name: &str| views.rules.get(name).and_then(|v| v.rollout.clone()).or_else(|| running(name));
        let view = |rule: &Arc<Rule>| RuleView {
            name: rule.name.clone(),
            file: rule.file.display().to_string(),
            digest: rule.digest.clone(),
            rollout: last(&rule.name),
            refused: rule.not_run.iter().map(|n| format!("{}: {}", n.path, n.why)).collect(),
            missing: views.rules.get(&rule.name).and_then(|v| v.missing.clone()),
            waiting: views.rules.get(&rule.name).and_then(|v| v.waiting.clone()),
        };
        self.registry.set_rules(rules.rules.values().map(|r| (r.name.clone(), Arc::new(view(r)))).collect());
        events::Reloaded { rules: rules.rules.len() }.emit(&self.metrics);
        for gone in self.rules.rules.keys().filter(|name| !rules.rules.contains_key(*name) && !self.running.contains_key(*name)) {
            events::RuleGone { rule: gone }.emit(&self.metrics);
        }
        self.move_limits(&rules);
        rules.rules.values().for_each(|rule| self.follow_workloads(rule));
        self.rules = rules;
        self.let_go();
        self.poke.notify_one();
        self.needs.notify_one();
    }

    /// What belonged to a rule that is gone, and whose rollout is over, is neither watched nor kept.
    pub(super) fn let_go(&mut self) {
        let (rules, running) = (&self.rules.rules, &self.running);
        self.routers.retain(|name, _| rules.contains_key(name) || running.contains_key(name));
        if let Some(cluster) = &self.cluster {
            let begun = running.values().map(|run| &run.rule);
            cluster.follow_only(rules.values().chain(begun).map(|rule| &rule.workloads));
        }
    }

    pub(super) fn follow_workloads(&self, rule: &Rule) {
        if let Some(cluster) = self.cluster.as_ref().filter(|_| Cluster::covers(&rule.workloads)) {
            cluster.follow(&rule.workloads);
        }
    }

    /// Running rollouts take moved limits from their rule's new text, and nothing else.
    fn move_limits(&mut self, rules: &RuleSet) {
        for run in self.running.values_mut() {
            // its name may have gone to a rule of another namespace
            let Some(new) = rules.rules.get(&run.rule.name).filter(|new| changes::is_at_home(&run.rule, new)) else { continue };
            let moved = changes::of(&run.rule, &parts::in_units(new, run.begin.noted.as_ref()));
            if !moved.is_empty() {
                run.rule = Arc::new(changes::with(&run.rule, &moved));
                run.live.change(moved);
            }
        }
    }
}
